# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Collect the tags of traces, one column per name."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from etalumis.names import require_storable
from etalumis.ppx.delegated import DelegatedTrace
from etalumis.traces.block import TagColumn, TagLayout
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.recording.ids import View, slices


class _Column:
    def __init__(self, layout: TagLayout) -> None:
        self.layout = layout
        self.traces = 0
        self._row = int(np.prod(self.layout.shape, dtype=np.int64))
        self._flat: list[np.ndarray] = []
        self._rows: list[int] = []

    def add(self, value: np.ndarray) -> None:
        self._flat.append(value.reshape(-1))
        self._rows.append(len(value) if self.layout.ragged else 1)
        self.traces += 1

    def add_arrays(self, view: View, arrays: np.ndarray) -> None:
        """Add arrays of a message, one per trace, of matching shape."""
        if self.layout.ragged:
            self._flat += slices(view.data, arrays["start"], arrays["count"])
            self._rows += view.extents[arrays["shape_start"]].tolist()
        else:
            starts = arrays["start"].astype(np.int64)
            places = starts if self._row == 1 else (starts[:, None] + np.arange(self._row)).reshape(-1)
            self._flat.append(view.data[places])
            self._rows += [1] * len(arrays)
        self.traces += len(arrays)

    def add_absent(self, traces: int) -> None:
        """Add traces without the tag."""
        if not self.layout.ragged:
            self._flat.append(np.full(traces * self._row, np.nan))
        self._rows += [0] * traces
        self.traces += traces

    def column(self) -> TagColumn:
        content = np.concatenate(self._flat) if self._flat else np.empty(0)
        content = content.reshape(-1, *self.layout.shape)
        if not self.layout.ragged:
            return content
        return Ragged(offsets(np.array(self._rows, np.int64)), {"content": content})


class TagColumns:
    """The tags of traces.

    Parameters
    ----------
    kept
        Names of the tags that are kept; None keeps all.

    Attributes
    ----------
    dropped
        Names of the tags that were not kept.
    """

    def __init__(self, kept: Collection[str] | None) -> None:
        self._kept = kept
        self.dropped: set[str] = set()
        self._columns: dict[str, _Column] = {}
        self._traces = 0

    def add(self, tags: Mapping[str, np.ndarray]) -> None:
        """Add the tags of one trace."""
        for name, given in tags.items():
            value = np.asarray(given, np.float64)
            column = self._column(name, value.shape)
            if column is not None:
                column.add(value)
        self._end(1)

    def add_all(self, view: View, traces: Sequence[DelegatedTrace]) -> None:
        """Add the tags of consecutive traces of a message, directly from its columns if all have the same tags."""
        count = len(traces)
        width = len(view.tags) // count
        numbers: list[int] = view.tags["name"][:width].tolist()
        names = [view.texts[number] for number in numbers]
        shapes = None
        if (view.traces["tags"] == width).all() and len(set(names)) == width and self._plain(view):
            arrays = view.arrays[view.tags["array"]].reshape(count, width)
            same_names = bool((view.tags["name"].reshape(count, width) == numbers).all())
            shapes = view.shapes(arrays) if same_names else None
        if shapes is None:
            for trace in traces:
                self.add(trace.tags)
            return
        for at, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            column = self._column(name, shape)
            if column is not None:
                column.add_arrays(view, arrays[:, at])
        self._end(count)

    @staticmethod
    def _plain(view: View) -> bool:
        """Return whether no trace has an array as its result, which would also be a tag."""
        results = view.traces["result"]
        arrays = view.arrays[results[results >= 0]]
        return bool(((arrays["count"] == 1) & (arrays["sparse"] == 0)).all())

    def _end(self, traces: int) -> None:
        self._traces += traces
        for column in self._columns.values():
            if column.traces < self._traces:
                column.add_absent(self._traces - column.traces)

    def _column(self, name: str, shape: tuple[int, ...]) -> _Column | None:
        """Return the column of a tag, which the first trace with the tag creates; None if the tag is not kept."""
        column = self._columns.get(name)
        if column is None:
            if self._kept is not None and name not in self._kept:
                self.dropped.add(name)
                return None
            require_storable(name, "a tag")
            column = _Column(TagLayout.from_first_value(name, shape))
            if self._traces:
                column.add_absent(self._traces)
            self._columns[name] = column
        else:
            column.layout.require(name, shape)
        return column

    def columns(self) -> dict[str, TagColumn]:
        """Return all columns."""
        return {name: column.column() for name, column in self._columns.items()}
