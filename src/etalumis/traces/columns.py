# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Columns of a trace file that grow along their first axis, written chunk by chunk.

The chunks are those of HDF5's own filters, shuffle and deflate, so that every HDF5 reads them. They are made here,
since zlib-ng takes a third of zlib's time for a size within 8 %. (ISA-L, which reads them, is quicker still, but gives
other bytes for the same content in one call of ten thousands or so.)
"""

from collections.abc import Collection, Mapping
from math import prod

import h5py
import numpy as np
from zlib_ng import zlib_ng

from etalumis.traces.format import Checksum
from etalumis.traces.ragged import Ragged

CHUNK_BYTES = 1 << 14
"""Uncompressed bytes of a chunk: small, since a reader of one trace anywhere inflates one chunk of each column."""

Specifications = Mapping[str, tuple[str | np.dtype, tuple[int, ...]]]
"""Type of an element and shape of a row of each column, by name."""

_LEVEL, _STORED = 1, 0


class Column:
    """A dataset that grows along its first axis and knows the checksum of its bytes.

    Parameters
    ----------
    group, name
        Where it is created.
    dtype, row
        Type of an element and shape of a row.
    shrinks
        Whether deflating is worth its time; what does not shrink is stored in a deflate stream all the same, by whose
        checksum a reader of single chunks notices what was altered.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: str | np.dtype,
        row: tuple[int, ...] = (),
        shrinks: bool = True,
    ) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        self._rows = max(1, CHUNK_BYTES // (self._dtype.itemsize * max(1, prod(row))))
        self._dataset = group.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            chunks=(self._rows, *row),
            dtype=self._dtype,
            compression="gzip",
            compression_opts=_LEVEL if shrinks else _STORED,
            shuffle=shrinks,
        )
        self._shrinks = shrinks
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
            self._dataset.resize(self._written + total - total % self._rows, axis=0)
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

    def _write(self, rows: np.ndarray) -> None:
        place = (self._written, *(0 for _ in self._row))
        self._dataset.id.write_direct_chunk(place, _deflated(rows) if self._shrinks else _stored(rows))
        self._written += self._rows

    def close(self) -> None:
        """Write the rows that wait, and the checksum."""
        if self._waiting:
            self._pending[self._waiting :] = 0
            self._dataset.resize(self._written + self._waiting, axis=0)
            self._write(self._pending)
        self._dataset.attrs["checksum"] = self._checksum.hex()


def _deflated(rows: np.ndarray) -> bytes:
    size = rows.dtype.itemsize
    plain = rows.reshape(-1).view(np.uint8)
    shuffled = plain if size == 1 else np.ascontiguousarray(plain.reshape(-1, size).T)
    return zlib_ng.compress(shuffled.data, _LEVEL)


def _stored(rows: np.ndarray) -> bytes:
    return zlib_ng.compress(rows.reshape(-1).view(np.uint8).data, _STORED)


class RaggedColumns:
    """Offsets and content columns that grow together; the dataset `offset` begins with 0.

    Columns named in `stored` do not shrink.
    """

    def __init__(self, group: h5py.Group, columns: Specifications, stored: Collection[str] = ()) -> None:
        self._offset = Column(group, "offset", "<i8")
        self._offset.append(np.zeros(1, np.int64))
        self._end = 0
        self._columns = {
            name: Column(group, name, dtype, row, name not in stored) for name, (dtype, row) in columns.items()
        }

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
