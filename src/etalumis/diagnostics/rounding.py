# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Detect ties, constants and integers up to rounding error.

A quantity that the model computes (a sum, a ratio) may differ in its last digits between draws or engines. Every
comparison of values in this package treats such values as equal.
"""

from __future__ import annotations

import numpy as np

from etalumis.typing import FloatArray

RELATIVE_ROUNDING = 1e-12


def rounding_error(*samples: FloatArray | float) -> float:
    """Return the largest difference that counts as none: 1e-12 of the largest finite magnitude in the samples."""
    magnitudes = [np.abs(np.asarray(sample, dtype=float)) for sample in samples]
    return RELATIVE_ROUNDING * max(
        (float(size[np.isfinite(size)].max(initial=0.0)) for size in magnitudes), default=0.0
    )


def is_constant(values: FloatArray) -> bool:
    """Return whether all values are equal up to rounding; False for an empty array."""
    return bool(values.size and np.ptp(values) <= rounding_error(values))


def is_discrete(values: FloatArray) -> bool:
    """Return whether all values are whole numbers up to rounding, as booleans, counts and codes are."""
    return bool(values.size and (np.abs(values - np.rint(values)) <= rounding_error(values)).all())


def tie_break(values: FloatArray) -> FloatArray:
    """Return ranks from 1 in which ties are ordered at random, with a fixed seed; same shape as `values`.

    The ranks of a discrete quantity are then as flat as those of a continuous one.
    """
    flat = values.ravel()
    shuffled = np.random.default_rng(0).permutation(flat.size)
    order = shuffled[np.argsort(flat[shuffled], kind="stable")]
    ranks = np.empty(flat.size)
    ranks[order] = np.arange(1.0, flat.size + 1)
    return ranks.reshape(values.shape)
