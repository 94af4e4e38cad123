# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Write trace files: columns that grow block by block, under a temporary name until they are whole."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

import h5py
import numpy as np

from etalumis.files import atomic_path
from etalumis.trace import Trace
from etalumis.traces.block import (
    EXPECTED,
    Block,
    Expected,
    Layout,
    Tag,
    TagLayout,
    require_same_layouts,
    require_same_tags,
)
from etalumis.traces.builder import BlockBuilder
from etalumis.traces.dictionary import Dictionary, first_seen
from etalumis.traces.format import (
    CHUNK_BYTES,
    ENTRY_DTYPES,
    FORMAT,
    LIBVER,
    TRACE_DTYPES,
    TYPE_BYTES,
    VERSION,
    Checksum,
    Provenance,
    file_checksum,
)
from etalumis.traces.ragged import Ragged, offsets


class _Column:
    """A dataset that grows along its first axis and knows its checksum."""

    def __init__(self, group: h5py.Group, name: str, dtype: str | np.dtype, row: tuple[int, ...] = ()) -> None:
        rows = max(1, CHUNK_BYTES // (np.dtype(dtype).itemsize * prod(row)))
        self._dataset = group.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            chunks=(rows, *row),
            dtype=dtype,
            compression="gzip",
            compression_opts=1,  # higher levels cost several times the time for a few per cent
            shuffle=True,
        )
        self._checksum = Checksum()

    def append(self, values: np.ndarray) -> None:
        content = np.ascontiguousarray(values, self._dataset.dtype)
        start = len(self._dataset)
        self._dataset.resize(start + len(content), axis=0)
        self._dataset[start:] = content
        self._checksum.update(content)

    def close(self) -> None:
        self._dataset.attrs["checksum"] = self._checksum.hex()


class _RaggedColumns:
    """Offsets and content columns that grow together."""

    def __init__(self, group: h5py.Group, columns: dict[str, tuple[str | np.dtype, tuple[int, ...]]]) -> None:
        self._offset = _Column(group, "offset", "<i8")
        self._offset.append(np.zeros(1, np.int64))
        self._end = 0
        self._columns = {name: _Column(group, name, dtype, row) for name, (dtype, row) in columns.items()}

    def append(self, part: Ragged) -> None:
        self._offset.append(part.offset[1:] - part.offset[0] + self._end)
        self._end += int(part.offset[-1] - part.offset[0])
        for name, column in self._columns.items():
            column.append(part.columns[name])

    def close(self) -> None:
        for column in (self._offset, *self._columns.values()):
            column.close()


