# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A simulation of synchronous training on many ranks, from measured times of minibatches and a stated network.

An iteration takes as long as its slowest rank, and then the sum of the gradients. The time of a minibatch is that of
`etalumis.training.costs`, fitted to measured times; the network follows an alpha-beta model.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from etalumis.errors import NetworkError
from etalumis.training.costs import StepCosts, fit_costs
from etalumis.training.distribution import by_cost, by_length
from etalumis.training.phases import Phases
from etalumis.training.trace_kinds import TraceKinds
from etalumis.typing import Array, FloatArray

RANKS_PER_NODE = 2
BUCKETS = 10
"""Buckets by length, as in section 7.2."""
_RANK_STEPS = 8192
"""Minibatches that are simulated for each number of ranks..."""
_MIN_STEPS, _MAX_STEPS = 40, 200
"""...in so many iterations, rounded to a multiple of `BUCKETS`, so that each bucket occurs equally often."""
_SINGLE_STEPS = 5_000
"""Iterations of one rank, whose mean is the reference of all efficiencies."""
_CANDIDATES = 4096
"""Minibatches from which those of a simulated iteration are drawn, if they are made at random."""


@dataclass(frozen=True)
class WorkModel:
    """Seconds of work on a minibatch.

    Attributes
    ----------
    costs
        Fixed, and per trace, token and touched row.
    residuals
        float64 (minibatch,): measured over modelled time, with mean 1.
    """

    costs: StepCosts
    residuals: FloatArray

    @classmethod
    def fit(cls, trainings: Sequence[Phases]) -> "WorkModel":
        """Fit the costs to all ranks and iterations of trainings, whose minibatches must have several sizes.

        Raises
        ------
        NetworkError
            If all minibatches have the same number of traces: this could be a cost of each trace or of each step.
        """
        columns = ((each.traces, each.tokens, each.touched_rows, each.work) for each in trainings)
        traces, tokens, rows, measured = (
            np.concatenate([part.ravel() for part in parts]) for parts in zip(*columns, strict=True)
        )
        if traces.min() == traces.max():
            raise NetworkError(
                f"expected measured minibatches of several sizes, found only those of {traces.min()} traces; add a "
                "training with another batch size"
            )
        costs = fit_costs(traces, tokens, rows, measured)
        ratio = measured / costs.of(traces, tokens, rows)
        return cls(costs, ratio / ratio.mean())

    def seconds(self, counts: FloatArray) -> FloatArray:
        """Return the modelled seconds (minibatch,) of `counts` (minibatch, 3): traces, tokens, touched rows."""
        return self.costs.of(*counts.T)


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


def counts_of(kinds: TraceKinds, minibatches: Sequence[Array]) -> FloatArray:
    """Return traces, tokens and touched rows (minibatch, 3) of minibatches, which are lists of trace numbers."""
    found = np.zeros((len(minibatches), 3))
    for row, traces in enumerate(minibatches):
        types = kinds.types[traces]
        touched = frozenset[int]().union(*(kinds.layers[kind] for kind in np.unique(types)))
        found[row] = len(traces), kinds.tokens[types].sum(), len(touched)
    return found


Draw = Callable[[int, np.random.Generator], FloatArray]
"""Returns the counts (rank, 3) of the minibatches of an iteration, for a number of ranks."""


def samplers(kinds: TraceKinds, batch_size: int, model: WorkModel, rng: np.random.Generator) -> dict[str, Draw]:
    """Return the ways of `training.sampler` to make minibatches, by name.

    Traces are drawn with replacement, since an iteration of thousands of ranks has more traces than a small dataset.
    """
    size = len(kinds.types)
    shuffled = counts_of(kinds, [rng.integers(size, size=batch_size) for _ in range(_CANDIDATES)])
    whole = max(size // batch_size, 1) * batch_size
    chunks = counts_of(kinds, np.array_split(np.arange(size)[:whole], max(size // batch_size, 1)))
    parts = np.array_split(np.argsort(kinds.tokens[kinds.types], kind="stable"), BUCKETS)
    alike = [
        counts_of(kinds, [rng.choice(part, batch_size) for _ in range(_CANDIDATES // BUCKETS)])
        for part in parts
        if len(part)
    ]
    following = itertools.cycle(alike)

    def bucketed(ranks: int, generator: np.random.Generator) -> FloatArray:
        """Take all minibatches of an iteration from one bucket; the buckets take turns."""
        bucket = next(following)
        return np.asarray(bucket[generator.integers(len(bucket), size=ranks)])

    def dealt(ranks: int, generator: np.random.Generator) -> FloatArray:
        return counts_of(kinds, by_length(generator.integers(size, size=batch_size * ranks), kinds, ranks))

    def balanced(ranks: int, generator: np.random.Generator) -> FloatArray:
        traces = generator.integers(size, size=batch_size * ranks)
        return counts_of(kinds, by_cost(traces, kinds, ranks, model.costs))

    def from_all(counts: FloatArray) -> Draw:
        return lambda ranks, generator: np.asarray(counts[generator.integers(len(counts), size=ranks)])

    return {
        "shuffled": from_all(shuffled), "sorted_chunks": from_all(chunks), "buckets": bucketed, "round_robin": dealt,
        "balanced": balanced,
    }  # fmt: skip


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
    draw: Draw,
    model: WorkModel,
    ranks: int,
    sync_s: float,
    rng: np.random.Generator,
    *,
    noise: bool,
    steps: int | None = None,
) -> Scaling:
    """Simulate iterations of synchronous training.

    Parameters
    ----------
    draw, model
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
        Number of iterations; None: fewer for more ranks.
    """
    if steps is None:
        steps = min(max(_RANK_STEPS // ranks // BUCKETS * BUCKETS, _MIN_STEPS), _MAX_STEPS)
    traces, seconds = np.zeros(steps), np.zeros(steps)
    for step in range(steps):
        counts = draw(ranks, rng)
        work = model.seconds(counts)
        if noise:
            work = work * rng.choice(model.residuals, ranks)
        traces[step], seconds[step] = counts[:, 0].sum(), work.max() + sync_s
    return Scaling(traces, seconds)


def weak_scaling(
    draw: Draw,
    model: WorkModel,
    network: Network,
    nbytes: float,
    nodes: Sequence[int],
    stream: Callable[[int], np.random.Generator],
    *,
    noise: bool,
) -> list[tuple[Scaling, float]]:
    """Simulate numbers of nodes with `RANKS_PER_NODE` ranks each; return each simulation and its efficiency.

    The efficiency is the throughput over that of as many single ranks, which sum no gradients.

    Parameters
    ----------
    draw, model, noise
        See `simulate`.
    network, nbytes
        What sums the gradients, and their bytes.
    nodes
        Numbers of nodes.
    stream
        Random generator of each number of nodes; of one rank: 0.
    """
    single = simulate(draw, model, 1, 0.0, stream(0), noise=noise, steps=_SINGLE_STEPS)
    runs = []
    for count in nodes:
        ranks = RANKS_PER_NODE * count
        run = simulate(draw, model, ranks, network.seconds(count, nbytes), stream(count), noise=noise)
        runs.append((run, run.traces_per_s / (ranks * single.traces_per_s)))
    return runs
