# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Export of a set of traces to the plain layout (`traces.plain.layout`), for other programs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from etalumis.errors import DatasetError
from etalumis.files import atomic_path
from etalumis.progress import Progress
from etalumis.trace import CONTROLLED, REPLACED
from etalumis.traces.block import EXPECTED, Block, Expected, OutsideImage, complete_tags
from etalumis.traces.checking.shard import windows
from etalumis.traces.columns import Column
from etalumis.traces.format import ALL, LIBVER, REJECTED_DTYPES, TRACE_DTYPES, tag_path, writing
from etalumis.traces.plain.layout import HDF5_SUFFIXES, KIND, NPZ_SUFFIX, group_key, prior_to_json
from etalumis.traces.ragged import Ragged
from etalumis.traces.reading.shard import Shard
from etalumis.traces.sources import Sources
from etalumis.traces.target import new_file

MAX_NPZ_BYTES = 1 << 31
"""Maximum bytes of an npz file, which is created in memory."""
WINDOW_BYTES = 1 << 24


def to_plain(inputs: Sequence[Path], output: Path, mix: bool = False) -> int:
    """Write traces in the plain layout to an HDF5 or npz file; return their number.

    Observations become dense, so the file is larger than the set. HDF5 files are written in windows. Importing the file
    with `convert.from_plain` gives the same traces, bit for bit.

    Raises
    ------
    DatasetError
        If an input is damaged, inputs do not belong together, or `output` exists or is too large for npz.
    """
    output = Path(output)
    if output.suffix not in (*HDF5_SUFFIXES, NPZ_SUFFIX):
        raise DatasetError(f"{output}: expected a file named .h5 or .npz")
    with new_file(output, KIND):
        sources = Sources(inputs, mix)
        for shard in sources.shards:
            shard.check_content()
        with _sink(output) as sink:
            _Export(sources, sink).write()
    return sum(len(shard) for shard in sources.shards)


class _Sink(Protocol):
    """Arrays that are filled window by window up to a shape given in advance."""

    def create(self, key: str, shape: tuple[int, ...], dtype: str) -> None: ...

    def append(self, key: str, values: np.ndarray) -> None: ...

    def strings(self, key: str, values: Sequence[str]) -> None: ...


class _Hdf5:
    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._columns: dict[str, Column] = {}

    def create(self, key: str, shape: tuple[int, ...], dtype: str) -> None:
        group, _, name = key.rpartition("/")
        parent = self._file.require_group(group) if group else self._file
        self._columns[key] = Column(parent, name, dtype, shape[1:])

    def append(self, key: str, values: np.ndarray) -> None:
        self._columns[key].append(values)

    def strings(self, key: str, values: Sequence[str]) -> None:
        # fixed length: HDF5 writes strings of variable length when it closes the file, and crashes if the disk is full
        encoded = [value.encode() for value in values]
        dtype = h5py.string_dtype("utf-8", max(1, *map(len, encoded)) if encoded else 1)
        self._columns[key] = Column(self._file, key, dtype)
        self._columns[key].append(np.array(encoded, dtype))

    def close(self) -> None:
        for column in self._columns.values():
            column.close()


class _Npz:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.arrays: dict[str, np.ndarray] = {}
        self._filled: dict[str, int] = {}
        self._bytes = 0

    def create(self, key: str, shape: tuple[int, ...], dtype: str) -> None:
        self._bytes += np.dtype(dtype).itemsize * prod(shape)
        if self._bytes > MAX_NPZ_BYTES:
            raise DatasetError(
                f"{self._path}: more than {MAX_NPZ_BYTES / 1e9:.1f} GB, too large for an npz file, which is created "
                "in memory; write an .h5 file"
            )
        self.arrays[key] = np.empty(shape, dtype)

    def append(self, key: str, values: np.ndarray) -> None:
        start = self._filled.get(key, 0)
        self._filled[key] = start + len(values)
        self.arrays[key][start : start + len(values)] = values

    def strings(self, key: str, values: Sequence[str]) -> None:
        self.arrays[key] = np.array(values, np.str_)


@contextmanager
def _sink(output: Path) -> Iterator[_Sink]:
    with atomic_path(output) as temporary, writing(output, KIND):
        if output.suffix == NPZ_SUFFIX:
            sink = _Npz(output)
            yield sink
            with temporary.open("wb") as file:
                # the parameter `allow_pickle` conflicts with the type of the keyword arguments
                np.savez_compressed(file, **sink.arrays)  # type: ignore[arg-type]
        else:
            file = h5py.File(temporary, "w", libver=LIBVER)
            try:
                columns = _Hdf5(file)
                yield columns
                columns.close()
            finally:
                file.close()


