# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Columns of a trace file that grow along their first axis, written chunk by chunk."""

from collections.abc import Mapping
from math import prod

import h5py
import numpy as np

from etalumis.traces.encoding import LEVEL, Encoder
from etalumis.traces.format import Checksum
from etalumis.traces.ragged import Ragged

CHUNK_BYTES = 1 << 14
"""Uncompressed bytes of a chunk. Chunks are small, since reading a single trace decompresses one chunk of each column.

Chunks of float32 are twice as large.
"""

Specifications = Mapping[str, tuple[str | np.dtype, tuple[int, ...]]]
"""By name of the column: type of an element and shape of a row."""


class Column:
    """A dataset that grows along its first axis and computes the checksum of its bytes.

    The bytes in the file depend on the rows alone, not on how they are appended.

    Parameters
    ----------
    group, name
        Where the dataset is created.
    dtype, row
        Type of an element and shape of a row.
    packs
        As in `Encoder`.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: str | np.dtype,
        row: tuple[int, ...] = (),
        packs: bool = False,
    ) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        self._encoder = Encoder(self._dtype, packs)
        # images have many means, which are not compressed: larger chunks cost a reader no more than a copy
        chunk_bytes = CHUNK_BYTES * (2 if self._dtype == np.float32 else 1)
        self._rows = max(1, chunk_bytes // (self._dtype.itemsize * max(1, prod(row))))
        self._dataset = group.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            chunks=(self._rows, *row),
            dtype=self._dtype,
            compression="gzip",
            compression_opts=LEVEL,
            shuffle=self._encoder.shuffles,
        )
        self._id = self._dataset.id
        self._zeros = (0,) * len(row)
        self._written = 0
        self._pending = np.empty((self._rows, *row), self._dtype)
        self._waiting = 0
        self._checksum = Checksum()

    def append(self, values: np.ndarray) -> None:
        """Append `values`; rows that do not fill a chunk are buffered."""
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
        content, skipped = self._encoder.encoded(rows)
        self._id.write_direct_chunk((self._written, *self._zeros), content, skipped)
        self._written += self._rows

    def close(self) -> None:
        """Write the buffered rows and the checksum."""
        if self._waiting:
            self._pending[self._waiting :] = 0
            self._extend(self._written + self._waiting)
            self._write(self._pending)
        self._dataset.attrs["checksum"] = self._checksum.hex()


class RaggedColumns:
    """Offset and content columns that grow together; the dataset `offset` starts with 0."""

    def __init__(self, group: h5py.Group, columns: Specifications) -> None:
        self._offset = Column(group, "offset", "<i8")
        self._offset.append(np.zeros(1, np.int64))
        self._end = 0
        self._columns = {name: Column(group, name, dtype, row) for name, (dtype, row) in columns.items()}

    def append(self, part: Ragged) -> None:
        """Append the lists of `part`."""
        self._offset.append(part.offset[1:] - part.offset[0] + self._end)
        self._end += int(part.offset[-1] - part.offset[0])
        for name, column in self._columns.items():
            column.append(part.columns[name])

    def close(self) -> None:
        """Write the buffered rows and the checksums."""
        for column in (self._offset, *self._columns.values()):
            column.close()
