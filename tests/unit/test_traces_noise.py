# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Noise that is drawn at reading: the numbers, and that they are independent standard normals."""

import math

import numpy as np
import pytest
from scipy import special, stats
from unit.reading_support import noise

from etalumis.traces.reading.noise import fill_normals


def drawn(rows, size, noise_seed=(1, 2), scale=None, first=0):
    target = np.full((rows, size), np.nan, np.float32)
    fill_normals(target, np.arange(first, first + rows), noise_seed, scale)
    return target


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 120, 1001, 24_500])
def test_the_noise_agrees_with_the_reference(size):
    found = drawn(3, size, (7, 2**62))
    expected = np.stack([noise((7, 2**62), seed, size) for seed in range(3)])
    # float32: r^2 is the logarithm of a number of 24 bits, so a small radius has steps of 2^-24 / r
    half = (size + 1) // 2
    words = [np.random.SFC64((7, 2**62, seed)).random_raw(half).view("<u4")[:half] for seed in range(3)]
    radius = np.sqrt(-2.0 * np.log((np.stack(words) + 0.5) / 2.0**32))
    radius = np.concatenate([radius, radius], 1)[:, :size]
    assert (np.abs(found - expected) <= 1e-6 * radius + np.minimum(2.0**-23 / radius, 2.0**-11)).all()


def test_a_row_depends_on_its_own_seeds_only():
    rows = drawn(6, 333)
    shuffled = np.empty((4, 333), np.float32)
    fill_normals(shuffled, np.array([5, 0, 3, 3]), (1, 2))
    np.testing.assert_array_equal(shuffled, rows[[5, 0, 3, 3]])
    for other in ((1, 3), (2, 2), (1, 2, 4), (1,)):
        assert (drawn(6, 333, other) == rows).mean() < 0.01


def test_the_scale_multiplies():
    scale = np.array([0.0, 0.3, 2.0], np.float32)
    np.testing.assert_allclose(drawn(3, 77, scale=scale), drawn(3, 77) * scale[:, None], rtol=3e-7)


def test_moments_and_quantiles_are_those_of_a_normal():
    z = drawn(200, 24_500).ravel().astype(np.float64)
    n = z.size
    for power, expected, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs((z**power).mean() - expected) < 4.5 * math.sqrt(variance / n)
    assert stats.kstest(z[::7], "norm").pvalue > 1e-4


def test_tails_are_those_of_a_normal():
    """Counts beyond 3, 3.5 ... 5 against erfc, with the spread of a Poisson count."""
    counts, bounds, total = np.zeros(5), np.array([3.0, 3.5, 4.0, 4.5, 5.0]), 0
    for start in range(0, 600, 100):
        z = np.abs(drawn(100, 49_000, first=start))
        counts += [(z > bound).sum() for bound in bounds]
        total += z.size
    expected = total * special.erfc(bounds / math.sqrt(2.0))
    assert expected[-1] > 10
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected) + 1).all()


def test_the_smallest_words_give_the_largest_radius_and_nothing_is_infinite(monkeypatch):
    class Constant:
        """Words that a generator gives once in 2^32."""

        def __init__(self, word):
            self.word = word

        def random_raw(self, size):
            return np.full(size, self.word, np.uint64)

    for word, largest in ((0, math.sqrt(66 * math.log(2))), (2**64 - 1, 0.0)):
        monkeypatch.setattr(np.random, "SFC64", lambda _, word=word: Constant(word))
        assert np.abs(drawn(1, 20)).max() == pytest.approx(largest, rel=1e-6, abs=1e-9)


def test_neighbouring_traces_epochs_and_places_are_independent():
    size = 24_500
    z = drawn(100, size).astype(np.float64)
    spread = 1.0 / math.sqrt(z.size)
    other_epoch, half = drawn(100, size, (1, 3)), size // 2
    pairs = {
        "next trace": z[1:] * z[:-1],
        "next epoch": z * other_epoch,
        "next place": z[:, 1:] * z[:, :-1],
        "both halves": z[:, :half] * z[:, half:],
        "squares of both halves": (z[:, :half] ** 2 - 1) * (z[:, half:] ** 2 - 1) / 2,
        "squares of the next trace": (z[1:] ** 2 - 1) * (z[:-1] ** 2 - 1) / 2,
    }
    for name, products in pairs.items():
        assert abs(products.mean()) < 4.5 * spread * math.sqrt(z.size / products.size), name
    # means of rows are normal with variance 1 / size: nothing is shared within a row
    assert stats.kstest(z.mean(1) * math.sqrt(size), "norm").pvalue > 1e-4
