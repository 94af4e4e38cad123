# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces in memory as columns, which the writer takes, the reader returns and the sorter moves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Self

import numpy as np

from etalumis.errors import DatasetError
from etalumis.tag_shapes import TagShape
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import observation_path
from etalumis.traces.ragged import Ragged, concatenate

EXPECTED = "sparse-expected"
NOISY = "noisy"


@dataclass(frozen=True)
class Layout:
    """How one observe statement is stored.

    `storage` is "sparse-expected" (the nonzero means of a normal with one standard deviation; noise is drawn each time
    the trace is read) or "noisy" (one value drawn from the likelihood).
    """

    name: str
    shape: tuple[int, ...]
    storage: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def index_dtype(self) -> np.dtype:
        """Smallest unsigned type that holds the index of every element (flat, row-major)."""
        return np.dtype("<u2" if self.size <= 1 << 16 else "<u4")


class OutsideImage(DatasetError):
    """An element of the image `name` of trace number `trace` of a block is outside its shape."""

    def __init__(self, name: str, trace: int, found: int, size: int, path: Path | None = None) -> None:
        self.name, self.trace, self._found, self._size = name, trace, found, size
        where = "" if path is None else f"{path}: "
        super().__init__(
            f"{where}column {observation_path(name, 'step')!r}: trace {trace} has steps to element {found}, but the "
            f"image has {size} elements: the file was altered; delete it and generate it again"
        )

    def of(self, path: Path, trace: int) -> "OutsideImage":
        """Return the same error with the path of a file and the number of the trace in it."""
        return OutsideImage(self.name, trace, self._found, self._size, path)


@dataclass(slots=True)
class Expected:
    """Expected observations without zeros.

    Attributes
    ----------
    image
        Columns `mean` (float32) and `step` (`Layout.index_dtype`): the difference to the index of the previous element,
        from 0 in every trace, modulo the range of the type. Most steps are 1, so they compress to half the size.
    stddev
        float64 (trace,).
    """

    image: Ragged
    stddev: np.ndarray

    @classmethod
    def of_index(cls, offset: np.ndarray, index: np.ndarray, mean: np.ndarray, stddev: np.ndarray) -> Self:
        """Return expected observations whose elements are given by their index (flat, row-major)."""
        step = np.empty_like(index)
        step[:1] = index[:1]
        np.subtract(index[1:], index[:-1], out=step[1:])
        first = _first_rows(offset)
        step[first] = index[first]
        return cls(Ragged(offset, {"step": step, "mean": mean}), stddev)

    def elements(self, layout: Layout) -> np.ndarray:
        """Return the index of each element of each image, all of them inside `layout`.

        Raises
        ------
        OutsideImage
            If an element is outside.
        """
        index = self.index
        if len(index) and int(index.max()) >= layout.size:
            place = int(np.argmax(index))
            trace = int(np.searchsorted(self.image.offset, place, side="right")) - 1
            raise OutsideImage(layout.name, trace, int(index[place]), layout.size)
        return index

    @property
    def index(self) -> np.ndarray:
        """Index of each element of each image (flat, row-major), of the type of `step`."""
        step, offset = self.image.columns["step"], self.image.offset - self.image.offset[0]
        total = np.cumsum(step, dtype=step.dtype)
        first = _first_rows(offset)
        total -= np.repeat(total[first] - step[first], np.diff(np.append(first, len(step))))
        return total


def _first_rows(offset: np.ndarray) -> np.ndarray:
    """Return the first row of every list that is not empty."""
    rows: np.ndarray = offset[:-1][np.diff(offset) > 0]
    return rows


ObservationColumn = Expected | np.ndarray
TagColumn = Ragged | np.ndarray


@dataclass(slots=True)
class Block:
    """Columns of some traces.

    Attributes
    ----------
    dictionary
        The ids in `entries["address"]` and `entries["distribution"]` refer to it.
    entries
        Accepted entries, one list per trace: address, value, distribution, flags.
    traces
        Columns of length (trace,): type (trace, 16) and those of `format.TRACE_DTYPES`.
    layouts
        The observe statements in their order.
    observations
        By name: `Expected`, or float32 (trace, size) if the storage is "noisy".
    tags
        By name: float64 (trace, *shape), or lists of rows if the length of the first axis varies.
    rejected
        Entries of rejected repetitions, one list per trace, with the columns of `format.REJECTED_DTYPES`; None if they
        are not kept.
    """

    dictionary: Dictionary
    entries: Ragged
    traces: dict[str, np.ndarray]
    layouts: tuple[Layout, ...]
    observations: dict[str, ObservationColumn] = field(default_factory=dict)
    tags: dict[str, TagColumn] = field(default_factory=dict)
    rejected: Ragged | None = None

    def __len__(self) -> int:
        """Return the number of traces."""
        return len(self.entries)

    def take(self, rows: np.ndarray) -> "Block":
        """Return the traces `rows`, in that order."""
        return Block(
            self.dictionary,
            self.entries.take(rows),
            {name: column[rows] for name, column in self.traces.items()},
            self.layouts,
            {name: _take_observation(observation, rows) for name, observation in self.observations.items()},
            {name: _take(tag, rows) for name, tag in self.tags.items()},
            None if self.rejected is None else self.rejected.take(rows),
        )

    def slice(self, start: int, stop: int) -> "Block":
        """Return the traces `start:stop`; the columns are views."""
        return Block(
            self.dictionary,
            self.entries.slice(start, stop),
            {name: column[start:stop] for name, column in self.traces.items()},
            self.layouts,
            {name: _slice_observation(observation, start, stop) for name, observation in self.observations.items()},
            {name: _slice(tag, start, stop) for name, tag in self.tags.items()},
            None if self.rejected is None else self.rejected.slice(start, stop),
        )


