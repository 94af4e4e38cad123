# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces in preallocated memory, for sorting and for journals.

Concatenating pieces into a block takes twice its memory for a moment. A segment is allocated at its final size, and its
parts are read into place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np

from etalumis.names import from_link_name
from etalumis.traces.block import EXPECTED, Block, Expected, Layout, ObservationColumn, TagColumn, TagLayout
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import ENTRY_DTYPES, REJECTED_DTYPES, TRACE_DTYPES, TYPE_BYTES, observation_path, tag_path
from etalumis.traces.ragged import Ragged, offsets

Row = tuple[np.dtype, tuple[int, ...]]
"""Type of an element and shape of a row of a column."""


@dataclass(frozen=True)
class Lists:
    """A group of columns with common offsets: the path of the offsets, and the columns by path."""

    offset: str
    columns: Mapping[str, Row]

    @property
    def row_bytes(self) -> int:
        """Bytes per row of all columns."""
        return sum(_nbytes(row) for row in self.columns.values())


@dataclass(frozen=True)
class Schema:
    """Columns of a dataset, by their paths in a trace file.

    Attributes
    ----------
    lists
        Groups of columns with several rows per trace: "entries", "rejected", "observations/<name>", "tags/<name>".
    flat
        Columns with one row per trace.
    """

    layouts: tuple[Layout, ...]
    tag_layouts: Mapping[str, TagLayout]
    lists: Mapping[str, Lists]
    flat: Mapping[str, Row]

    @classmethod
    def of(cls, layouts: tuple[Layout, ...], tag_layouts: Mapping[str, TagLayout], rejected: bool) -> Self:
        """Return the columns of traces with these observe statements and tags."""
        lists = {"entries": Lists("traces/offset", _rows("entries", ENTRY_DTYPES))}
        flat: dict[str, Row] = {"traces/type": (np.dtype("u1"), (TYPE_BYTES,)), **_rows("traces", TRACE_DTYPES)}
        if rejected:
            lists["rejected"] = Lists("rejected/offset", _rows("rejected", REJECTED_DTYPES))
        for layout in layouts:
            group = observation_path(layout.name)
            if layout.storage == EXPECTED:
                columns = {f"{group}/step": (layout.index_dtype, ()), f"{group}/mean": (np.dtype("<f4"), ())}
                lists[group] = Lists(f"{group}/offset", columns)
                flat[f"{group}/stddev"] = (np.dtype("<f8"), ())
            else:
                flat[f"{group}/value"] = (np.dtype("<f4"), layout.shape)
        for name, tag in sorted(tag_layouts.items()):
            row = (np.dtype("<f8"), tag.shape)
            if tag.ragged:
                lists[tag_path(name)] = Lists(tag_path(name, "offset"), {tag_path(name, "content"): row})
            else:
                flat[tag_path(name)] = row
        return cls(layouts, dict(sorted(tag_layouts.items())), lists, flat)

    @property
    def trace_bytes(self) -> int:
        """Bytes of a trace whose lists are all empty."""
        return sum(_nbytes(row) for row in self.flat.values()) + _LENGTH.itemsize * len(self.lists)

    def nbytes(self, traces: int, rows: Mapping[str, int]) -> int:
        """Return the bytes of a segment with `traces` traces and `rows[group]` rows in the lists of each group."""
        return traces * self.trace_bytes + sum(rows[name] * lists.row_bytes for name, lists in self.lists.items())


_LENGTH = np.dtype("<u4")


def _rows(group: str, dtypes: Mapping[str, str]) -> dict[str, Row]:
    return {f"{group}/{name}": (np.dtype(dtype), ()) for name, dtype in dtypes.items()}


def _nbytes(row: Row) -> int:
    return row[0].itemsize * prod(row[1])


