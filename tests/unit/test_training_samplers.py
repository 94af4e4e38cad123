# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Samplers: which traces an iteration has, how they are distributed over the ranks, and what a minibatch costs."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from example_traces import make_example_traces
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from synthetic_batches import SMALL

from etalumis.layers import LayerTable
from etalumis.network import ProposalNetwork
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.costs import StepCosts, fit_costs
from etalumis.training.distribution import by_cost, by_length, for_measurement
from etalumis.training.sampler import Position, Sampler, StreamOrder
from etalumis.training.trace_kinds import TraceKinds, read_kinds

WAYS = ("shuffled", "sorted_chunks", "buckets", "round_robin", "balanced")
COSTS = StepCosts(0.01, 0.02, 0.001, 0.0005)


def sorted_kinds(size: int, types: int, seed: int = 0) -> TraceKinds:
    """A sorted set: the types are adjacent, the first ones are the most frequent. Each has layers of its own."""
    rng = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, types + 1)
    drawn = np.sort(rng.choice(types, size, p=shares / shares.sum())).astype(np.int32)
    tokens = rng.integers(2, 60, types)
    return TraceKinds(drawn, tokens, tuple(frozenset(range(100 * n, 100 * n + k)) for n, k in enumerate(tokens)))


def epoch_of(samplers: list[Sampler], epoch: int = 0, costs: StepCosts | None = COSTS) -> list[list[np.ndarray]]:
    """The minibatches of all ranks in each iteration of an epoch."""
    position, iterations = Position(epoch), []
    while position.epoch == epoch:
        iterations.append([sampler.indices(position, rank, costs) for rank, sampler in enumerate(samplers)])
        position = samplers[0].advance(position)
    return iterations


@pytest.mark.parametrize("way", WAYS)
@given(size=st.integers(12, 300), batch=st.integers(1, 5), ranks=st.integers(1, 4), measured=st.booleans())
def test_each_trace_occurs_once_per_epoch(way: str, size: int, batch: int, ranks: int, measured: bool) -> None:
    size = max(size, batch * ranks)
    kinds = sorted_kinds(size, 7)
    samplers = [Sampler(size, batch, ranks, 3, way, kinds, buckets=4) for _ in range(ranks)]
    for epoch in (0, 1):
        iterations = epoch_of(samplers, epoch, COSTS if measured else None)
        parts = [part for parts in iterations for part in parts]
        assert all(len(part) for part in parts)
        assert all(sum(map(len, parts)) == batch * ranks for parts in iterations)
        seen = np.concatenate(parts)
        assert len(np.unique(seen)) == len(seen) == size // (batch * ranks) * batch * ranks
        assert 0 <= seen.min() <= seen.max() < size


@pytest.mark.parametrize("way", WAYS)
def test_a_sampler_that_starts_inside_an_epoch_continues_it(way: str) -> None:
    kinds = sorted_kinds(500, 20)
    first, resumed = (Sampler(500, 4, 3, 1, way, kinds) for _ in range(2))
    position = Position(1, 0)
    expected = {}
    for _ in range(30):
        expected[position] = [first.indices(position, rank, COSTS) for rank in range(3)]
        position = first.advance(position)
    for position in list(expected)[17:]:
        for rank in range(3):
            np.testing.assert_array_equal(resumed.indices(position, rank, COSTS), expected[position][rank])


@pytest.mark.parametrize("way", WAYS)
def test_every_trace_is_equally_likely_in_the_first_and_in_the_last_iteration(way: str) -> None:
    """Chi-square over 3,000 epochs of 23 traces, of which 3 are left out of each."""
    kinds = sorted_kinds(23, 4)
    sampler = Sampler(23, 2, 2, 1, way, kinds, buckets=3)
    counts = np.zeros((2, 23))
    for epoch in range(3000):
        for row, offset in enumerate((0, 16)):
            for rank in range(2):
                counts[row, sampler.indices(Position(epoch, offset), rank, COSTS)] += 1
    # chunks of two neighbours are drawn together, which doubles the variance
    dispersion = 2.0 if way == "sorted_chunks" else 1.0
    for row in counts:
        assert stats.chisquare(row).statistic / dispersion < stats.chi2.ppf(1 - 1e-4, 22)


def test_a_sorted_chunk_has_adjacent_traces() -> None:
    kinds = sorted_kinds(640, 8)
    samplers = [Sampler(640, 16, 2, 1, "sorted_chunks") for _ in range(2)]
    parts = [part for parts in epoch_of(samplers) for part in parts]
    assert all((np.diff(part) % 640 == 1).all() for part in parts)
    types = [len(np.unique(kinds.types[part])) for part in parts]
    assert np.mean(types) < 1.5
    assert len({int(part[0]) for part in parts}) == 40


