# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A simulation of synchronous training on many ranks, from measured times of minibatches and a stated network.

An iteration takes as long as its slowest rank, and then the sum of the gradients. The time of a minibatch follows a
linear model in its traces, tokens and touched rows, fitted to measured times; the network follows an alpha-beta model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from etalumis.layers import LayerTable
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.phases import Phases
from etalumis.typing import Array, FloatArray

BUCKETS = 10
"""Buckets by length, as in section 7.2."""
STEPS = 200
"""Simulated iterations for each number of ranks."""
_CANDIDATES = 4096
"""Minibatches from which those of a simulated iteration are drawn, if they are made at random."""


@dataclass(frozen=True)
class CostModel:
    """Seconds of work on a minibatch: fixed, and per trace, token and touched row.

    Attributes
    ----------
    coefficients
        float64 (4,), none negative.
    residuals
        float64 (minibatch,): measured over modelled time, with mean 1.
    """

    coefficients: FloatArray
    residuals: FloatArray

    @classmethod
    def fit(cls, phases: Phases) -> "CostModel":
        """Fit the model to all ranks and iterations of a training, by non-negative least squares."""
        columns = [phases.traces, phases.tokens, phases.touched_rows]
        features = np.stack([np.ones(phases.work.size), *(column.ravel() for column in columns)], axis=1).astype(float)
        measured = phases.work.ravel()
        coefficients, _ = nnls(features, measured)
        ratio = measured / (features @ coefficients)
        return cls(np.asarray(coefficients), ratio / ratio.mean())

    def seconds(self, features: FloatArray) -> FloatArray:
        """Return the modelled seconds (minibatch,) of `features` (minibatch, 3): traces, tokens, touched rows."""
        return np.asarray(self.coefficients[0] + features @ self.coefficients[1:])


@dataclass(frozen=True)
class Network:
    """An alpha-beta model of a sum over nodes: latency of a message, and bytes per second of a node."""

    latency_s: float
    bytes_per_s: float

    def seconds(self, nodes: int, nbytes: float) -> float:
        """Return the time of a sum over nodes by halving and doubling (Thakur, Rabenseifner and Gropp 2005).

        It sends 2 log2 P messages, and 2 (P - 1) / P of the data, from each of P nodes.
        """
        if nodes == 1:
            return 0.0
        return 2 * math.ceil(math.log2(nodes)) * self.latency_s + 2 * (nodes - 1) / nodes * nbytes / self.bytes_per_s


class TraceTypes(NamedTuple):
    """What minibatches of a dataset cost: type of each trace in sorted order, and tokens and layers by type.

    Attributes
    ----------
    type_of
        int64 (trace,).
    tokens
        int64 (type,). Controlled entries with a layer.
    layers
        bool (type, layer). Layers that a trace of the type touches.
    """

    type_of: Array
    tokens: Array
    layers: Array

    @classmethod
    def read(cls, path: Path, layers: LayerTable) -> "TraceTypes":
        """Read them from a sorted dataset; a trace type is a sequence of addresses, so one trace of each is enough."""
        dataset = TraceDataset(path, layers)
        _, first = np.unique(dataset.types, return_index=True)
        batch = dataset.batch(first, (0,))
        present = np.zeros((len(first), len(layers.rows)), bool)
        trace = np.repeat(np.arange(len(first)), np.diff(batch.offset))
        known = batch.layer >= 0
        present[trace[known], batch.layer[known]] = True
        return cls(dataset.types, np.bincount(trace[known], minlength=len(first)), present)

    def features(self, minibatches: list[Array]) -> FloatArray:
        """Return traces, tokens and touched rows (minibatch, 3) of minibatches, which are lists of trace numbers."""
        found = np.zeros((len(minibatches), 3))
        for row, traces in enumerate(minibatches):
            types = self.type_of[traces]
            present = self.layers[np.unique(types)].any(axis=0)
            found[row] = len(traces), self.tokens[types].sum(), present.sum()
        return found


