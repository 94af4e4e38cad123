# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Collect what the traces of a dataset observe, one column for each observe statement."""

from collections.abc import Sequence

import numpy as np

from etalumis import seeds
from etalumis.distributions import Normal, SparseNormal
from etalumis.ppx.columns import STATED, VALUE
from etalumis.ppx.messages import ObserveRecord
from etalumis.trace import Observed
from etalumis.traces.block import NOISY, Expected, Layout, Observation
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.recording.keyed import View


class ObservationColumn:
    """Values of one observe statement, trace by trace.

    Attributes
    ----------
    layout
        How they are stored.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._index: list[np.ndarray] = []
        self._mean: list[np.ndarray] = []
        self._stddev: list[float] = []
        self._value: list[np.ndarray] = []

    def add(self, observed: Observed, seed: int) -> None:
        """Add what one trace observed; a value that the simulator left to us is drawn from the trace's seed."""
        if self.layout.storage == NOISY:
            self._value.append(np.asarray(_value(observed, seed), np.float32).reshape(-1))
            return
        distribution = observed.stated
        if isinstance(distribution, SparseNormal):
            index, means, stddev = distribution.positions, distribution.means, distribution.stddev
        else:
            mean = np.broadcast_to(distribution.arrays[0], distribution.shape).reshape(-1)
            index = np.flatnonzero(mean)
            means, stddev = mean[index], float(distribution.arrays[1].reshape(()))
        self._index.append(index)
        self._mean.append(means)
        self._stddev.append(stddev)

    def add_records(self, view: View, records: Sequence[ObserveRecord]) -> bool:
        """Add sparse images, one a trace, straight from the columns of a message.

        Returns
        -------
        bool
            False, and nothing is added, where any of them is no such image of this layout.
        """
        name = records[0].name
        stated = {(record.kind, record.name, record.flags & (STATED | VALUE)) for record in records}
        if self.layout.storage == NOISY or stated != {(Normal.code, name, STATED)}:
            return False
        arrays = view.arrays
        # columns of the records: thousands of them come through here
        starts, sizes, shapes, places = zip(*[arrays[record.arrays] for record in records], strict=True)
        # the standard deviation is the array behind the mean
        at, counts, extents, sparse = zip(*[arrays[record.arrays + 1] for record in records], strict=True)
        fit = (
            view.texts[name] == self.layout.name
            and set(shapes) == {self.layout.shape}
            and min(places) >= 0
            and set(counts) == {1}
            and max(sparse) < 0
            and max(len(extent) for extent in set(extents)) <= len(self.layout.shape)
        )
        if fit:
            positions, data = view.positions, view.data
            self._index += [positions[place : place + size] for place, size in zip(places, sizes, strict=True)]
            self._mean += [data[start : start + size] for start, size in zip(starts, sizes, strict=True)]
            self._stddev += data[list(at)].tolist()
        return fit

    def column(self) -> Observation:
        """Return all values."""
        if self.layout.storage == NOISY:
            return np.stack(self._value)
        lengths = np.array([len(index) for index in self._index], np.int64)
        index = np.concatenate(self._index, dtype=self.layout.index_dtype, casting="unsafe")
        mean = np.concatenate(self._mean, dtype=np.float32, casting="unsafe")
        return Expected(Ragged(offsets(lengths), {"index": index, "mean": mean}), np.array(self._stddev, np.float64))


def _value(observed: Observed, seed: int) -> np.ndarray:
    if observed.value is not None:
        return observed.value
    return observed.stated.sample(seeds.generator(seed, f"observation/{observed.name}", 0))
