# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Selections of traces and their rows in columns: consecutive traces of a file, or any traces of several files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.block import EXPECTED, Expected, Layout, ObservationColumn
from etalumis.traces.format import observation_path
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.reading.gather import RowGatherer


class Selection(Protocol):
    """A selection of traces."""

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of a dataset with one row per trace."""
        ...

    def lists(self, offset: str, group: str, columns: Sequence[str]) -> Ragged:
        """Return lists: datasets of `group` whose offsets are the dataset `offset`."""
        ...


class Window:
    """Traces `start:stop` of the file `path`; `slice_of` returns a slice of a dataset by name, start and stop."""

    def __init__(self, path: Path, slice_of: Callable[[str, int, int], np.ndarray], start: int, stop: int) -> None:
        self._path, self._slice, self._start, self._stop = path, slice_of, start, stop

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of a dataset with one row per trace."""
        return self._slice(name, self._start, self._stop)

    def lists(self, offset: str, group: str, columns: Sequence[str]) -> Ragged:
        """Return lists: datasets of `group` whose offsets are the dataset `offset`."""
        places = self._slice(offset, self._start, self._stop + 1)
        falls = np.flatnonzero(np.diff(places) < 0)
        if len(falls):
            raise DatasetError(
                f"{self._path}: column {offset!r} was altered: it decreases at trace {self._start + int(falls[0])}; "
                "delete the file and generate it again"
            )
        first, last = int(places[0]), int(places[-1])
        return Ragged(places - first, {name: self._slice(f"{group}/{name}", first, last) for name in columns})


class RowSelection:
    """Traces `row[i]` of file `file[i]` for every i; `gatherer` returns the gatherer of a dataset by name."""

    def __init__(self, gatherer: Callable[[str], RowGatherer], file: np.ndarray, row: np.ndarray) -> None:
        self._gatherer, self._file, self._row = gatherer, file, row

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of a dataset with one row per trace."""
        return self._gatherer(name).rows(self._file, self._row)

    def lists(self, offset: str, group: str, columns: Sequence[str]) -> Ragged:
        """Return lists: datasets of `group` whose offsets are the dataset `offset`."""
        ends = self._gatherer(offset).rows(np.tile(self._file, 2), np.concatenate([self._row, self._row + 1]))
        start, stop = ends[: len(self._row)], ends[len(self._row) :]
        content = {name: self._gatherer(f"{group}/{name}").ranges(self._file, start, stop) for name in columns}
        return Ragged(offsets(stop - start), content)


def stored_observation(part: Selection, layout: Layout) -> ObservationColumn:
    """Return the stored column of one observe statement."""
    group = observation_path(layout.name)
    if layout.storage != EXPECTED:
        stored = part.rows(f"{group}/value")
        return stored.reshape(len(stored), layout.size)
    return Expected(part.lists(f"{group}/offset", group, ("step", "mean")), part.rows(f"{group}/stddev"))
