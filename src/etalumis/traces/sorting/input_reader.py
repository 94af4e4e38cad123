# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Windows of the input files, with ids of one dictionary, and checked while they are read."""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.format import Checksum, reading
from etalumis.traces.reading.shard import Shard
from etalumis.traces.segments import Segment
from etalumis.traces.sorting.inputs import Portion, SortInputs

WINDOW_BYTES = 1 << 24
"""Uncompressed bytes read at a time."""
_OPEN_FILES = 64


class AlteredInput(DatasetError):
    """An input does not match its checksums, which was found after some of its traces were used."""


class InputReader:
    """Reads windows of the inputs into segments, and checks the checksums of files that are read completely in order.

    Attributes
    ----------
    checked
        Numbers of the files whose columns have been read completely by `fill` and match their checksums.
    """

    def __init__(self, inputs: SortInputs) -> None:
        self.inputs, self.schema = inputs, inputs.schema
        self.checked: set[int] = set()
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._stream: _Stream | None = None

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def shard(self, file: int) -> Shard:
        """Return an open input file."""
        if file not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[file] = Shard(self.inputs.files[file].path, self.inputs.dictionary)
        self._open.move_to_end(file)
        return self._open[file]

    def rows(self, portion: Portion) -> dict[str, int]:
        """Return the number of rows of the traces of a portion in each group of lists.

        Raises
        ------
        DatasetError
            If the offsets do not match their columns.
        """
        found = {}
        for name, lists in self.schema.lists.items():
            found[name] = 0
            if lists.offset in self.inputs.files[portion.file].columns:
                first, last = self._ends(portion, lists.offset)
                self._require_inside(portion.file, lists.offset, next(iter(lists.columns)), first, last)
                found[name] = last - first
        return found

    def nbytes(self, portion: Portion) -> int:
        """Return the bytes of a segment that holds a portion."""
        return self.schema.nbytes(len(portion), self.rows(portion))

    def _ends(self, portion: Portion, offset: str) -> tuple[int, int]:
        shard = self.shard(portion.file)
        first, last = (shard.slice(offset, row, row + 1) for row in (portion.start, portion.stop))
        with reading(shard.path, offset):
            return int(first[0]), int(last[0])

    def _require_inside(self, file: int, offset: str, column: str, first: int, last: int) -> None:
        shard = self.shard(file)
        if not 0 <= first <= last <= shard.rows(column):
            raise DatasetError(
                f"{shard.path}: column {offset!r} was altered: it points to rows {first} to {last} of {column!r}, "
                f"which has {shard.rows(column)}; delete the file and generate it again"
            )

    def fill(self, segment: Segment, portion: Portion) -> None:
        """Read a portion into a segment of matching size, in windows of bounded memory.

        Raises
        ------
        AlteredInput
            If it cannot be read, or completes a file that does not match its checksums.
        """
        place, first = 0, dict.fromkeys(self.schema.lists, 0)
        try:
            for window in self.windows(portion, WINDOW_BYTES):
                last = {name: first[name] + rows for name, rows in self.rows(window).items()}
                self._fill_window(segment.part(place, place + len(window), first, last), window)
                place, first = place + len(window), last
        except DatasetError as error:
            raise AlteredInput(str(error)) from error

    def windows(self, portion: Portion, max_bytes: int) -> Iterator[Portion]:
        """Yield a portion in pieces of at most about `max_bytes`, and at least one trace."""
        whole = max(1, self.nbytes(portion))
        start, size = portion.start, max(1, len(portion) * max_bytes // whole)
        while start < portion.stop:
            window = Portion(portion.file, start, min(portion.stop, start + size))
            # in a sorted file, traces of a type are adjacent, and may be larger than the average
            while len(window) > 1 and self.nbytes(window) > max_bytes:
                window = Portion(portion.file, start, start + len(window) // 2)
            yield window
            start = window.stop

    def _fill_window(self, segment: Segment, window: Portion) -> None:
        shard, columns = self.shard(window.file), self.inputs.files[window.file].columns
        stream = self._streaming(window)
        for name, lists in self.schema.lists.items():
            if lists.offset not in columns:
                segment.lengths[name][:] = 0
                continue
            offset = shard.slice(lists.offset, window.start, window.stop + 1)
            stream.update(lists.offset, offset if window.start == 0 else offset[1:])
            with reading(shard.path, lists.offset):
                segment.lengths[name][:] = np.diff(offset)
            for path in lists.columns:
                self._read(segment, shard, stream, path, int(offset[0]), int(offset[-1]))
        for path in self.schema.flat:
            if path in columns:
                self._read(segment, shard, stream, path, window.start, window.stop)
            else:
                segment.columns[path][:] = np.nan  # a tag that this file does not have
        if window.stop == len(shard):
            stream.finish()
            if stream.whole:
                self.checked.add(window.file)

    def _read(self, segment: Segment, shard: Shard, stream: "_Stream", path: str, start: int, stop: int) -> None:
        content = shard.slice(path, start, stop)
        stream.update(path, content)
        group, _, name = path.partition("/")
        with reading(shard.path, path):
            if group in ("entries", "rejected") and name in ("address", "distribution"):
                content = _translated(self.inputs.files[stream.file].numbers[name], content)
            segment.columns[path][:] = content

    def _streaming(self, window: Portion) -> "_Stream":
        """Return the running checksums of the file, reset if the window does not follow the previous one."""
        stream = self._stream
        if stream is None or stream.file != window.file or stream.next != window.start:
            stream = _Stream(self.inputs.files[window.file].path, window.file, window.start)
        stream.next = window.stop
        self._stream = stream
        return stream


class _Stream:
    """Running checksums of the columns of one file."""

    def __init__(self, path: Path, file: int, start: int) -> None:
        self.file, self.next, self.whole = file, start, start == 0
        self._path = path
        self._checksums: dict[str, Checksum] = {}

    def update(self, column: str, content: np.ndarray) -> None:
        if self.whole:
            self._checksums.setdefault(column, Checksum()).update(content)

    def finish(self) -> None:
        """Compare with the checksums in the file, whose header was checked when it was opened."""
        if not self.whole:
            return
        with reading(self._path), h5py.File(self._path, "r") as file:
            expected = {column: str(file[column].attrs["checksum"]) for column in self._checksums}
        for column, checksum in self._checksums.items():
            if checksum.hex() != expected[column]:
                raise DatasetError(
                    f"{self._path}: column {column!r} was altered: expected checksum {expected[column]}, found "
                    f"{checksum.hex()}; delete the file and generate it again"
                )


def _translated(numbers: np.ndarray, ids: np.ndarray) -> np.ndarray:
    if len(ids) and int(ids.max()) >= len(numbers):
        raise ValueError(f"it refers to id {int(ids.max())}, but the dictionary has {len(numbers)} entries")
    return numbers[ids] if len(numbers) else ids
