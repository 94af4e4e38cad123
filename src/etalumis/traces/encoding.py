# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The bytes of chunks as a trace file holds them.

Their filters are HDF5's own, shuffle and deflate, so that every HDF5 reads them. They are made here, since zlib-ng
takes a third of zlib's time for a size within 8 %. (ISA-L, which reads them, is quicker still, but gives other bytes
for the same content in one call of ten thousands or so.)
"""

import numpy as np
from zlib_ng import zlib_ng

LEVEL = 1
_STORED = 0
_WORTH = 7 / 8
"""What a way leaves larger than this of a chunk is not worth its time."""
_RUN = 15
"""So many chunks follow one that hardly shrinks, the same way, before others are tried again."""
_MEMORY_LEVEL = 7
"""Codes for every 8,192 bytes, so that those of the n-th bytes of the elements do not mix."""
_FIRST_FILTER = 1
"""Says of a chunk that the first filter was not applied to it."""


class Encoder:
    """Encodes the chunks of one column, in their order, which alone decides how each is encoded.

    Deflate finds what repeats. What does not shrink is stored in a deflate stream all the same, by whose checksum a
    reader of single chunks notices what was altered.

    Parameters
    ----------
    dtype
        Of the column's elements.
    packs
        Whether what does not repeat is worth the time of Huffman codes of single bytes: floating-point numbers share
        their exponents, so noisy images shrink to 0.84, within a hundredth of the entropy of their bytes.

    Attributes
    ----------
    shuffles
        Whether the dataset needs the shuffle filter: the n-th bytes of all elements come together.
    """

    def __init__(self, dtype: np.dtype, packs: bool = False) -> None:
        self._size, self._packs = dtype.itemsize, packs
        # single bytes have nothing to shuffle, and the steps of an image deflate as well without
        self.shuffles = self._size > 2
        self._left = 0
        self._stores = False

    def encoded(self, rows: np.ndarray) -> tuple[bytes, int]:
        """Return the bytes of a chunk of contiguous rows, and a bit for each filter that was skipped."""
        plain = rows.reshape(-1).view(np.uint8)
        if self._left:
            self._left -= 1
            return self._store(plain) if self._stores else (_huffman(self._shuffled(plain)), 0)
        shuffled, most = self._shuffled(plain), _WORTH * len(plain)
        deflated = zlib_ng.compress(shuffled.data, LEVEL)
        if len(deflated) <= most:
            return deflated, 0
        self._left, self._stores = _RUN, True
        if self._packs:
            packed = _huffman(shuffled)
            self._stores = len(packed) > most
            if not self._stores:
                return packed, 0
        return self._store(plain)

    def _shuffled(self, plain: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(plain.reshape(-1, self._size).T) if self.shuffles else plain

    def _store(self, plain: np.ndarray) -> tuple[bytes, int]:
        return zlib_ng.compress(plain.data, _STORED), _FIRST_FILTER if self.shuffles else 0


def _huffman(content: np.ndarray) -> bytes:
    packing = zlib_ng.compressobj(
        LEVEL, zlib_ng.DEFLATED, zlib_ng.MAX_WBITS, _MEMORY_LEVEL, strategy=zlib_ng.Z_HUFFMAN_ONLY
    )
    return packing.compress(content.data) + packing.flush()
