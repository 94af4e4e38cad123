# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How columns come into a file: which chunks are deflated, and sparse images as steps from element to element."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalumis.traces.block import Expected
from etalumis.traces.columns import CHUNK_BYTES, Column
from etalumis.traces.ragged import offsets

CHUNKS = 40
RNG_SEED = 4


def written(path, pieces, dtype, packs=False):
    """Write a column in pieces; return its content as HDF5 reads it, and (size, skipped filters) of its chunks."""
    with h5py.File(path, "w") as file:
        column = Column(file, "x", dtype, packs=packs)
        for piece in pieces:
            column.append(piece)
        column.close()
    with h5py.File(path) as file:
        chunks = []
        file["x"].id.chunk_iter(lambda s: chunks.append((s.chunk_offset[0], s.size, s.filter_mask)))
        return file["x"][()], [chunk[1:] for chunk in sorted(chunks)], path.read_bytes()


@pytest.mark.parametrize("size", [8, 4, 2, 1])
def test_incompressible_chunks_are_stored(tmp_path, size):
    """First noise, then zeros, then noise: stored until deflating is tried again, 15 chunks later."""
    rng = np.random.default_rng(RNG_SEED)
    noise = rng.integers(0, 256, CHUNKS * CHUNK_BYTES, np.uint8)
    noise[5 * CHUNK_BYTES : 25 * CHUNK_BYTES] = 0
    content = noise.view(f"<u{size}")
    found, chunks, _ = written(tmp_path / "t.h5", [content], f"<u{size}")
    np.testing.assert_array_equal(found, content)
    stored = [chunk_size > CHUNK_BYTES for chunk_size, _ in chunks]
    # the first 5 and the 11 behind them in the run, then zeros from 16 to 24, then noise again
    assert stored == [True] * 16 + [False] * 9 + [True] * 15
    assert [bool(skipped) for _, skipped in chunks] == [is_stored and size > 2 for is_stored in stored]


def test_noise_of_similar_magnitude_is_huffman_coded(tmp_path):
    """Nothing repeats, but exponents do: within a hundredth of the entropy of the bytes, plane by plane."""
    noise = np.random.default_rng(RNG_SEED).normal(0.0, 0.3, 40 * 8192).astype(np.float32)
    found, chunks, _ = written(tmp_path / "t.h5", [noise], "<f4", packs=True)
    np.testing.assert_array_equal(found, noise)
    assert not any(skipped for _, skipped in chunks)
    share = sum(size for size, _ in chunks) / noise.nbytes
    planes = noise.view(np.uint8).reshape(len(noise), -1).T
    shares = [np.bincount(plane, minlength=256) / len(noise) for plane in planes]
    entropy = np.mean([-np.sum(p[p > 0] * np.log2(p[p > 0])) / 8 for p in shares])
    assert entropy < share < 1.01 * entropy


def test_random_bits_are_not_huffman_coded(tmp_path):
    noise = np.random.default_rng(RNG_SEED).integers(0, 2**32, 40 * 4096, np.uint32)
    found, chunks, _ = written(tmp_path / "t.h5", [noise], "<u4", packs=True)
    np.testing.assert_array_equal(found, noise)
    assert all(skipped and size > CHUNK_BYTES for size, skipped in chunks)


@pytest.mark.parametrize("packs", [False, True])
def test_the_bytes_do_not_depend_on_how_rows_are_appended(tmp_path, packs):
    rng = np.random.default_rng(RNG_SEED)
    content = np.where(np.arange(60_000) % 9_000 < 6_000, rng.random(60_000), 1.0)
    whole = written(tmp_path / "a.h5", [content], "<f8", packs)
    cuts = np.sort(rng.integers(0, len(content), 200))
    parts = written(tmp_path / "b.h5", np.split(content, cuts), "<f8", packs)
    assert len({skipped for _, skipped in whole[1]}) == 2
    assert whole[1:] == parts[1:]


@given(
    st.lists(st.lists(st.integers(0, 2**16 - 1), max_size=6), max_size=8),
    st.sampled_from([np.uint16, np.uint32]),
)
def test_steps_and_indices_are_equivalent(images, dtype):
    """In whatever order the elements of an image come; a slow reference sums up each trace's steps by itself."""
    lengths = np.array([len(image) for image in images], np.int64)
    index = np.array([i for image in images for i in image], dtype)
    kept = index.copy()
    found = Expected.of_index(offsets(lengths), index, np.zeros(len(index), np.float32), np.ones(len(images)))
    np.testing.assert_array_equal(index, kept)
    np.testing.assert_array_equal(found.index, index)
    assert found.index.dtype == dtype
    steps, modulus = found.image.columns["step"].tolist(), int(np.iinfo(dtype).max) + 1
    for image, start in zip(images, found.image.offset[:-1].tolist(), strict=True):
        sums = [sum(steps[start : start + k + 1]) % modulus for k in range(len(image))]
        assert sums == image
    for i in range(len(images)):  # any image by itself, too
        part = Expected(found.image.take(np.array([i])), found.stddev[i : i + 1])
        assert part.index.tolist() == images[i]
