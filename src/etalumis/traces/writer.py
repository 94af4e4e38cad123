# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Write trace files block by block, under a temporary name until they are complete."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from etalumis.errors import DatasetError
from etalumis.files import atomic_path
from etalumis.names import require_storable, to_link_name
from etalumis.traces.block import (
    EXPECTED,
    Block,
    Expected,
    Layout,
    TagColumn,
    TagLayout,
    complete_tags,
    join,
    require_same_layouts,
    require_same_tags,
)
from etalumis.traces.columns import Column, RaggedColumns, Specifications
from etalumis.traces.dictionary import Dictionary, first_seen
from etalumis.traces.format import (
    ALL,
    ENTRY_DTYPES,
    FORMAT,
    LIBVER,
    REJECTED_DTYPES,
    TRACE_DTYPES,
    TYPE_BYTES,
    VERSION,
    Provenance,
    file_checksum,
    writing,
)
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.rules import require_valid

ROW_GROUP = 512
"""Traces that are written together, so that the bytes of the file do not depend on the sizes of the blocks."""


class _IdTranslation:
    """Translates ids of another dictionary to ids of the file."""

    def __init__(self, source: Dictionary) -> None:
        self.source = source
        self._tables = {"address": np.empty(0, np.int64), "distribution": np.empty(0, np.int64)}  # -1: not seen yet

    def translate(self, name: str, values: np.ndarray, target: Dictionary) -> np.ndarray:
        table = self._tables[name]
        size = len(self.source.names if name == "address" else self.source.distributions)
        if len(table) < size:
            table = self._tables[name] = np.concatenate([table, np.full(size - len(table), -1, np.int64)])
        numbers: np.ndarray = table[values]
        unknown = values[numbers < 0]
        if len(unknown):
            used, _ = first_seen(unknown)
            adopt = target.adopt_addresses if name == "address" else target.adopt_distributions
            table[used] = adopt(self.source, used)
            numbers = table[values]
        return numbers

    def name(self, target: Dictionary) -> None:
        """Copy names that addresses got after they were first seen."""
        target.adopt_addresses(self.source, np.flatnonzero(self._tables["address"] >= 0))


