# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Compression of the chunks of a trace file.

The filters are shuffle and deflate, which every HDF5 library has. They are applied here rather than by HDF5, since
zlib-ng takes a third of the time of zlib for a size within 8 %. (ISA-L, which decompresses them, is even faster, but
about one call in ten thousand gives different bytes for the same content.)
"""

import numpy as np
from zlib_ng import zlib_ng

LEVEL = 1
_UNCOMPRESSED_LEVEL = 0
MAX_COMPRESSED_FRACTION = 7 / 8
"""An encoding that does not shrink a chunk to this fraction of its size is not used."""
UNCOMPRESSED_RUN_CHUNKS = 15
"""Number of chunks that are stored uncompressed after one that hardly shrank, before compression is tried again."""
_MEMORY_LEVEL = 7
"""Huffman codes are built for every 8,192 bytes, so that the n-th bytes of the elements have codes of their own."""
_FIRST_FILTER = 1
"""Filter mask of a chunk to which the first filter was not applied."""


class Encoder:
    """Encodes the chunks of one column; how a chunk is encoded depends on the previous chunks only.

    Chunks that deflate does not shrink are stored in a deflate stream, too, since its checksum reveals alterations to a
    reader of single chunks.

    Parameters
    ----------
    dtype
        Type of the elements of the column.
    packs
        Whether to use Huffman codes of single bytes if deflate does not help. Floating-point numbers share their
        exponents, so noisy images shrink to 0.84 of their size, within 1 % of the entropy of their bytes.

    Attributes
    ----------
    shuffles
        Whether the dataset has the shuffle filter, which puts the n-th bytes of all elements next to each other.
    """

    def __init__(self, dtype: np.dtype, packs: bool = False) -> None:
        self._size, self._packs = dtype.itemsize, packs
        # single bytes cannot be shuffled, and the steps of an image compress as well without it
        self.shuffles = self._size > 2
        self._remaining = 0
        self._stores = False

    def encoded(self, rows: np.ndarray) -> tuple[bytes, int]:
        """Return the encoded bytes of a chunk of contiguous rows, and its filter mask."""
        plain = rows.reshape(-1).view(np.uint8)
        if self._remaining:
            self._remaining -= 1
            return self._store(plain) if self._stores else (_huffman(self._shuffled(plain)), 0)
        shuffled, max_bytes = self._shuffled(plain), MAX_COMPRESSED_FRACTION * len(plain)
        deflated = zlib_ng.compress(shuffled.data, LEVEL)
        if len(deflated) <= max_bytes:
            return deflated, 0
        self._remaining, self._stores = UNCOMPRESSED_RUN_CHUNKS, True
        if self._packs:
            packed = _huffman(shuffled)
            self._stores = len(packed) > max_bytes
            if not self._stores:
                return packed, 0
        return self._store(plain)

    def _shuffled(self, plain: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(plain.reshape(-1, self._size).T) if self.shuffles else plain

    def _store(self, plain: np.ndarray) -> tuple[bytes, int]:
        return zlib_ng.compress(plain.data, _UNCOMPRESSED_LEVEL), _FIRST_FILTER if self.shuffles else 0


def _huffman(content: np.ndarray) -> bytes:
    packing = zlib_ng.compressobj(
        LEVEL, zlib_ng.DEFLATED, zlib_ng.MAX_WBITS, _MEMORY_LEVEL, strategy=zlib_ng.Z_HUFFMAN_ONLY
    )
    return packing.compress(content.data) + packing.flush()