@dataclass(frozen=True, slots=True)
class Segment:
    """Traces as columns, which may be views of larger ones.

    Attributes
    ----------
    lengths
        u4 (trace,) for each group of lists: number of rows of each trace.
    columns
        By path: (trace, ...) or (row, ...).
    """

    schema: Schema
    lengths: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]

    @classmethod
    def allocate(cls, schema: Schema, traces: int, rows: Mapping[str, int]) -> Self:
        """Allocate a segment for `traces` traces with `rows[group]` rows in the lists of each group."""
        columns = {path: np.empty((traces, *row), dtype) for path, (dtype, row) in schema.flat.items()}
        for name, lists in schema.lists.items():
            columns |= {path: np.empty((rows[name], *row), dtype) for path, (dtype, row) in lists.columns.items()}
        return cls(schema, {name: np.empty(traces, _LENGTH) for name in schema.lists}, columns)

    @classmethod
    def of_block(cls, schema: Schema, block: Block) -> Self:
        """Return the columns of a block that has all columns of the schema."""
        segment = cls(schema, {}, {})
        for name, lists in schema.lists.items():
            found = _lists_of(block, name)
            segment.lengths[name] = found.lengths.astype(_LENGTH)
            segment.columns.update({path: found.columns[path.rpartition("/")[2]] for path in lists.columns})
        for path, (_, row) in schema.flat.items():
            segment.columns[path] = _flat_of(block, path).reshape(len(block), *row)
        return segment

    def __len__(self) -> int:
        """Return the number of traces."""
        return len(self.columns["traces/seed"])

    def rows(self) -> dict[str, int]:
        """Return the number of rows in the lists of each group."""
        return {name: int(lengths.sum(dtype=np.int64)) for name, lengths in self.lengths.items()}

    def part(self, start: int, stop: int, first: Mapping[str, int], last: Mapping[str, int]) -> Self:
        """Return, without copying, traces `start:stop`, whose rows in each group are `first:last`."""
        columns = {path: self.columns[path][start:stop] for path in self.schema.flat}
        for name, lists in self.schema.lists.items():
            columns |= {path: self.columns[path][first[name] : last[name]] for path in lists.columns}
        return type(self)(self.schema, {n: lengths[start:stop] for n, lengths in self.lengths.items()}, columns)

    def arrays(self) -> Iterator[np.ndarray]:
        """Yield all arrays in the order of the schema: lengths, then flat columns, then lists."""
        yield from (self.lengths[name] for name in self.schema.lists)
        yield from (self.columns[path] for path in self.schema.flat)
        for lists in self.schema.lists.values():
            yield from (self.columns[path] for path in lists.columns)

    def block(self, dictionary: Dictionary) -> Block:
        """Return the traces as a block, without copying them."""
        columns, schema = self.columns, self.schema
        lists = {
            name: Ragged(
                offsets(self.lengths[name]),
                {path.rpartition("/")[2]: columns[path] for path in schema.lists[name].columns},
            )
            for name in schema.lists
        }
        observations: dict[str, ObservationColumn] = {}
        for layout in schema.layouts:
            group = observation_path(layout.name)
            if layout.storage == EXPECTED:
                observations[layout.name] = Expected(lists[group], columns[f"{group}/stddev"])
            else:
                observations[layout.name] = columns[f"{group}/value"].reshape(len(self), layout.size)
        tags: dict[str, TagColumn] = {
            name: lists[tag_path(name)] if tag.ragged else columns[tag_path(name)]
            for name, tag in schema.tag_layouts.items()
        }
        traces = {name: columns[f"traces/{name}"] for name in ("type", *TRACE_DTYPES)}
        return Block(dictionary, lists["entries"], traces, schema.layouts, observations, tags, lists.get("rejected"))


def _lists_of(block: Block, name: str) -> Ragged:
    group, _, item = name.partition("/")
    found: object = {"entries": block.entries, "rejected": block.rejected}.get(group)
    if group == "observations":
        observation = block.observations[from_link_name(item)]
        found = observation.image if isinstance(observation, Expected) else None
    elif group == "tags":
        found = block.tags[from_link_name(item)]
    assert isinstance(found, Ragged)  # by the schema
    return found


def _flat_of(block: Block, path: str) -> np.ndarray:
    group, _, item = path.partition("/")
    if group == "traces":
        return block.traces[item]
    found: object = block.tags.get(from_link_name(item))
    if group == "observations":
        observation = block.observations[from_link_name(item.rpartition("/")[0])]
        found = observation.stddev if isinstance(observation, Expected) else observation
    assert isinstance(found, np.ndarray)  # by the schema
    return found