def test_an_iteration_of_a_bucket_has_similar_lengths() -> None:
    kinds = sorted_kinds(1200, 40)
    samplers = [Sampler(1200, 10, 4, 1, "buckets", kinds, buckets=6) for _ in range(4)]
    iterations = [np.concatenate(parts) for parts in epoch_of(samplers)]
    edges = sorted((int(kinds.lengths[i].min()), int(kinds.lengths[i].max())) for i in iterations)
    assert len(iterations) == 30
    # five iterations of each bucket; buckets overlap in one length at most
    for before, after in itertools.pairwise(edges[::5]):
        assert before[1] <= after[0] or before == after
    deviations = [kinds.lengths[i].std() for i in iterations]
    assert np.mean(deviations) < 0.4 * kinds.lengths.std()
    # and successive iterations are of different buckets
    means = [kinds.lengths[i].mean() for i in iterations]
    assert np.abs(np.diff(means)).mean() > 0.5 * kinds.lengths.std()


@pytest.mark.parametrize("way", ["round_robin", "balanced"])
def test_dealing_changes_the_ranks_but_not_the_iterations(way: str) -> None:
    kinds = sorted_kinds(400, 12)
    plain, dealt = ([Sampler(400, 8, 3, 5, name, kinds) for _ in range(3)] for name in ("shuffled", way))
    for one, two in zip(epoch_of(plain), epoch_of(dealt), strict=True):
        assert sorted(np.concatenate(one)) == sorted(np.concatenate(two))


def test_traces_dealt_by_length_give_the_ranks_similar_tokens() -> None:
    kinds = sorted_kinds(64, 30)
    parts = by_length(np.arange(64), kinds, 4)
    assert {len(part) for part in parts} == {16}
    tokens = [int(kinds.lengths[part].sum()) for part in parts]
    # each round of four traces is sorted, so the differences telescope
    assert max(tokens) - min(tokens) <= kinds.lengths.max() - kinds.lengths.min()


def loads(parts: list[np.ndarray], kinds: TraceKinds, costs: StepCosts) -> np.ndarray:
    """The cost of each rank's minibatch."""
    rows = [len(frozenset().union(*(kinds.layers[t] for t in kinds.types[part]))) for part in parts]
    counts = np.array([[len(part), kinds.lengths[part].sum()] for part in parts])
    return costs.of(counts[:, 0], counts[:, 1], np.array(rows))


@pytest.mark.parametrize("seed", range(4))
def test_balanced_costs_are_close_to_the_best_distribution(seed: int) -> None:
    """Against all distributions of nine traces over two ranks; Graham's bound for two ranks is 7/6."""
    kinds, costs = sorted_kinds(9, 5, seed), StepCosts(0.0, 0.02, 0.001, 0.0)
    found = loads(by_cost(np.arange(9), kinds, 2, costs), kinds, costs).max()
    sides = (np.array(side, bool) for side in itertools.product([False, True], repeat=9))
    best = min(
        loads([np.flatnonzero(side), np.flatnonzero(~side)], kinds, costs).max() for side in sides if 0 < side.sum() < 9
    )
    assert best <= found + 1e-12
    assert found <= 7 / 6 * best + 1e-12


def test_balancing_tokens_alone_unbalances_the_embedding() -> None:
    """The observation of section 7.2, and its remedy: the cost of a trace counts too."""
    types = np.array([0] * 3 + [1] * 253, np.int32)
    kinds = TraceKinds(types, np.array([500, 5]), (frozenset({0}), frozenset({1})))
    costs, traces = StepCosts(0.0, 0.02, 0.0005, 0.0), np.arange(256)
    tokens_only, both = (by_cost(traces, kinds, 4, c) for c in (StepCosts(0.0, 0.0, 1.0, 0.0), costs))
    imbalance = [
        float(np.ptp(loads(parts, kinds, costs)) / loads(parts, kinds, costs).mean()) for parts in (tokens_only, both)
    ]
    assert imbalance[0] > 1.0
    assert imbalance[1] < 0.02


def test_free_traces_are_distributed_evenly() -> None:
    parts = by_cost(np.arange(10), sorted_kinds(10, 3), 3, StepCosts(0.0, 0.0, 0.0, 0.0))
    assert sorted(map(len, parts)) == [3, 3, 4]


