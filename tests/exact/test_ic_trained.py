# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference compilation with trained networks: exact posteriors, and more effective draws than prior proposals."""

import functools

import pytest
from exact.answers import ANSWERS, assert_weighted
from example_traces import make_example_traces
from mpi4py import MPI
from synthetic_batches import SMALL

from etalumis.config import from_mapping
from etalumis.inference import compilation, importance
from etalumis.models import examples
from etalumis.network import checkpoint
from etalumis.ppx import Simulator
from etalumis.training import prepare

TRAIN, VALID, EPOCHS = 2048, 256, 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the network of an example, by name; each is trained once."""

    @functools.cache
    def network(name, simulator=None):
        folder = tmp_path_factory.mktemp(name)
        traces = make_example_traces(name, folder / "traces", TRAIN, VALID, simulator)
        training = {"batch_size": 32, "learning_rate": 1e-2, "learning_rate_end": 1e-4, "warmup_iterations": 5}
        budget = {"max_traces": TRAIN * EPOCHS, "max_minutes": 60.0, "valid_every": 128}
        shape = SMALL.model_dump() | {"mixture_components": 3}
        config = from_mapping({"network": shape, "training": training | budget})
        prepare.train(config, traces.layers, traces.train, traces.valid, folder / "network", MPI.COMM_SELF)
        return checkpoint.load(folder / "network")

    return network


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        ("gaussian_unknown_mean", "first-shot"),
        ("marsaglia_replaced", "first-shot"),
        ("branching", "first-shot"),
        ("linear_gaussian", "first-shot"),
        ("dependent_loop", "first-shot"),
        ("dependent_loop", "prior"),
    ],
)
def test_a_trained_network_gives_the_exact_posterior(trained, name, scopes, statistics):
    exact = ANSWERS[name]
    posterior = compilation(
        examples.model(name),
        exact.observations,
        trained(name),
        runs=statistics.size(2_000, 8_000),
        seed=14,
        scopes=scopes,
    )
    assert posterior.info["unknown_address_fraction"] < 0.01
    assert_weighted(posterior, exact)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("gaussian_unknown_mean", ["gaussian"]),
        ("marsaglia_replaced", ["marsaglia", "--replaced"]),
        ("linear_gaussian", ["linear_gaussian"]),
    ],
)
def test_a_network_trained_on_a_cpp_simulator(trained, cpp_examples, name, command, statistics):
    """The whole path through PPX: its traces train the network, which then proposes its draws, delegated or asked."""
    exact = ANSWERS[name]
    program = [str(cpp_examples / command[0]), *command[1:]]
    with Simulator(program) as simulator, Simulator(program, delegate=False) as asked:
        network = trained(name, simulator)
        for peer in (simulator, asked):
            posterior = compilation(peer, exact.observations, network, runs=statistics.size(1_000, 8_000), seed=14)
            assert posterior.info["unknown_address_fraction"] < 0.01
            assert_weighted(posterior, exact)


@pytest.mark.parametrize("name", ["gaussian_unknown_mean", "marsaglia_replaced"])
def test_training_increases_the_effective_sample_size(trained, name, statistics):
    exact, model, runs = ANSWERS[name], examples.model(name), statistics.size(2_000, 8_000)
    prior = importance(model, exact.observations, runs=runs, seed=15)
    proposed = compilation(model, exact.observations, trained(name), runs=runs, seed=15)
    assert kish(proposed) > 3 * kish(prior)


def kish(posterior):
    """Return the effective sample size of weighted draws."""
    return 1.0 / float((posterior.weight**2).sum())
