# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Columns of a trace file that grow along their first axis, written chunk by chunk.

The chunks are those of HDF5's own filters, shuffle and deflate, so that every HDF5 reads them. They are made here,
since zlib-ng takes a third of zlib's time for a size within 8 %. (ISA-L, which reads them, is quicker still, but gives
other bytes for the same content in one call of ten thousands or so.)
"""

from collections.abc import Mapping
from math import prod

import h5py
import numpy as np
from zlib_ng import zlib_ng

from etalumis.traces.format import Checksum
from etalumis.traces.ragged import Ragged

CHUNK_BYTES = 1 << 14
"""Uncompressed bytes of a chunk: small, since a reader of one trace anywhere inflates one chunk of each column.

Those of float32 are twice as large.
"""

Specifications = Mapping[str, tuple[str | np.dtype, tuple[int, ...]]]
"""Type of an element and shape of a row of each column, by name."""

_LEVEL, _STORED = 1, 0
_WORTH = 7 / 8
"""A chunk that deflating leaves larger than this, and those behind it, are stored: their bits are noise."""
_STORED_RUN = 15
"""So many chunks are stored before deflating is tried again."""
_FIRST_FILTER = 1
"""Says of a chunk that the first filter was not applied to it."""


class Column:
    """A dataset that grows along its first axis and knows the checksum of its bytes.

    A chunk that does not shrink is stored in a deflate stream all the same, by whose checksum a reader of single chunks
    notices what was altered. Which ones depends on the rows alone, not on how they are appended.

    Parameters
    ----------
    group, name
        Where it is created.
    dtype, row
        Type of an element and shape of a row.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: str | np.dtype,
        row: tuple[int, ...] = (),
    ) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        # single bytes have nothing to shuffle, and the steps of an image deflate as well without
        self._shuffled = self._dtype.itemsize > 2
        # the means of images are many and not deflated: reading twice of them costs a reader a copy
        chunk_bytes = CHUNK_BYTES * (2 if self._dtype == np.float32 else 1)
        self._rows = max(1, chunk_bytes // (self._dtype.itemsize * max(1, prod(row))))
        self._dataset = group.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            chunks=(self._rows, *row),
            dtype=self._dtype,
            compression="gzip",
            compression_opts=_LEVEL,
            shuffle=self._shuffled,
        )
        self._id = self._dataset.id
        self._zeros = (0,) * len(row)
        self._stored = 0  # chunks to store before deflating is tried again
        self._written = 0
        self._pending = np.empty((self._rows, *row), self._dtype)
        self._waiting = 0
        self._checksum = Checksum()

    def append(self, values: np.ndarray) -> None:
        """Write `values` behind what is there; rows that do not fill a chunk wait for the next ones."""
        content = np.ascontiguousarray(values, self._dtype)
        self._checksum.update(content)
        total = self._waiting + len(content)
        if total >= self._rows:
            self._extend(self._written + total - total % self._rows)
        start = 0
        if self._waiting:
            start = min(self._rows - self._waiting, len(content))
            self._pending[self._waiting : self._waiting + start] = content[:start]
            self._waiting += start
            if self._waiting < self._rows:
                return
            self._write(self._pending)
        while start + self._rows <= len(content):
            self._write(content[start : start + self._rows])
            start += self._rows
        self._waiting = len(content) - start
        self._pending[: self._waiting] = content[start:]

    def _extend(self, rows: int) -> None:
        self._id.set_extent((rows, *self._row))  # `resize` of h5py takes longer than writing a chunk

    def _write(self, rows: np.ndarray) -> None:
        content, skipped = self._encoded(rows.reshape(-1).view(np.uint8))
        self._id.write_direct_chunk((self._written, *self._zeros), content, skipped)
        self._written += self._rows

    def _encoded(self, plain: np.ndarray) -> tuple[bytes, int]:
        """Return the bytes of a chunk as the file holds them, and the filters that were skipped."""
        if self._stored:
            self._stored -= 1
        else:
            size = self._dtype.itemsize
            shuffled = np.ascontiguousarray(plain.reshape(-1, size).T) if self._shuffled else plain
            deflated = zlib_ng.compress(shuffled.data, _LEVEL)
            if len(deflated) <= _WORTH * len(plain):
                return deflated, 0
            self._stored = _STORED_RUN
        return zlib_ng.compress(plain.data, _STORED), _FIRST_FILTER if self._shuffled else 0

    def close(self) -> None:
        """Write the rows that wait, and the checksum."""
        if self._waiting:
            self._pending[self._waiting :] = 0
            self._extend(self._written + self._waiting)
            self._write(self._pending)
        self._dataset.attrs["checksum"] = self._checksum.hex()


class RaggedColumns:
    """Offsets and content columns that grow together; the dataset `offset` begins with 0."""

    def __init__(self, group: h5py.Group, columns: Specifications) -> None:
        self._offset = Column(group, "offset", "<i8")
        self._offset.append(np.zeros(1, np.int64))
        self._end = 0
        self._columns = {name: Column(group, name, dtype, row) for name, (dtype, row) in columns.items()}

    def append(self, part: Ragged) -> None:
        """Write the lists of `part` behind those that are there."""
        self._offset.append(part.offset[1:] - part.offset[0] + self._end)
        self._end += int(part.offset[-1] - part.offset[0])
        for name, column in self._columns.items():
            column.append(part.columns[name])

    def close(self) -> None:
        """Write what waits, and the checksums."""
        for column in (self._offset, *self._columns.values()):
            column.close()