def _slice(column: TagColumn, start: int, stop: int) -> TagColumn:
    return column.slice(start, stop) if isinstance(column, Ragged) else column[start:stop]


def _slice_observation(observation: ObservationColumn, start: int, stop: int) -> ObservationColumn:
    if isinstance(observation, Expected):
        return Expected(observation.image.slice(start, stop), observation.stddev[start:stop])
    part: np.ndarray = observation[start:stop]
    return part


def _take(column: TagColumn, rows: np.ndarray) -> TagColumn:
    return column.take(rows) if isinstance(column, Ragged) else column[rows]


def _take_observation(observation: ObservationColumn, rows: np.ndarray) -> ObservationColumn:
    if isinstance(observation, Expected):
        return Expected(observation.image.take(rows), observation.stddev[rows])
    taken: np.ndarray = observation[rows]
    return taken


def join(blocks: Sequence[Block]) -> Block:
    """Concatenate blocks that share dictionary, layouts and tags."""
    first = blocks[0]
    if len(blocks) == 1:
        return first
    return Block(
        first.dictionary,
        concatenate([block.entries for block in blocks]),
        {name: np.concatenate([block.traces[name] for block in blocks]) for name in first.traces},
        first.layouts,
        {name: _join_observations([block.observations[name] for block in blocks]) for name in first.observations},
        {name: _join_tags([block.tags[name] for block in blocks]) for name in first.tags},
        None if first.rejected is None else concatenate([b.rejected for b in blocks if b.rejected is not None]),
    )


def _join_tags(parts: Sequence[TagColumn]) -> TagColumn:
    ragged = [part for part in parts if isinstance(part, Ragged)]
    if ragged:
        return concatenate(ragged)
    return np.concatenate([part for part in parts if not isinstance(part, Ragged)])


def _join_observations(parts: Sequence[ObservationColumn]) -> ObservationColumn:
    expected = [part for part in parts if isinstance(part, Expected)]
    if expected:
        return Expected(
            concatenate([part.image for part in expected]), np.concatenate([part.stddev for part in expected])
        )
    return np.concatenate([part for part in parts if not isinstance(part, Expected)])


def require_same_layouts(mine: Path, expected: tuple[Layout, ...], theirs: Path, found: tuple[Layout, ...]) -> None:
    """Raise DatasetError if two files have different observe statements, or store them differently."""
    if expected != found:
        raise DatasetError(
            f"{theirs}: it observes {list(found)}, but {mine} observes {list(expected)}; expected the same"
        )


@dataclass(frozen=True)
class TagLayout(TagShape):
    """How a tag is stored: `ragged` tags as rows of shape `shape`, others as (trace, *shape)."""

    @classmethod
    def of_column(cls, column: TagColumn) -> "TagLayout":
        """Return the layout of a column in memory."""
        if isinstance(column, Ragged):
            return cls(True, column.columns["content"].shape[1:])
        return cls(False, column.shape[1:])

    def absent(self, count: int) -> TagColumn:
        """Return the column of `count` traces without the tag: NaN, or no rows."""
        if self.ragged:
            return Ragged(np.zeros(count + 1, np.int64), {"content": np.empty((0, *self.shape))})
        return np.full((count, *self.shape), np.nan)


def require_same_tags(mine: Path, expected: dict[str, TagLayout], theirs: Path, found: dict[str, TagLayout]) -> None:
    """Raise DatasetError if two files store a tag of the same name differently."""
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            raise DatasetError(
                f"{theirs}: its tag {name!r} is {found[name]}, but in {mine} it is {expected[name]}; expected the same "
                "shape"
            )


def complete_tags(block: Block, layouts: Mapping[str, TagLayout]) -> Block:
    """Add the tags of `layouts` that the block lacks, as absent; return the block."""
    for name, layout in layouts.items():
        if name not in block.tags:
            block.tags[name] = layout.absent(len(block))
    return block
