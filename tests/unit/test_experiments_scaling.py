# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Phases without imbalance, and the simulation of synchronous training, against cases with known results."""

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from example_traces import make_example_traces

from etalumis.errors import NetworkError
from etalumis.experiments.figure4 import actual_s, best_s, imbalance
from etalumis.experiments.simulated_scaling import BUCKETS, Network, WorkModel, counts_of, samplers, simulate
from etalumis.layers import LayerTable
from etalumis.network.grouping import Grouping
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.costs import StepCosts
from etalumis.training.phases import PHASES, WORK, Phases
from etalumis.training.trace_kinds import read_kinds


def phases_of(rng: np.random.Generator, iterations: int, ranks: int, coefficients: tuple[float, ...]) -> Phases:
    """Return phases whose work follows a linear model exactly, in parts that differ by phase."""
    shape = (iterations, ranks)
    traces, tokens, rows = (rng.integers(low, high, shape) for low, high in ((30, 70), (300, 900), (5, 60)))
    work = coefficients[0] + coefficients[1] * traces + coefficients[2] * tokens + coefficients[3] * rows
    shares = {"read": 0.1, "forward": 0.3, "backward": 0.5, "update": 0.1}
    seconds = {name: shares.get(name, 0.0) * work for name in PHASES}
    seconds["sync_wait"] = work.max(axis=1, keepdims=True) - work
    seconds["sync_move"] = np.full(shape, 0.25)
    return Phases(np.arange(1, iterations + 1), seconds, traces, tokens, rows, tokens * 10)


def test_actual_and_best_times_are_those_of_the_paper() -> None:
    """Actual: the rank that works longest in each iteration; best: the mean over ranks (section 6.2)."""
    phases = phases_of(np.random.default_rng(1), 50, 4, (0.1, 1e-3, 1e-4, 1e-3))
    actual, best = (sum(found[name] for name in WORK) for found in (actual_s(phases), best_s(phases)))
    assert actual == pytest.approx(phases.actual_s() / 50)
    assert best == pytest.approx(phases.best_s() / 50)
    assert imbalance(phases) == pytest.approx(1 - best / actual)
    assert imbalance(phases) > 0.05
    # an iteration ends for all ranks together, so waiting is what separates the two
    assert phases.seconds["sync_wait"].mean() == pytest.approx(actual - best)


def test_the_cost_model_recovers_its_coefficients() -> None:
    coefficients = (0.02, 2e-3, 5e-5, 1e-4)
    model = WorkModel.fit([phases_of(np.random.default_rng(2), 100, 2, coefficients)])
    np.testing.assert_allclose(astuple(model.costs), coefficients, rtol=1e-6)
    np.testing.assert_allclose(model.residuals, 1.0)


def test_minibatches_of_one_size_give_no_cost_model() -> None:
    """Their constant time could be that of each step or of each trace, which decides how well ranks can be balanced."""
    phases = phases_of(np.random.default_rng(2), 100, 2, (0.02, 2e-3, 5e-5, 1e-4))
    equal = replace(phases, traces=np.full_like(phases.traces, 64))
    with pytest.raises(NetworkError, match="several sizes, found only those of 64 traces"):
        WorkModel.fit([equal])


def test_a_sum_over_nodes_takes_messages_and_data() -> None:
    network = Network(latency_s=1e-3, bytes_per_s=1e6)
    assert network.seconds(1, 1e6) == 0.0
    assert network.seconds(4, 1e6) == pytest.approx(2 * 2 * 1e-3 + 2 * 0.75)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_an_iteration_takes_as_long_as_its_slowest_rank(ranks: int) -> None:
    """Minibatches of one or two seconds, equally likely: the maximum of n has mean 2 - 2^-n."""
    model = WorkModel(StepCosts(0.0, 1.0, 0.0, 0.0), np.ones(1))
    rng = np.random.default_rng(3)

    def draw(count: int, generator: np.random.Generator) -> np.ndarray:
        return np.stack([generator.integers(1, 3, count), np.zeros(count), np.zeros(count)], axis=1).astype(float)

    steps = 4000
    run = simulate(draw, model, ranks, 0.5, rng, noise=False, steps=steps)
    deviation = np.sqrt(2.0**-ranks * (1 - 2.0**-ranks) / steps)
    assert run.seconds.mean() == pytest.approx(2.5 - 2.0**-ranks, abs=5 * deviation)
    assert run.traces_per_s == pytest.approx(run.traces.sum() / run.seconds.sum())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LayerTable]:
    traces = make_example_traces("branching", tmp_path_factory.mktemp("branching"), 500, 10)
    return traces.train, LayerTable.load(traces.layers)


def test_the_features_of_minibatches_are_those_of_training(dataset: tuple[Path, LayerTable]) -> None:
    path, layers = dataset
    data = TraceDataset(path, layers)
    kinds = read_kinds(data)
    rng = np.random.default_rng(4)
    minibatches = [rng.integers(len(data), size=size) for size in (1, 3, 40)]
    for numbers, found in zip(minibatches, counts_of(kinds, minibatches), strict=True):
        plan = plan_minibatch(data.batch(numbers, (0,)), Grouping.of(layers))
        assert found.tolist() == [len(numbers), len(plan), len(plan.touched)]


def test_the_minibatches_of_a_bucket_have_traces_of_similar_length(dataset: tuple[Path, LayerTable]) -> None:
    """As `BucketOrder` makes them: an iteration has random traces of one bucket, and the buckets take turns."""
    kinds = read_kinds(TraceDataset(*dataset))
    model = WorkModel(StepCosts(0.0, 0.0, 1.0, 0.0), np.ones(1))
    draw = samplers(kinds, 8, model, np.random.default_rng(5))["buckets"]
    lengths = np.sort(kinds.tokens[kinds.types])
    for part in np.array_split(lengths, BUCKETS) * 2:
        tokens = draw(50, np.random.default_rng(7))[:, 1]
        assert 8 * part.min() <= tokens.min() <= tokens.max() <= 8 * part.max()


def test_balanced_minibatches_scale_better(dataset: tuple[Path, LayerTable]) -> None:
    model = WorkModel(StepCosts(0.1, 0.0, 1.0, 0.0), np.ones(1))  # tokens only: length is all that counts
    drawn = samplers(read_kinds(TraceDataset(*dataset)), 8, model, np.random.default_rng(5))
    efficiency = {}
    for name, draw in drawn.items():
        one, many = (simulate(draw, model, n, 0.0, np.random.default_rng(6), noise=False) for n in (1, 64))
        efficiency[name] = many.traces_per_s / (64 * one.traces_per_s)
    assert efficiency["balanced"] > 0.95
    assert efficiency["balanced"] > efficiency["shuffled"]
    assert efficiency["round_robin"] > efficiency["shuffled"]
    assert efficiency["buckets"] > efficiency["sorted_chunks"]
    assert max(efficiency.values()) <= 1.05
