# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reading and decoding of the chunks of a dataset.

Chunks with the shuffle and deflate filters of HDF5, or without filters, are read and decoded here. This takes a tenth
of the time of HDF5 for a small chunk and does not hold its lock, so threads decode in parallel. HDF5 reads other
chunks.
"""

import itertools
from collections.abc import Callable
from typing import cast

import h5py
import numpy as np
from isal import isal_zlib

from etalumis.errors import DatasetError, StorageError
from etalumis.refusals import storage_error
from etalumis.traces.format import Checksum
from etalumis.traces.reading.cache import ChunkCache
from etalumis.traces.reading.descriptor import Descriptor

_SHUFFLE, _DEFLATE = h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE
_PIECE_BYTES = 1 << 15
"""Number of bytes read at a time from a dataset without chunks."""
_numbers = itertools.count()
# the stubs declare an instance instead of the class
_InflateError = cast("type[Exception]", isal_zlib.error)


class StoredColumn:
    """A dataset of a trace file, read chunk by chunk.

    Parameters
    ----------
    descriptor
        The file.
    dataset
        The open dataset in it; no reference is kept.
    cache
        Cache of decoded chunks; if None, every call decodes.

    Attributes
    ----------
    name
        Path of the dataset in its file.
    rows, row_shape, dtype
        Length, shape of one row, type of an element (little-endian).
    checksum
        Checksum of its bytes, as stored.
    chunk_rows
        Number of rows of every chunk but the last, which may be shorter.
    chunks
        Number of chunks.
    """

    def __init__(self, descriptor: Descriptor, dataset: h5py.Dataset, cache: ChunkCache | None = None) -> None:
        self.name = str(dataset.name).lstrip("/")
        self.rows, self.row_shape = len(dataset), tuple(int(extent) for extent in dataset.shape[1:])
        self.dtype: np.dtype = dataset.dtype.newbyteorder("<")
        self.checksum = str(dataset.attrs.get("checksum"))
        self.cache = cache
        self._descriptor, self._number = descriptor, next(_numbers)
        self._row_items = int(np.prod(self.row_shape, dtype=np.int64))
        self._index = _Index.of(dataset) if dataset.dtype == self.dtype else None
        row_bytes = max(1, self._row_items * self.dtype.itemsize)
        self.chunk_rows = max(1, _PIECE_BYTES // row_bytes) if self._index is None else self._index.chunk_rows
        self.chunks = -(-self.rows // self.chunk_rows)

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes of the column."""
        return self.rows * self._row_items * self.dtype.itemsize

    @property
    def index_nbytes(self) -> int:
        """Bytes of the chunk index, which stays in memory."""
        return 0 if self._index is None else self._index.nbytes

    def chunk(self, number: int) -> np.ndarray:
        """Return chunk `number` as uint8 (row, item of the row, byte of the item), read-only.

        Raises
        ------
        OSError, ValueError
            If it cannot be read, or its bytes were altered. Compressed chunks have a checksum of their own. The
            checksum of the column is checked here if the column has a single chunk.
        """
        key = (self._number, number)
        held = None if self.cache is None else self.cache.get(key)
        if held is not None:
            return held
        shape = (min(self.chunk_rows, self.rows - number * self.chunk_rows), self._row_items, self.dtype.itemsize)
        if self._index is None:
            chunk = self._sliced(number, shape)
        else:
            chunk = self._index.chunk(self._descriptor, number, shape)
        if self.chunks == 1:
            self._compare(chunk)
        if self.cache is not None:
            self.cache.put(key, chunk)
        return chunk

    def _sliced(self, number: int, shape: tuple[int, int, int]) -> np.ndarray:
        """Read a chunk with another layout or filters through HDF5."""
        start = number * self.chunk_rows
        with h5py.File(self._descriptor.path, "r") as file:
            content = np.ascontiguousarray(file[self.name][start : start + shape[0]], self.dtype)
        return content.reshape(-1).view(np.uint8).reshape(shape)

    def _compare(self, chunk: np.ndarray) -> None:
        checksum = Checksum()
        checksum.update(np.ascontiguousarray(chunk))
        if checksum.hex() != self.checksum:
            raise AlteredColumn(self.checksum, checksum.hex())

    def damaged(
        self, number: int, trace_of: Callable[[int], int | None], error: Exception
    ) -> DatasetError | StorageError:
        """Return the exception for an `error` raised by `chunk`.

        Parameters
        ----------
        number
            Number of the chunk.
        trace_of
            Returns the trace that a row of this column belongs to, or None.
        error
            The exception raised by `chunk`.
        """
        path = self._descriptor.path
        refused = storage_error(path, "read", error)
        if refused is not None:
            return refused
        if isinstance(error, DatasetError):
            return error
        if isinstance(error, AlteredColumn):
            return DatasetError(f"{path}: column {self.name!r} {error}; delete the file and generate it again")
        trace = trace_of(number * self.chunk_rows)
        where = "" if trace is None else f", from trace {trace} on,"
        return DatasetError(
            f"{path}: column {self.name!r}{where} cannot be read: it is truncated or altered ({error}); "
            "delete the file and create it again"
        )


