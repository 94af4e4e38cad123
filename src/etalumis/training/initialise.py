# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Initial values that come from data: scales of the inputs, and categorical proposals."""

import math
from collections.abc import Iterator

import numpy as np

from etalumis.network.embedding import InputScale
from etalumis.network.model import ProposalNetwork
from etalumis.traces.reading.batch import Minibatch
from etalumis.training.evaluate import MinibatchSource
from etalumis.typing import Array

_SAMPLE_TRACES, _SAMPLE_BATCH = 1024, 128
_ROUNDING = 1e-12
"""Largest share of the mean square that is no variance but a rounding error: the element is constant."""


def initialise_from_data(network: ProposalNetwork, traces: MinibatchSource) -> None:
    """Set the scales of the inputs and the initial categorical proposals from a sample of some traces.

    The result is the same on all ranks, since it depends only on the data.
    """
    sums, counts, tags = np.zeros((2, math.prod(network.layers.observation_shape))), _Counts(network, 0), []
    sampled = 0
    for batch in _sample(traces):
        flat = batch.observation.reshape(len(batch), -1).astype(np.float64)
        sums += flat.sum(0), np.square(flat).sum(0)
        sampled += len(batch)
        tags.append(batch.tags)
        counts.add(batch)
    if network.tag_inputs is not None:
        network.tag_inputs.learn_scale(np.concatenate(tags))
    _set_input_scales(network, *(sums / sampled))
    counts.set()


def initialise_rows(network: ProposalNetwork, traces: MinibatchSource, first: int) -> None:
    """Set the initial categorical proposals of the layers from number `first` on, as `initialise_from_data` does."""
    counts = _Counts(network, first)
    for batch in _sample(traces):
        counts.add(batch)
    counts.set()


def _sample(traces: MinibatchSource) -> Iterator[Minibatch]:
    indices = np.linspace(0, len(traces) - 1, min(len(traces), _SAMPLE_TRACES)).astype(np.int64)
    for start in range(0, len(indices), _SAMPLE_BATCH):
        yield traces.batch(indices[start : start + _SAMPLE_BATCH], (0,))


class _Counts:
    """How often each category was drawn, for the categorical layers from number `first` on."""

    def __init__(self, network: ProposalNetwork, first: int) -> None:
        self._network = network
        rows = list(enumerate(network.layers.rows))[first:]
        self._counts = {number: np.zeros(row.categories) for number, row in rows if row.kind == "Categorical"}

    def add(self, batch: Minibatch) -> None:
        for layer, count in self._counts.items():
            count += np.bincount(batch.value[batch.layer == layer].astype(np.int64), minlength=len(count))

    def set(self) -> None:
        for layer, count in self._counts.items():
            share = (count + 0.5) / (count.sum() + 0.5 * len(count))
            self._network.set_categorical_start(layer, np.log(share))


def _set_input_scales(network: ProposalNetwork, mean: Array, square: Array) -> None:
    """Set the scale of each observation from the means of its elements and of their squares.

    An image of three or more dimensions is scaled by its noise if that is known. Other observations are scaled by mean
    and standard deviation, vectors element by element.
    """
    layouts = network.layers.observations
    ends = np.cumsum([layout.size for layout in layouts])[:-1]
    parts = zip(np.split(mean, ends), np.split(square, ends), strict=True)
    for layout, scale, (first, second) in zip(layouts, network.observation.scales, parts, strict=True):
        assert isinstance(scale, InputScale)
        if layout.stddev is not None and len(layout.shape) > 2:
            scale.set(0.0, layout.stddev)
            continue
        if len(layout.shape) > 1:
            first, second = first.mean(), second.mean()
        variance = second - np.square(first)
        spread = np.sqrt(np.where(variance > _ROUNDING * second, variance, 1.0))
        scale.set(first.reshape(scale.shift.shape), spread.reshape(scale.shift.shape))
