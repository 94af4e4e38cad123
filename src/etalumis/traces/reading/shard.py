# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Read one trace file: header, traces as blocks, checksums."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from etalumis.errors import DatasetError
from etalumis.names import from_link_name
from etalumis.traces.block import Block, Layout, TagColumn, TagLayout
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import (
    ENTRY_DTYPES,
    FORMAT,
    REJECTED_DTYPES,
    TRACE_DTYPES,
    VERSION,
    Checksum,
    Provenance,
    contents_of,
    file_checksum,
    reading,
    tag_path,
)
from etalumis.traces.ragged import Ragged
from etalumis.traces.reading.cache import ChunkCache
from etalumis.traces.reading.chunks import StoredColumn
from etalumis.traces.reading.descriptor import Descriptor
from etalumis.traces.reading.gather import RowGatherer
from etalumis.traces.reading.selection import RowSelection, Selection, Window, stored_observation

SLAB_BYTES = 1 << 24
MAX_SMALL_BYTES = 24
"""Columns of at most so many bytes per trace have a cache of their own."""


class Shard:
    """An open trace file whose header has been checked.

    The ids of addresses and distributions in its blocks refer to `dictionary`. Blocks of shards with the same
    dictionary can be concatenated.

    Raises
    ------
    DatasetError
        If the file is missing, truncated, not a trace file, of another version, or its header was altered.
    """

    def __init__(self, path: Path, dictionary: Dictionary | None = None) -> None:
        self.path = Path(path)
        with reading(self.path):
            self._descriptor = Descriptor(self.path)
            with h5py.File(self.path, "r") as file:
                contents = self._check_header(file)
                self.provenance = Provenance.from_attributes(self.path, file.attrs)
                self.count = int(file.attrs["traces"])
                self.checksum = str(file.attrs["checksum"])
                self.layouts = tuple(
                    _layout(from_link_name(link), group) for link, group in file["observations"].items()
                )
                self.tag_layouts = {from_link_name(link): _tag_layout(item) for link, item in file["tags"].items()}
                datasets = [item for _, item in contents if isinstance(item, h5py.Dataset)]
                columns = [StoredColumn(self._descriptor, dataset) for dataset in datasets]
                self._columns = {column.name: column for column in columns}
        self._adopt(dictionary if dictionary is not None else Dictionary())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of traces."""
        return self.count

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._descriptor.close()

    def _check_header(self, file: h5py.File) -> list[tuple[str, h5py.Dataset | h5py.Group]]:
        """Check format, version and checksum of the header; return what is in the file."""
        attributes = file.attrs
        found = attributes.get("format")
        if found != FORMAT:
            raise DatasetError(f"{self.path}: not a trace file: expected format {FORMAT!r}, found {found!r}")
        version = int(attributes["version"])
        if version != VERSION:
            what = "newer: update etalumis" if version > VERSION else "older: generate the traces again"
            raise DatasetError(
                f"{self.path}: format version {version}, but this program reads version {VERSION}; the file is {what}"
            )
        contents = contents_of(file)
        expected, computed = attributes["checksum"], file_checksum(file, contents)
        if expected != computed:
            raise DatasetError(
                f"{self.path}: its header was altered: expected checksum {expected}, found {computed}; "
                "delete the file and generate it again"
            )
        return contents

    @property
    def columns(self) -> tuple[str, ...]:
        """Paths of all datasets."""
        return tuple(self._columns)

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes of all datasets."""
        return sum(column.nbytes for column in self._columns.values())

    @property
    def index_nbytes(self) -> int:
        """Bytes that an open shard keeps in memory: the chunk indices and the tables of ids."""
        kept = sum(column.index_nbytes for column in self._columns.values())
        return kept + self.address_numbers.nbytes + self.distribution_numbers.nbytes

    @property
    def entries(self) -> int:
        """Total number of entries."""
        return self.rows("entries/value")

    def column(self, name: str) -> StoredColumn:
        """Return a dataset that is read by chunks."""
        with reading(self.path, name):
            return self._columns[name]

    def use_caches(self, small: ChunkCache, large: ChunkCache) -> None:
        """Use caches for decoded chunks, which several shards may share.

        Columns of few bytes per trace have a separate cache: their chunks contain hundreds of traces, so that random
        access reuses them. Chunks of images contain about ten traces, and would evict the others.
        """
        for column in self._columns.values():
            column.cache = small if column.nbytes <= MAX_SMALL_BYTES * self.count else large

    def rows(self, name: str) -> int:
        """Return the length of a dataset."""
        return self.column(name).rows

    def whole(self, name: str) -> np.ndarray:
        """Return a whole dataset, and check its checksum."""
        content = self._range(name, 0, self.rows(name))
        self._compare(name, [content])
        return content

    def slice(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows `start:stop` of a dataset; its checksum is checked only if these are all rows."""
        if start == 0 and stop == self.rows(name):
            return self.whole(name)
        return self._range(name, start, stop)

    def _range(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._gatherer(name).ranges(np.zeros(1, np.int64), np.array([start]), np.array([stop]))

    def _gatherer(self, name: str) -> RowGatherer:
        return RowGatherer([self.column(name)], lambda _, column, row: self.trace_of(column, row))

    def trace_of(self, name: str, row: int) -> int | None:
        """Return the trace that a row of a dataset belongs to, or None."""
        group, _, column = name.rpartition("/")
        if group.partition("/")[0] in ("addresses", "names", "distributions"):
            return None
        offset = "traces/offset" if group == "entries" else f"{group}/offset"
        if column == "offset" or group == "traces" or self._columns[name].rows == self.count:
            return min(row, self.count - 1)
        try:
            return int(np.searchsorted(self.whole(offset), row, side="right")) - 1
        except DatasetError:  # the offsets are also damaged
            return None

    def check_content(self) -> None:
        """Check the checksums of all datasets, in bounded memory.

        Raises
        ------
        DatasetError
            If a column is truncated or altered; names the file and the first such column.
        """
        for name in self.columns:
            self._compare(name, self._slabs(name))

    def _slabs(self, name: str) -> Iterator[np.ndarray]:
        column = self.column(name)
        chunks = max(1, SLAB_BYTES * max(1, column.rows) // max(1, column.nbytes) // column.chunk_rows)
        for start in range(0, column.rows, chunks * column.chunk_rows):
            yield self._range(name, start, min(start + chunks * column.chunk_rows, column.rows))

    def _compare(self, name: str, slabs: Iterator[np.ndarray] | list[np.ndarray]) -> None:
        checksum = Checksum()
        for slab in slabs:
            checksum.update(slab)
        expected = self.column(name).checksum
        if checksum.hex() != expected:
            raise DatasetError(
                f"{self.path}: column {name!r} was altered: expected checksum {expected}, found {checksum.hex()}; "
                "delete the file and generate it again"
            )

    def _adopt(self, dictionary: Dictionary) -> None:
        """Add the dictionary of the file to `dictionary`, and keep the tables of ids."""
        self.dictionary = dictionary
        addresses, names = self._strings("addresses"), self._strings("names")
        codes, offset = self.whole("distributions/code").tolist(), self.whole("distributions/offset").tolist()
        parameters = self.whole("distributions/parameters").tolist()
        with reading(self.path, "addresses"):
            pairs = zip(addresses, names, strict=True)
            self.address_numbers = np.array([dictionary.address(a, n) for a, n in pairs], np.uint32)
        with reading(self.path, "distributions"):
            priors = [(code, tuple(parameters[a:b])) for code, (a, b) in zip(codes, pairwise(offset), strict=True)]
            self.distribution_numbers = np.array([dictionary.distribution(prior) for prior in priors], np.uint32)

    def _strings(self, name: str) -> list[str]:
        offset, content = self.whole(f"{name}/offset").tolist(), self.whole(f"{name}/content").tobytes()
        with reading(self.path, name):
            return [content[a:b].decode() for a, b in pairwise(offset)]

    def read(self, start: int = 0, stop: int | None = None) -> Block:
        """Return traces `start:stop`; checksums are checked if these are all traces."""
        return self._block(Window(self.path, self.slice, start, self.count if stop is None else stop))

    def take(self, rows: np.ndarray) -> Block:
        """Return the traces `rows`, in that order; each chunk is decoded at most once.

        Raises
        ------
        IndexError
            If there is no such trace.
        DatasetError
            If the data was altered.
        """
        requested = np.asarray(rows, np.int64)
        if len(requested) and (requested.min() < 0 or requested.max() >= self.count):
            raise IndexError(f"{self.path}: trace numbers must be from 0 to {self.count - 1}")
        return self._block(RowSelection(self._gatherer, np.zeros_like(requested), requested))

    def tag(self, name: str, start: int = 0, stop: int | None = None) -> TagColumn:
        """Return one tag of traces `start:stop`."""
        return self._tag(Window(self.path, self.slice, start, self.count if stop is None else stop), name)

    def _block(self, part: Selection) -> Block:
        kept = "rejected/offset" in self._columns
        return Block(
            self.dictionary,
            self._translated("entries", part.lists("traces/offset", "entries", tuple(ENTRY_DTYPES))),
            {name: part.rows(f"traces/{name}") for name in ("type", *TRACE_DTYPES)},
            self.layouts,
            {layout.name: stored_observation(part, layout) for layout in self.layouts},
            {name: self._tag(part, name) for name in self.tag_layouts},
            self._translated("rejected", part.lists("rejected/offset", "rejected", tuple(REJECTED_DTYPES)))
            if kept
            else None,
        )

    def _tag(self, part: Selection, name: str) -> TagColumn:
        if self.tag_layouts[name].ragged:
            return part.lists(tag_path(name, "offset"), tag_path(name), ("content",))
        return part.rows(tag_path(name))

    def _translated(self, group: str, lists: Ragged) -> Ragged:
        for name, numbers in (("address", self.address_numbers), ("distribution", self.distribution_numbers)):
            ids = lists.columns[name]
            if len(ids) and int(ids.max()) >= len(numbers):
                raise DatasetError(
                    f"{self.path}: column '{group}/{name}' refers to id {int(ids.max())}, but the dictionary has "
                    f"{len(numbers)} entries: the file was altered; delete it and generate it again"
                )
            lists.columns[name] = numbers[ids] if len(numbers) else ids
        return lists


def _layout(name: str, group: h5py.Group) -> Layout:
    return Layout(name, tuple(int(extent) for extent in group.attrs["shape"]), str(group.attrs["storage"]))


def _tag_layout(item: h5py.Dataset | h5py.Group) -> TagLayout:
    if isinstance(item, h5py.Group):
        return TagLayout(True, tuple(item["content"].shape[1:]))
    return TagLayout(False, tuple(item.shape[1:]))