Draw = Callable[[int, np.random.Generator], FloatArray]
"""Returns the features (rank, 3) of the minibatches of an iteration, for a number of ranks."""


def samplers(types: TraceTypes, batch_size: int, cost: CostModel, rng: np.random.Generator) -> dict[str, Draw]:
    """Return the ways to make minibatches: shuffled, sorted, bucketed, dynamic (sections 4.4.3 and 7.2)."""
    size = len(types.type_of)
    shuffled = types.features([rng.integers(size, size=batch_size) for _ in range(_CANDIDATES)])
    whole = max(size // batch_size, 1) * batch_size
    chunks = types.features(np.array_split(np.arange(size)[:whole], max(size // batch_size, 1)))
    by_length = np.argsort(chunks[:, 1], kind="stable")
    buckets = np.array_split(by_length, min(BUCKETS, len(chunks)))
    target_s = float(cost.seconds(chunks).mean())
    dynamic = types.features(equal_cost(types, cost, target_s))

    def bucketed(ranks: int, generator: np.random.Generator) -> FloatArray:
        bucket = buckets[generator.integers(len(buckets))]
        return np.asarray(chunks[generator.choice(bucket, ranks)])

    def from_all(features: FloatArray) -> Draw:
        return lambda ranks, generator: np.asarray(features[generator.integers(len(features), size=ranks)])

    return {
        "shuffled": from_all(shuffled),
        "sorted": from_all(chunks),
        "bucketed": bucketed,
        "dynamic": from_all(dynamic),
    }


def equal_cost(types: TraceTypes, cost: CostModel, target_s: float) -> list[Array]:
    """Return minibatches of adjacent traces whose modelled time is about `target_s`; the last one may be shorter."""
    per_trace = cost.coefficients[1] + cost.coefficients[2] * types.tokens
    fixed, per_row = cost.coefficients[0], cost.coefficients[3]
    minibatches, start, size = [], 0, len(types.type_of)
    present, seconds = np.zeros(types.layers.shape[1], bool), fixed
    for place, kind in enumerate(types.type_of.tolist()):
        added = float(per_trace[kind] + per_row * (types.layers[kind] & ~present).sum())
        if place > start and seconds + 0.5 * added > target_s:
            minibatches.append(np.arange(start, place))
            start, present, seconds = place, np.zeros_like(present), fixed
            added = float(per_trace[kind] + per_row * types.layers[kind].sum())
        present = present | types.layers[kind]
        seconds += added
    if not minibatches or seconds > 0.9 * target_s:
        minibatches.append(np.arange(start, size))
    return minibatches


@dataclass(frozen=True)
class Scaling:
    """Simulated iterations: `traces` and `seconds` (iteration,) over all ranks."""

    traces: FloatArray
    seconds: FloatArray

    @property
    def traces_per_s(self) -> float:
        """Mean throughput over all ranks."""
        return float(self.traces.sum() / self.seconds.sum())

    @property
    def peak_traces_per_s(self) -> float:
        """Throughput of the fastest iteration."""
        return float((self.traces / self.seconds).max())


def simulate(
    draw: Draw, cost: CostModel, ranks: int, sync_s: float, rng: np.random.Generator, *, noise: bool, steps: int = STEPS
) -> Scaling:
    """Simulate iterations of synchronous training.

    Parameters
    ----------
    draw, cost
        How minibatches are made, and what they cost.
    ranks
        Number of ranks.
    sync_s
        Seconds of the sum of the gradients, in which no rank works.
    rng
        Random generator.
    noise
        Whether each minibatch takes a measured residual longer or shorter than the model says.
    steps
        Number of iterations.
    """
    traces, seconds = np.zeros(steps), np.zeros(steps)
    for step in range(steps):
        features = draw(ranks, rng)
        work = cost.seconds(features)
        if noise:
            work = work * rng.choice(cost.residuals, ranks)
        traces[step], seconds[step] = features[:, 0].sum(), work.max() + sync_s
    return Scaling(traces, seconds)