class ShardWriter:
    """One open trace file; `append` blocks, then `close`.

    Use `open_shard`, which gives the file its name only when it is whole.
    """

    def __init__(self, file: h5py.File, path: Path, provenance: Provenance) -> None:
        self._file, self._path, self._provenance = file, path, provenance
        self._dictionary = Dictionary()
        self._layouts: tuple[Layout, ...] | None = None
        self._count = 0
        traces, entries = file.create_group("traces"), file.create_group("entries")
        self._offset = _Column(traces, "offset", "<i8")
        self._offset.append(np.zeros(1, np.int64))
        self._entries_end = 0
        self._entries = {name: _Column(entries, name, dtype) for name, dtype in ENTRY_DTYPES.items()}
        self._traces = {name: _Column(traces, name, dtype) for name, dtype in TRACE_DTYPES.items()}
        self._traces["type"] = _Column(traces, "type", "u1", (TYPE_BYTES,))
        self._images: dict[str, _RaggedColumns] = {}
        self._dense: dict[str, _Column] = {}
        self._tag_lists: dict[str, _RaggedColumns] = {}
        self._tag_columns: dict[str, _Column] = {}
        self._tag_layouts: dict[str, TagLayout] = {}
        file.create_group("observations", track_order=True)
        file.create_group("tags")

    def append(self, block: Block) -> None:
        """Write the traces of `block` behind those already there."""
        if not len(block):
            return
        if self._layouts is None:
            self._layouts = block.layouts
            self._create_observations()
        require_same_layouts(self._path, self._layouts, self._path, block.layouts)
        self._append_entries(block)
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
        self._count += len(block)

    def _append_entries(self, block: Block) -> None:
        offset = block.entries.offset
        self._offset.append(offset[1:] - offset[0] + self._entries_end)
        self._entries_end += int(offset[-1] - offset[0])
        for name, column in self._entries.items():
            values = block.entries.columns[name]
            if name in ("address", "distribution"):
                # numbers follow first use in THIS file, so a file's bytes do not depend on where its traces came from
                used, position = first_seen(values)
                adopt = self._dictionary.adopt_addresses if name == "address" else self._dictionary.adopt_distributions
                values = adopt(block.dictionary, used)[position]
            column.append(values)

    def _create_observations(self) -> None:
        for layout in self._layouts or ():
            group = self._file["observations"].create_group(layout.name)
            group.attrs["shape"] = np.array(layout.shape, np.int64)
            group.attrs["storage"] = layout.storage
            if layout.storage == EXPECTED:
                self._images[layout.name] = _RaggedColumns(
                    group, {"index": (layout.index_dtype, ()), "mean": (np.dtype("<f4"), ())}
                )
                self._dense[layout.name] = _Column(group, "stddev", "<f8")
            else:
                self._dense[layout.name] = _Column(group, "value", "<f4", layout.shape)

    def _append_tags(self, block: Block) -> None:
        found = {name: TagLayout.of_column(tag) for name, tag in block.tags.items()}
        require_same_tags(self._path, self._tag_layouts, self._path, found)
        for name in sorted(found.keys() - self._tag_layouts.keys()):
            self._create_tag(name, found[name])
        for name, layout in self._tag_layouts.items():
            self._append_tag(name, block.tags[name] if name in block.tags else layout.absent(len(block)))

    def _create_tag(self, name: str, layout: TagLayout) -> None:
        self._tag_layouts[name] = layout
        if layout.ragged:
            group = self._file["tags"].create_group(name)
            self._tag_lists[name] = _RaggedColumns(group, {"content": ("<f8", layout.shape)})
        else:
            self._tag_columns[name] = _Column(self._file["tags"], name, "<f8", layout.shape)
        if self._count:
            self._append_tag(name, layout.absent(self._count))

    def _append_tag(self, name: str, tag: Tag) -> None:
        if isinstance(tag, Ragged):
            self._tag_lists[name].append(tag)
        else:
            self._tag_columns[name].append(tag)

    def close(self) -> None:
        """Write dictionary, provenance and checksums; the file is whole after this."""
        _write_strings(self._file.create_group("addresses"), self._dictionary.addresses.names())
        _write_strings(self._file.create_group("names"), self._dictionary.names)
        self._write_distributions()
        flat = (self._offset, *self._entries.values(), *self._traces.values(), *self._dense.values())
        for column in (*flat, *self._tag_columns.values()):
            column.close()
        for columns in (*self._images.values(), *self._tag_lists.values()):
            columns.close()
        self._file.attrs["format"] = FORMAT
        self._file.attrs["version"] = VERSION
        self._file.attrs["traces"] = self._count
        for name, value in self._provenance.as_dict().items():
            self._file.attrs[name] = value
        self._file.attrs["checksum"] = file_checksum(self._file)

    def _write_distributions(self) -> None:
        group, priors = self._file.create_group("distributions"), self._dictionary.distributions
        code = _Column(group, "code", "u1")
        code.append(np.array([number for number, _ in priors], np.uint8))
        code.close()
        parameters = np.array([p for _, row in priors for p in row], np.float64)
        columns = _RaggedColumns(group, {"parameters": ("<f8", ())})
        columns.append(Ragged(offsets(np.array([len(row) for _, row in priors], np.int64)), {"parameters": parameters}))
        columns.close()


def _write_strings(group: h5py.Group, strings: Sequence[str]) -> None:
    encoded = [string.encode() for string in strings]
    content = np.frombuffer(b"".join(encoded), np.uint8)
    columns = _RaggedColumns(group, {"content": ("u1", ())})
    columns.append(Ragged(offsets(np.array([len(e) for e in encoded], np.int64)), {"content": content}))
    columns.close()


@contextmanager
def open_shard(path: Path, provenance: Provenance) -> Iterator[ShardWriter]:
    """Yield a writer; `path` appears, whole, when the block ends without an error, and not at all otherwise."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver=LIBVER) as file:
        writer = ShardWriter(file, path, provenance)
        yield writer
        writer.close()


class TraceWriter:
    """Write traces one by one: `add` them, then `close`, or use it as a context manager.

    Memory is bounded: after `flush_traces` traces the columns go to the file.
    """

    def __init__(self, path: Path, provenance: Provenance, flush_traces: int = 1000) -> None:
        self._flush_traces = flush_traces
        self._builder = BlockBuilder()
        self._opened = open_shard(path, provenance)
        self._writer = self._opened.__enter__()

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self._opened.__exit__(kind, error, None)

    def add(self, trace: Trace, seed: int, index: int) -> None:
        """Add one trace, with its seed and its number in the run."""
        self._builder.add(trace, seed, index)
        if len(self._builder) >= self._flush_traces:
            self._flush()

    def _flush(self) -> None:
        if len(self._builder):
            self._writer.append(self._builder.block())
        self._builder = BlockBuilder()

    def close(self) -> None:
        """Write what is left and give the file its name."""
        self._flush()
        self._opened.__exit__(None, None, None)