class ShardWriter:
    """One open trace file; `append` blocks, then `close`.

    Use `open_shard`, which gives the file its name only when it is complete.
    """

    def __init__(self, file: h5py.File, path: Path, provenance: Provenance) -> None:
        self._file, self._path, self._provenance = file, path, provenance
        self._dictionary = Dictionary()
        self._ids = _IdTranslation(Dictionary())
        self._layouts: tuple[Layout, ...] | None = None
        self._count = 0
        traces, entries = file.create_group("traces"), file.create_group("entries")
        self._lists: list[RaggedColumns] = []
        self._flat: list[Column] = []
        self._offset = self._column(traces, "offset", "<i8")
        self._offset.append(np.zeros(1, np.int64))
        self._entries_end = 0
        self._entries = {name: self._column(entries, name, dtype) for name, dtype in ENTRY_DTYPES.items()}
        self._traces = {name: self._column(traces, name, dtype) for name, dtype in TRACE_DTYPES.items()}
        self._traces["type"] = self._column(traces, "type", "u1", (TYPE_BYTES,))
        self._rejected = self._rejected_columns()
        self._images: dict[str, RaggedColumns] = {}
        self._dense: dict[str, Column] = {}
        self._tag_lists: dict[str, RaggedColumns] = {}
        self._tag_columns: dict[str, Column] = {}
        self._tag_layouts: dict[str, TagLayout] = {}
        self._found_tags: dict[str, TagLayout] = {}
        self._buffer: list[Block] = []
        self._room = ROW_GROUP
        file.create_group("observations", track_order=True)
        file.create_group("tags")

    def _column(
        self, group: h5py.Group, name: str, dtype: str | np.dtype, row: tuple[int, ...] = (), packs: bool = False
    ) -> Column:
        column = Column(group, name, dtype, row, packs)
        self._flat.append(column)
        return column

    def _ragged(self, group: h5py.Group, columns: Specifications) -> RaggedColumns:
        ragged = RaggedColumns(group, columns)
        self._lists.append(ragged)
        return ragged

    def _rejected_columns(self) -> RaggedColumns | None:
        if self._provenance.kept != ALL:
            return None
        return self._ragged(
            self._file.create_group("rejected"), {name: (dtype, ()) for name, dtype in REJECTED_DTYPES.items()}
        )

    @property
    def tags(self) -> Collection[str]:
        """Names of the tags of the traces so far."""
        return self._found_tags.keys()

    def append(self, block: Block) -> None:
        """Append the traces of `block`.

        Raises
        ------
        DatasetError
            If a number is not valid, or the block does not match the previous ones.
        StorageError
            If the file cannot be written.
        """
        if not len(block):
            return
        require_valid(block, self._path, self._count + ROW_GROUP - self._room)
        if self._layouts is None:
            for layout in block.layouts:
                require_storable(layout.name, f"{self._path}: an observe statement")
            self._layouts = block.layouts
            self._create_observations()
        require_same_layouts(self._path, self._layouts, self._path, block.layouts)
        found = {name: TagLayout.of_column(tag) for name, tag in block.tags.items()}
        require_same_tags(self._path, self._found_tags, self._path, found)
        for name in found.keys() - self._found_tags.keys():
            require_storable(name, f"{self._path}: a tag")
        self._found_tags.update(found)
        self._add_to_buffer(self._with_own_ids(block))

    def _add_to_buffer(self, block: Block) -> None:
        start = 0
        while start < len(block):
            stop = min(len(block), start + self._room)
            self._buffer.append(complete_tags(block.slice(start, stop), self._found_tags))
            self._room -= stop - start
            start = stop
            if not self._room:
                self._write_group()

    def _write_group(self) -> None:
        """Write the buffered traces."""
        buffered, self._buffer, self._room = self._buffer, [], ROW_GROUP
        if buffered:
            with writing(self._path):
                self._append(join([complete_tags(block, self._found_tags) for block in buffered]))

    def _append(self, block: Block) -> None:
        self._offset.append(block.entries.offset[1:] + self._entries_end)
        self._entries_end += int(block.entries.offset[-1])
        for name, column in self._entries.items():
            column.append(block.entries.columns[name])
        for name, column in self._traces.items():
            column.append(block.traces[name])
        for layout in block.layouts:
            observation = block.observations[layout.name]
            if isinstance(observation, Expected):
                self._images[layout.name].append(observation.image)
                self._dense[layout.name].append(observation.stddev)
            else:
                self._dense[layout.name].append(observation.reshape(len(block), *layout.shape))
        self._append_tags(block)
        if self._rejected is not None and block.rejected is not None:
            self._rejected.append(block.rejected)
        self._count += len(block)

    def _with_own_ids(self, block: Block) -> Block:
        """Return a block with the ids of this file, which are assigned in the order of first use, trace by trace.

        Hence the bytes of a file do not depend on where its traces came from.
        """
        if block.dictionary is not self._ids.source:
            self._ids.name(self._dictionary)
            self._ids = _IdTranslation(block.dictionary)
        if self._rejected is None:
            return replace(block, entries=self._with_own_ids_of(block.entries), rejected=None)
        if block.rejected is None:
            raise DatasetError(f"{self._path}: traces without rejected repetitions cannot be written to this file")
        # for each trace the accepted entries first, then the rejected ones
        order = np.argsort(np.concatenate([block.entries.list_numbers(), block.rejected.list_numbers()]), kind="stable")
        for name in ("address", "distribution"):
            both = np.concatenate([block.entries.columns[name], block.rejected.columns[name]])
            self._ids.translate(name, both[order], self._dictionary)
        return replace(
            block, entries=self._with_own_ids_of(block.entries), rejected=self._with_own_ids_of(block.rejected)
        )

    def _with_own_ids_of(self, lists: Ragged) -> Ragged:
        columns = dict(lists.columns)
        for name in ("address", "distribution"):
            columns[name] = self._ids.translate(name, columns[name], self._dictionary)
        return Ragged(lists.offset, columns)

    def _create_observations(self) -> None:
        for layout in self._layouts or ():
            group = self._file["observations"].create_group(to_link_name(layout.name))
            group.attrs["shape"] = np.array(layout.shape, np.int64)
            group.attrs["storage"] = layout.storage
            if layout.storage == EXPECTED:
                columns = {"step": (layout.index_dtype, ()), "mean": (np.dtype("<f4"), ())}
                self._images[layout.name] = self._ragged(group, columns)
                self._dense[layout.name] = self._column(group, "stddev", "<f8")
            else:
                self._dense[layout.name] = self._column(group, "value", "<f4", layout.shape, packs=True)

    def _append_tags(self, block: Block) -> None:
        for name in sorted(block.tags.keys() - self._tag_layouts.keys()):
            if _is_present(block.tags[name]):
                self._create_tag(name, self._found_tags[name])
        for name in self._tag_layouts:
            self._append_tag(name, block.tags[name])

    def _create_tag(self, name: str, layout: TagLayout) -> None:
        self._tag_layouts[name] = layout
        if layout.ragged:
            group = self._file["tags"].create_group(to_link_name(name))
            self._tag_lists[name] = self._ragged(group, {"content": ("<f8", layout.shape)})
        else:
            self._tag_columns[name] = self._column(self._file["tags"], to_link_name(name), "<f8", layout.shape)
        if self._count:
            self._append_tag(name, layout.absent(self._count))

    def _append_tag(self, name: str, tag: TagColumn) -> None:
        if isinstance(tag, Ragged):
            self._tag_lists[name].append(tag)
        else:
            self._tag_columns[name].append(tag)

    def close(self) -> None:
        """Write the dictionary, the provenance and the checksums, which completes the file."""
        self._write_group()
        self._ids.name(self._dictionary)
        with writing(self._path):
            self._write_strings("addresses", self._dictionary.addresses.names())
            self._write_strings("names", self._dictionary.names)
            self._write_distributions()
            for column in self._flat:
                column.close()
            for columns in self._lists:
                columns.close()
            self._file.attrs["format"] = FORMAT
            self._file.attrs["version"] = VERSION
            self._file.attrs["traces"] = self._count
            for name, value in self._provenance.as_dict().items():
                self._file.attrs[name] = value
            self._file.attrs["checksum"] = file_checksum(self._file)

    def _write_distributions(self) -> None:
        group, priors = self._file.create_group("distributions"), self._dictionary.distributions
        self._column(group, "code", "u1").append(np.array([number for number, _ in priors], np.uint8))
        parameters = np.array([p for _, row in priors for p in row], np.float64)
        lengths = np.array([len(row) for _, row in priors], np.int64)
        self._ragged(group, {"parameters": ("<f8", ())}).append(Ragged(offsets(lengths), {"parameters": parameters}))

    def _write_strings(self, name: str, strings: Sequence[str]) -> None:
        encoded = [string.encode() for string in strings]
        content = np.frombuffer(b"".join(encoded), np.uint8)
        lengths = np.array([len(e) for e in encoded], np.int64)
        columns = self._ragged(self._file.create_group(name), {"content": ("u1", ())})
        columns.append(Ragged(offsets(lengths), {"content": content}))


def _is_present(tag: TagColumn) -> bool:
    """Return whether any trace has the tag; its dataset is created with the first one."""
    return len(tag.columns["content"]) > 0 if isinstance(tag, Ragged) else not bool(np.all(np.isnan(tag)))


@contextmanager
def open_shard(path: Path, provenance: Provenance) -> Iterator[ShardWriter]:
    """Yield a writer. `path` appears, complete, if the block ends without an error, and not at all otherwise.

    Raises
    ------
    StorageError
        If it cannot be written, for example because the disk is full or the folder is read-only.
    """
    with ExitStack() as stack:
        with writing(path):
            temporary = stack.enter_context(atomic_path(path))
            file = h5py.File(temporary, "w", libver=LIBVER)
        try:
            writer = ShardWriter(file, path, provenance)
            yield writer
            writer.close()
        finally:
            with writing(path):
                file.close()
        with writing(path):
            stack.close()  # gives the file its name