class _Export:
    """Writes a set, window by window."""

    def __init__(self, sources: Sources, sink: _Sink) -> None:
        self._sources, self._sink = sources, sink
        self._traces = sum(len(shard) for shard in sources.shards)
        self._ends: dict[str, int] = {}

    def write(self) -> None:
        """Write everything."""
        self._create()
        self._header()
        with Progress(self._traces, "traces", "converting") as progress:
            for shard, start, block in self._blocks():
                try:
                    self._block(block)
                except OutsideImage as error:
                    raise error.of(shard.path, start + error.trace) from None
                progress.update(len(block))

    def _blocks(self) -> Iterator[tuple[Shard, int, Block]]:
        """Yield the traces of all files in windows: file, number of the first trace, traces."""
        dense = 8 * sum(layout.size for layout in self._sources.layouts)
        for shard in self._sources.shards:
            share = shard.nbytes // max(1, len(shard))
            for start, stop in windows(shard, WINDOW_BYTES * share // max(1, share + dense)):
                yield shard, start, complete_tags(shard.read(start, stop), self._sources.tag_layouts)

    def _header(self) -> None:
        dictionary = self._sources.dictionary
        self._sink.strings("addresses", dictionary.addresses.names())
        self._sink.strings("names", dictionary.names)
        self._sink.strings("distributions", [prior_to_json(prior) for prior in dictionary.distributions])
        self._sink.strings("observations", [layout.name for layout in self._sources.layouts])
        self._sink.strings("provenance", [json.dumps(self._sources.provenance.as_dict())])

    def _rows(self, column: str) -> int:
        """Return the total number of rows of a column in all files that have it."""
        return sum(shard.rows(column) for shard in self._sources.shards if column in shard.columns)

    def _create(self) -> None:
        traces, create = self._traces, self._sink.create
        entries = self._rows("entries/value")
        create("offset", (traces + 1,), "<i8")
        for key, dtype in (("address", "<u4"), ("value", "<f8"), ("distribution", "<u4")):
            create(key, (entries,), dtype)
        for key in ("controlled", "replaced"):
            create(key, (entries,), "u1")
        for key, dtype in TRACE_DTYPES.items():
            create(key, (traces,), dtype)
        for layout in self._sources.layouts:
            expected = layout.storage == EXPECTED
            create(group_key("expected" if expected else "observation", layout.name), (traces, *layout.shape), "<f4")
            if expected:
                create(group_key("stddev", layout.name), (traces,), "<f8")
        for name, tag in self._sources.tag_layouts.items():
            if tag.ragged:
                create(f"{group_key('tag', name)}/offset", (traces + 1,), "<i8")
                create(f"{group_key('tag', name)}/content", (self._rows(tag_path(name, "content")), *tag.shape), "<f8")
            else:
                create(group_key("tag", name), (traces, *tag.shape), "<f8")
        if self._sources.provenance.kept == ALL:
            create("rejected/offset", (traces + 1,), "<i8")
            for key, dtype in REJECTED_DTYPES.items():
                create(f"rejected/{key}", (self._rows("rejected/value"),), dtype)

    def _lists(self, offset_key: str, columns: dict[str, np.ndarray], offset: np.ndarray) -> None:
        end = self._ends.get(offset_key)
        if end is None:
            self._sink.append(offset_key, np.zeros(1, np.int64))
            end = 0
        self._sink.append(offset_key, offset[1:] - offset[0] + end)
        for key, values in columns.items():
            self._sink.append(key, values)
        self._ends[offset_key] = end + int(offset[-1] - offset[0])

    def _block(self, block: Block) -> None:
        entries = dict(block.entries.columns)
        flags = entries.pop("flags")
        entries["controlled"], entries["replaced"] = (flags & CONTROLLED != 0), (flags & REPLACED != 0)
        self._lists("offset", entries, block.entries.offset)
        for key in TRACE_DTYPES:
            self._sink.append(key, block.traces[key])
        if block.rejected is not None:
            rejected = {f"rejected/{name}": column for name, column in block.rejected.columns.items()}
            self._lists("rejected/offset", rejected, block.rejected.offset)
        for name, tag in block.tags.items():
            key = group_key("tag", name)
            if isinstance(tag, Ragged):
                self._lists(f"{key}/offset", {f"{key}/content": tag.columns["content"]}, tag.offset)
            else:
                self._sink.append(key, tag)
        for layout in block.layouts:
            observation = block.observations[layout.name]
            if isinstance(observation, Expected):
                dense = np.zeros((len(block), layout.size), np.float32)
                image = observation.image
                dense[image.list_numbers(), observation.elements(layout)] = image.columns["mean"]
                self._sink.append(group_key("expected", layout.name), dense.reshape(len(block), *layout.shape))
                self._sink.append(group_key("stddev", layout.name), observation.stddev)
            else:
                self._sink.append(group_key("observation", layout.name), observation.reshape(len(block), *layout.shape))
