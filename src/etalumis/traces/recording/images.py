# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Collect the observations of traces, one column per observe statement."""

import numpy as np

from etalumis import seeds
from etalumis.distributions import Normal, SparseNormal
from etalumis.ppx.columns import STATED, VALUE
from etalumis.trace import Observed
from etalumis.traces.block import NOISY, Expected, Layout, ObservationColumn
from etalumis.traces.ragged import offsets
from etalumis.traces.recording.ids import View, slices


class ImageBuilder:
    """Values of one observe statement, trace by trace.

    Attributes
    ----------
    layout
        How the values are stored.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._index: list[np.ndarray] = []
        self._mean: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._stddev: list[np.ndarray] = []
        self._value: list[np.ndarray] = []

    def add(self, observed: Observed, seed: int) -> None:
        """Add the observation of one trace; if the simulator gave no value, draw it with the seed of the trace."""
        if self.layout.storage == NOISY:
            self._value.append(np.asarray(_value(observed, seed), np.float32).reshape(-1))
            return
        distribution = observed.likelihood
        if isinstance(distribution, SparseNormal):
            index, means, stddev = distribution.positions, distribution.means, distribution.stddev
        else:
            mean = np.broadcast_to(distribution.arrays[0], distribution.shape).reshape(-1)
            index = np.flatnonzero(mean)
            means, stddev = mean[index], float(distribution.arrays[1].reshape(()))
        self._index.append(index)
        self._mean.append(means)
        self._lengths.append(np.array([len(index)]))
        self._stddev.append(np.array([stddev]))

    def add_records(self, view: View, records: np.ndarray) -> bool:
        """Add sparse images, one per trace, directly from the columns of a message.

        Returns
        -------
        bool
            False if any of them is not a sparse image of this layout; then nothing is added.
        """
        name, shape = int(records["name"][0]), self.layout.shape
        if self.layout.storage == NOISY or view.texts[name] != self.layout.name:
            return False
        stated = records["flags"] & (STATED | VALUE) == STATED
        if not (stated & (records["kind"] == Normal.code) & (records["name"] == name)).all():
            return False
        # the standard deviation is the array after the mean
        number = records["arrays"].astype(np.int64)
        image, stddev = view.arrays[number], view.arrays[number + 1]
        sparse = (image["sparse"] != 0) & (image["rank"] == len(shape))
        one = (stddev["count"] == 1) & (stddev["sparse"] == 0) & (stddev["rank"] <= len(shape))
        fit = bool((sparse & one).all()) and bool((view.extents_of(image, len(shape)) == shape).all())
        if fit:
            self._index += slices(view.positions, image["index_start"], image["count"])
            self._mean += slices(view.data, image["start"], image["count"])
            self._lengths.append(image["count"])
            self._stddev.append(view.data[stddev["start"]])
        return fit

    def column(self) -> ObservationColumn:
        """Return all values."""
        if self.layout.storage == NOISY:
            return np.stack(self._value)
        index = np.concatenate(self._index, dtype=self.layout.index_dtype, casting="unsafe")
        mean = np.concatenate(self._mean, dtype=np.float32, casting="unsafe")
        return Expected.of_index(offsets(np.concatenate(self._lengths)), index, mean, np.concatenate(self._stddev))


def _value(observed: Observed, seed: int) -> np.ndarray:
    if observed.value is not None:
        return observed.value
    return observed.likelihood.sample(seeds.generator(seed, f"observation/{observed.name}", 0))