@pytest.mark.parametrize("ranks", [2, 4])
def test_costs_are_recovered_from_measured_steps(ranks: int) -> None:
    """With noise of 5 % and two disturbed steps; the minibatches are those of a measurement."""
    kinds, rng, true = sorted_kinds(5000, 40), np.random.default_rng(2), StepCosts(0.02, 0.01, 0.0005, 0.0008)
    counts, seconds = [], []
    for _ in range(40):
        for part in for_measurement(rng.choice(5000, 32 * ranks, replace=False), kinds, ranks, rng):
            rows = len(frozenset().union(*(kinds.layers[t] for t in kinds.types[part])))
            counts.append((len(part), kinds.lengths[part].sum(), rows))
            seconds.append(float(true.of(*map(np.array, counts[-1]))) * rng.normal(1.0, 0.05))
    seconds[3] *= 10
    seconds[20] *= 4
    columns = np.array(counts).T
    found = fit_costs(*columns, np.array(seconds))
    error = found.of(*columns) / true.of(*columns) - 1.0
    assert np.abs(error).max() < 0.06
    assert found.per_trace == pytest.approx(true.per_trace, rel=0.25)
    assert found.per_token == pytest.approx(true.per_token, rel=0.25)


@pytest.fixture(scope="module")
def branching(tmp_path_factory: pytest.TempPathFactory) -> tuple[TraceDataset, ProposalNetwork]:
    paths = make_example_traces("branching", tmp_path_factory.mktemp("branching"), 256, 8)
    layers = LayerTable.load(paths.layers)
    return TraceDataset(Path(paths.train), layers), ProposalNetwork(layers, SMALL)


def test_kinds_are_those_of_every_trace(branching: tuple[TraceDataset, ProposalNetwork]) -> None:
    dataset, _ = branching
    kinds, batch = read_kinds(dataset), dataset.batch(np.arange(len(dataset)), (1,))
    assert len(kinds.tokens) > 1
    for trace, layers in enumerate(np.split(batch.layer, batch.offset[1:-1])):
        known = layers[layers >= 0]
        assert kinds.lengths[trace] == len(known)
        assert kinds.layers[kinds.types[trace]] == set(known.tolist())


def test_the_gradient_does_not_depend_on_the_distribution(branching: tuple[TraceDataset, ProposalNetwork]) -> None:
    """The sums over ranks agree to the rounding of float32."""
    dataset, network = branching
    kinds, traces = read_kinds(dataset), np.arange(0, 256, 4)
    costs = StepCosts(0.0, 1.0, 0.3, 0.0)
    rng = np.random.default_rng(0)
    ways = {
        "one rank": [traces],
        "strided": [traces[rank::3] for rank in range(3)],
        "length": by_length(traces, kinds, 3),
        "cost": by_cost(traces, kinds, 3, costs),
        "measurement": for_measurement(traces, kinds, 3, rng),
    }
    sums = {name: summed_gradient(network, dataset, parts) for name, parts in ways.items()}
    for name, found in sums.items():
        scale = sums["one rank"].abs().max()
        assert float((found - sums["one rank"]).abs().max() / scale) < 1e-5, name


def summed_gradient(network: ProposalNetwork, dataset: TraceDataset, parts: list[np.ndarray]) -> torch.Tensor:
    """The gradient of the loss, summed over minibatches, of all parameters in one vector."""
    total = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for part in parts:
        network.zero_grad()
        batch = dataset.batch(part, (1,))
        plan = plan_minibatch(batch, network.grouping)
        leaves = network.leaves(plan)
        network.log_proposal(plan, torch.from_numpy(batch.observation), leaves).sum().backward()
        for name, parameter in network.dense().items():
            total[name] += parameter.grad
        for name, leaf in leaves.items():
            if leaf.value.grad is not None:
                total[f"tables.{name}"].index_add_(0, leaf.rows, leaf.value.grad)
    return torch.cat([value.flatten() for value in total.values()])


def test_a_stream_is_read_once_and_in_order_by_any_number_of_ranks() -> None:
    """Also if the number of ranks changes at the same global minibatch."""
    position, read = Position(), []
    for ranks in (1, 2, 4, 1):
        order = StreamOrder(8 // ranks, ranks)
        position = order.full_batch_from(position)
        read.append(sorted(trace for rank in range(ranks) for trace in order.indices(position, rank).tolist()))
        position = order.advance(position)
    assert read == np.arange(32).reshape(4, 8).tolist()
    assert position == Position(0, 32)
