# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Exact posteriors of the models in C++, through PPX."""

import numpy as np
import pytest
from exact.answers import ANSWERS, assert_chain, assert_population, assert_weighted
from exact.test_ic_by_hand import SkewedSession, skewed_session

from etalumis.inference import SmcSettings, importance, rmh
from etalumis.inference.compilation import sample_with_proposals
from etalumis.inference.smc import sample_population
from etalumis.ppx import Simulator

COMMANDS = {
    "gaussian_unknown_mean": ["gaussian"],
    "marsaglia": ["marsaglia"],
    "marsaglia_replaced": ["marsaglia", "--replaced"],
    "branching": ["branching"],
    "linear_gaussian": ["linear_gaussian"],
}


class Stepwise(Simulator):
    """Makes no chain steps itself: every step is a message, as with other front ends."""

    can_step = False


WAYS = ("by itself", "stepwise", "asked")
# a vector, drawn element by element with a message for each, takes a minute; it is asked in tests/interop
PAIRS = [(way, name) for way in WAYS for name in COMMANDS if (way, name) != ("asked", "linear_gaussian")]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[1]}-{pair[0]}", scope="module")
def named_simulator(request, cpp_examples):
    way, name = request.param
    program, *options = COMMANDS[name]
    kind = Stepwise if way == "stepwise" else Simulator
    with kind([str(cpp_examples / program), *options], delegate=way != "asked") as simulator:
        assert (simulator.delegates, simulator.can_step) == (way != "asked", way == "by itself")
        yield name, simulator


def test_importance_sampling_through_cpp(named_simulator, statistics):
    name, simulator = named_simulator
    posterior = importance(simulator, ANSWERS[name].observations, runs=statistics.size(8_000, 20_000), seed=31)
    assert_weighted(posterior, ANSWERS[name])


def test_rmh_through_cpp(named_simulator, statistics):
    name, simulator = named_simulator
    runs = statistics.size(12_000, 20_000) * (2 if name.startswith("marsaglia") else 1)
    posterior = rmh(simulator, ANSWERS[name].observations, runs=runs, burn_in=200, seed=32)
    assert_chain(posterior, ANSWERS[name])


def test_weighted_proposals_through_cpp(named_simulator, statistics):
    name, simulator = named_simulator
    runs = statistics.size(2_000, 4_000) * (6 if name.startswith("marsaglia") else 1)
    posterior = sample_with_proposals(simulator, ANSWERS[name].observations, skewed_session(name), runs=runs, seed=33)
    assert_weighted(posterior, ANSWERS[name])
    assert (posterior.info["replay_runs"] > 0) == (name == "marsaglia_replaced")


def test_populations_through_cpp(named_simulator, statistics):
    name, simulator = named_simulator
    settings = SmcSettings(statistics.size(200, 1_000), statistics.size(400, 2_000), 0.7, entry_moves=3, block_moves=3)
    posterior = sample_population(
        simulator, ANSWERS[name].observations, skewed_session(name), seed=34, settings=settings
    )
    assert_population(posterior, ANSWERS[name])


def test_a_hidden_markov_model_through_cpp(cpp_examples, statistics):
    exact = ANSWERS["hidden_markov"]
    settings = SmcSettings(statistics.size(400, 2_000), statistics.size(800, 4_000), 0.7, entry_moves=3, block_moves=3)
    with Simulator([str(cpp_examples / "hidden_markov")]) as simulator:
        assert_weighted(importance(simulator, exact.observations, runs=8_000, seed=31), exact)
        assert_chain(rmh(simulator, exact.observations, runs=24_000, burn_in=200, seed=32), exact)
        proposed = sample_with_proposals(simulator, exact.observations, SkewedSession(), runs=4_000, seed=33)
        assert_weighted(proposed, exact)
        population = sample_population(simulator, exact.observations, SkewedSession(), seed=34, settings=settings)
        assert_population(population, exact)


class Restarting(Simulator):
    """Replaces its process in the middle of the work, as after a failure."""

    calls = 0

    def carry_out_each(self, requests, addresses):
        self.calls += 1
        if self.calls == 5:
            self.restart()
        return super().carry_out_each(requests, addresses)


def test_a_restart_changes_no_draw_of_a_population(cpp_examples):
    found = []
    for kind in (Simulator, Restarting):
        with kind([str(cpp_examples / "marsaglia"), "--replaced"]) as simulator:
            observations = ANSWERS["marsaglia_replaced"].observations
            settings = SmcSettings(60, 60, 0.7, entry_moves=1, block_moves=3)
            found.append(sample_population(simulator, observations, None, seed=35, settings=settings))
            assert kind is Simulator or simulator.calls > 5
    for name, values in found[0].values.items():
        np.testing.assert_array_equal(values, found[1].values[name])
    assert found[0].info["acceptance"] == found[1].info["acceptance"]