class AlteredColumn(ValueError):
    """The bytes of a column do not match its checksum."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"was altered: expected checksum {expected}, found {found}")


class _Index:
    """Position, size and filter mask of every chunk.

    `skipped` has a bit for every filter that was not applied to a chunk; it is empty if all were applied to all chunks.
    The last chunk is stored in full even if the dataset ends inside it, but the pieces in which a dataset without
    chunks is read (`whole` False) are not.
    """

    def __init__(
        self,
        chunk_rows: int,
        places: np.ndarray,
        sizes: np.ndarray,
        filters: tuple[int, ...],
        skipped: np.ndarray,
        whole: bool,
    ) -> None:
        self.chunk_rows, self._places, self._sizes = chunk_rows, places, sizes
        self._filters, self._whole = filters, whole
        self._skipped = skipped if skipped.any() else np.empty(0, np.uint8)

    @property
    def nbytes(self) -> int:
        return self._places.nbytes + self._sizes.nbytes + self._skipped.nbytes

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> "_Index | None":
        """Return the index of a dataset; None if only HDF5 can read it."""
        if dataset.file.userblock_size or not len(dataset):
            return None
        return cls._of_contiguous(dataset) if dataset.chunks is None else cls._of_chunked(dataset)

    @classmethod
    def _of_contiguous(cls, dataset: h5py.Dataset) -> "_Index | None":
        place = dataset.id.get_offset()
        if place is None or dataset.external:
            return None
        row_bytes = dataset.nbytes // len(dataset)
        rows = max(1, _PIECE_BYTES // max(1, row_bytes))
        starts = np.arange(0, len(dataset), rows)
        sizes = np.minimum(rows, len(dataset) - starts) * row_bytes
        return cls(rows, place + starts * row_bytes, sizes, (), np.empty(0, np.uint8), whole=False)

    @classmethod
    def _of_chunked(cls, dataset: h5py.Dataset) -> "_Index | None":
        create = dataset.id.get_create_plist()
        filters = tuple(create.get_filter(i)[0] for i in range(create.get_nfilters()))
        if filters not in ((), (_SHUFFLE,), (_DEFLATE,), (_SHUFFLE, _DEFLATE)):
            return None
        rows = int(dataset.chunks[0])
        stored: list[tuple[int, int, int, int]] = []
        dataset.id.chunk_iter(
            lambda s: stored.append((s.chunk_offset[0] // rows, s.byte_offset, s.size, s.filter_mask))
        )
        table = np.array(sorted(stored), np.int64).reshape(-1, 4)
        # chunks that were never written read as zeros, and chunks may divide rows; etalumis writes neither
        expected = np.arange(-(-len(dataset) // rows))
        if tuple(dataset.chunks[1:]) != dataset.shape[1:] or not np.array_equal(table[:, 0], expected):
            return None
        sizes, skipped = table[:, 2].astype(np.uint32), table[:, 3].astype(np.uint8)
        return cls(rows, table[:, 1].copy(), sizes, filters, skipped, whole=True)

    def chunk(self, descriptor: Descriptor, number: int, shape: tuple[int, int, int]) -> np.ndarray:
        """Return a decoded chunk of the given shape (row, item, byte)."""
        content = descriptor.read(int(self._sizes[number]), int(self._places[number]))
        mask = int(self._skipped[number]) if len(self._skipped) else 0
        applied = {name for i, name in enumerate(self._filters) if not mask >> i & 1}
        rows, items, size = shape
        stored = self.chunk_rows if self._whole else rows
        if _DEFLATE in applied:
            try:
                content = isal_zlib.decompress(content, 15, stored * items * size)
            except _InflateError as error:
                raise ValueError(str(error)) from error
        if len(content) != stored * items * size:
            raise ValueError(f"expected {stored * items * size} bytes in chunk {number}, found {len(content)}")
        plain = np.frombuffer(content, np.uint8)
        if _SHUFFLE in applied and size > 1:
            plain = plain.reshape(size, -1).T
        return plain.reshape(stored, items, size)[:rows]
