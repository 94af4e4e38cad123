# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Rows and ranges of rows of a column across its files.

A call decodes every chunk at most once, in whatever order rows are requested.
"""

from collections.abc import Callable, Sequence

import numpy as np

from etalumis.traces.ragged import offsets
from etalumis.traces.reading.chunks import StoredColumn

TraceOf = Callable[[int, str, int], int | None]
"""Returns the trace of a row, given the file number, the name of the column and the row."""

MIN_ROWS_BY_BYTE = 256
"""From this number of rows on, unshuffling byte by byte is faster than row by row."""
MAX_ITEMSIZE_BY_BYTE = 4


class RowGatherer:
    """One column of several files, with rows addressed by file number and row.

    Parameters
    ----------
    parts
        The column in each file, with the same type and shape of rows.
    trace_of
        Finds the trace for error messages.

    Raises
    ------
    DatasetError
        In all methods, if a chunk cannot be read or was altered; names file, column and trace.
    """

    def __init__(self, parts: Sequence[StoredColumn], trace_of: TraceOf) -> None:
        self._parts, self._trace_of = parts, trace_of
        self._chunk_rows = np.array([part.chunk_rows for part in parts], np.int64)
        self._rows = np.array([part.rows for part in parts], np.int64)

    def rows(self, file: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Return rows (n, *row shape): row `row[i]` of file `file[i]` for every i."""
        self._require_inside(file, row, row + 1)
        content, target = self._empty(len(row))
        chunk_rows = self._chunk_rows[file]
        chunk = row // chunk_rows
        inside = row - chunk * chunk_rows
        order = np.lexsort((chunk, file)) if len(self._parts) > 1 else np.argsort(chunk, kind="stable")
        file, chunk = file[order], chunk[order]
        new = np.flatnonzero((np.diff(file, prepend=-1) != 0) | (np.diff(chunk, prepend=-1) != 0))
        for begin, end in zip(new.tolist(), [*new[1:].tolist(), len(order)], strict=False):
            places = order[begin:end]
            target[places] = self._chunk(int(file[begin]), int(chunk[begin]))[inside[places]]
        return content

    def ranges(self, file: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Return the concatenated rows `start[i]:stop[i]` of file `file[i]` for every i."""
        self._require_inside(file, start, stop)
        content, target = self._empty(int((stop - start).sum()))
        file, start, stop = _joined(file, start, stop)
        place = offsets(stop - start)[:-1]
        chunk_rows = self._chunk_rows[file]
        first = start // chunk_rows
        pieces = (stop - 1) // chunk_rows - first + 1
        run = np.repeat(np.arange(len(file)), pieces)
        chunk = first[run] + np.arange(len(run)) - offsets(pieces)[:-1][run]
        low = np.maximum(start[run], chunk * chunk_rows[run])
        high = np.minimum(stop[run], (chunk + 1) * chunk_rows[run])
        place = place[run] + low - start[run]
        table = np.stack([file[run], chunk, low - chunk * chunk_rows[run], high - chunk * chunk_rows[run], place], 1)
        held, held_key = np.empty(0), (-1, -1)
        for number, of_chunk, a, b, to in sorted(table.tolist()):
            if held_key != (number, of_chunk):
                held, held_key = self._chunk(number, of_chunk), (number, of_chunk)
            _copy(target[to : to + b - a], held[a:b])
        return content

    def _empty(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Allocate an array for rows of this column; return it and its bytes in the form of `StoredColumn.chunk`."""
        part = self._parts[0]
        content = np.empty((rows, *part.row_shape), part.dtype)
        items = int(np.prod(part.row_shape, dtype=np.int64))
        return content, content.reshape(-1).view(np.uint8).reshape(rows, items, part.dtype.itemsize)

    def _require_inside(self, file: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
        wrong = np.flatnonzero((start < 0) | (stop < start) | (stop > self._rows[file]))
        if len(wrong):
            i = wrong[0]
            part = self._parts[file[i]]
            error = ValueError(f"rows {start[i]} to {stop[i]} were requested, but it has {part.rows}")
            raise part.damaged(0, lambda _: None, error)

    def _chunk(self, file: int, number: int) -> np.ndarray:
        part = self._parts[file]
        try:
            return part.chunk(number)
        except (OSError, ValueError) as error:
            raise part.damaged(number, lambda row: self._trace_of(file, part.name, row), error) from error


def _joined(file: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop empty ranges, and merge adjacent ones."""
    some = stop > start
    file, start, stop = file[some], start[some], stop[some]
    new = np.ones(len(file), bool)
    new[1:] = (file[1:] != file[:-1]) | (start[1:] != stop[:-1])
    last = np.ones(len(file), bool)
    last[:-1] = new[1:]
    return file[new], start[new], stop[last]


def _copy(target: np.ndarray, source: np.ndarray) -> None:
    if len(source) >= MIN_ROWS_BY_BYTE and 1 < source.shape[2] <= MAX_ITEMSIZE_BY_BYTE and source.strides[2] != 1:
        for plane in range(source.shape[2]):
            target[:, :, plane] = source[:, :, plane]
    else:
        target[...] = source
