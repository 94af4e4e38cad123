# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Chains that move to runs of a network, against exact posteriors."""

import math

import numpy as np
import pytest
from exact.answers import ANSWERS, SIGMAS, assert_chain, assert_mean, mcse
from exact.test_cpp import COMMANDS, Restarting
from exact.test_ic_by_hand import NearlyPrior, SkewedSession, seldom_or_often, skewed_session
from exact.test_proposed_runs import LanesOfSkewed

from etalumis import seeds
from etalumis.distributions import Categorical, Normal, Uniform
from etalumis.errors import InferenceError
from etalumis.inference import Posterior
from etalumis.inference.acceptance import AuxiliaryInverseAcceptance
from etalumis.inference.chain import NETWORK_MOVES, Chain
from etalumis.inference.kernel import Settings
from etalumis.inference.network_moves import NetworkMoves
from etalumis.inference.network_rmh import NetworkRmhSettings, sample_with_network_moves
from etalumis.inference.observations import Observations
from etalumis.inference.proposal_controller import proposed_before
from etalumis.inference.proposed_runs import draw_by_draw
from etalumis.inference.runner import ModelRunner
from etalumis.inference.scope_choice import ScopeChoice
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample
from etalumis.ppx import Simulator


def chain_of(model, observations, session, *, beta=1.0, scopes="auto", candidates=4, replays=2):
    """Return a chain at a prior run that can produce the observation, and moves for it."""
    runner = ModelRunner(model, Observations(observations), 5)
    chain = Chain(runner, np.random.default_rng(5), Settings(), beta=beta)
    starts = runner.priors(range(1000), details=True)
    chain.state = chain.structures.state(next(trace for trace in starts if trace.log_likelihood > -math.inf))
    moves = NetworkMoves(
        runner, session, 5, "test", candidates=candidates, replays=replays, shared_replays=replays, scopes=scopes
    )
    return chain, moves


@pytest.mark.parametrize("scopes", ["first-shot", "prior"])
@pytest.mark.parametrize("name", ["gaussian_unknown_mean", "branching", "dependent_loop"])
def test_moves_alone_sample_the_posterior(name, scopes, statistics):
    exact = ANSWERS[name]
    chain, moves = chain_of(examples.model(name), exact.observations, SkewedSession(), scopes=scopes)
    states = []
    for _ in range(statistics.size(2_000, 10_000)):
        moves.move(chain)
        states.append(chain.state.draw())
    assert 0.1 < chain.counts[NETWORK_MOVES][1] / chain.counts[NETWORK_MOVES][0] < 0.95
    posterior = Posterior.from_draws("network_rmh", states, [0.0] * len(states), 0, {})
    assert_chain(posterior, exact)


def test_moves_alone_sample_a_tempered_posterior_whose_scopes_depend_on_a_choice(statistics):
    """The loop accepts with probability 0.02 or 0.6, so a wrong 1/Z would show at once."""
    beta = 0.4
    chain, moves = chain_of(
        FunctionModel(seldom_or_often),
        {"obs": 1.0},
        NearlyPrior(),
        beta=beta,
        scopes="first-shot",
        candidates=6,
        replays=1,
    )
    found = []
    for _ in range(statistics.size(1_500, 8_000)):
        moves.move(chain)
        found.append(chain.state.draw().values["k"])
    x = (np.arange(20_000) + 0.5) / 20_000
    joint = [
        share * np.mean(density / density.mean() * np.exp(-0.5 * beta * ((1.0 - x - k) / 0.3) ** 2))
        for k, (share, density) in enumerate(zip((0.7, 0.3), (2.0 * x, np.minimum(1.2 * x, 1.0)), strict=True))
    ]
    exact = joint[1] / sum(joint)
    assert np.mean(found) == pytest.approx(exact, abs=SIGMAS * mcse(np.array(found)))


@pytest.mark.parametrize("name", list(ANSWERS))
@pytest.mark.parametrize("scopes", ["auto", "first-shot", "prior"])
@pytest.mark.parametrize("unknown", ["", "Normal", "Uniform"])
def test_a_proposed_run_has_the_density_that_it_was_proposed_with(name, scopes, unknown):
    runner = ModelRunner(examples.model(name), Observations(ANSWERS[name].observations), 5)
    choice = ScopeChoice(runner, 5, "test", scopes)
    for i in range(20):
        run = draw_by_draw(runner, SkewedSession(unknown), lambda i=i: seeds.generator(5, "test", i), choice)
        log_weight, proposed_scopes = proposed_before(run.trace, SkewedSession(unknown), runner.addresses, choice)
        if not run.lost:
            assert log_weight == pytest.approx(run.log_weight, rel=1e-12, abs=1e-12)
            assert proposed_scopes == run.proposed_scopes


def test_contexts_with_other_uncontrolled_draws_are_not_shared(statistics):
    """The loop accepts with a probability that depends on an uncontrolled draw; the likelihood does not matter."""

    def model():
        k = sample(Categorical((0.7, 0.3)), control=False, name="k")
        rate = (0.1, 1.2)[int(k)]
        with rejection_scope() as scope:
            while True:
                x = sample(Uniform(0.0, 1.0), name="x")
                if sample(Uniform(0.0, 1.0), name="u") <= rate * x:
                    break
                scope.repeat()
        observe(Normal(0.0, 1.0), name="obs")

    settings = NetworkRmhSettings(temperatures=1, steps=1, candidates=6)
    sweeps = statistics.size(1_500, 8_000)
    posterior = sample_with_network_moves(
        FunctionModel(model), {"obs": 0.0}, NearlyPrior(), runs=sweeps * settings.runs_per_sweep, seed=7, init_runs=50,
        settings=settings,
    )  # fmt: skip
    assert_mean(posterior.values["k"], 0.3, "k")


def test_a_state_that_the_network_never_proposes_stays():
    """Its weight is infinite; only steps leave it."""

    class Narrow(NearlyPrior):
        def _proposal(self, distribution):
            return Uniform(0.0, 0.5)

    def model():
        observe(Normal(sample(Uniform(0.0, 1.0), name="x"), 1.0), name="obs")

    chain, moves = chain_of(FunctionModel(model), {"obs": 0.5}, Narrow())
    for x, moved in ((0.7, False), (0.3, True)):
        starts = moves._runner.priors(range(1000), details=True)
        chain.state = chain.structures.state(next(trace for trace in starts if abs(trace.value[0] - x) < 0.1))
        assert any(moves.move(chain) for _ in range(10)) == moved


def test_auxiliary_estimates_of_a_state_are_biased_by_their_size(statistics):
    """If n is geometric, E[n^2] / E[n] = (2 - Z) / Z; one term of the sum over m replays has this mean."""
    runner = ModelRunner(FunctionModel(seldom_or_often), Observations({"obs": 1.0}), 5)
    trace = next(t for t in runner.priors(range(100), details=True) if t.value[0] == 1.0)
    scope = max(trace.scope)
    acceptance, replays = np.minimum(1.2 * (np.arange(20_000) + 0.5) / 20_000, 1.0).mean(), 3
    state, proposed = [], []
    for k in range(statistics.size(1_000, 10_000)):
        rng = np.random.default_rng(k)
        own = AuxiliaryInverseAcceptance(runner, rng, 1, replays)
        state.append(math.exp(own.state(trace, [scope])))
        assert own.proposed(trace, [scope]) == math.log(state[-1])  # the same context
        proposed.append(math.exp(AuxiliaryInverseAcceptance(runner, rng, 1, replays).proposed(trace, [scope])))
    assert_mean(np.array(proposed), 1.0 / acceptance, "proposed")
    assert_mean(np.array(state), ((replays - 1) / acceptance + (2.0 - acceptance) / acceptance) / replays, "state")


@pytest.mark.parametrize("name", list(ANSWERS))
def test_network_rmh_is_exact(name, statistics):
    exact = ANSWERS[name]
    # few of the skewed runs of Marsaglia's method are likely
    settings = NetworkRmhSettings(temperatures=2, steps=10 if "marsaglia" in name else 2, candidates=4, replays=2)
    sweeps = statistics.size(2_000, 10_000)
    posterior = sample_with_network_moves(
        examples.model(name), exact.observations, skewed_session(name), runs=sweeps * settings.runs_per_sweep, seed=7,
        burn_in=50, init_runs=200, settings=settings,
    )  # fmt: skip
    assert len(posterior) == sweeps - 50
    assert_chain(posterior, exact)


@pytest.mark.parametrize("name", ["marsaglia_replaced", "branching"])
def test_draws_depend_neither_on_the_number_of_runs_in_flight_nor_on_a_restart(name, cpp_examples):
    program, *options = COMMANDS[name]
    settings = NetworkRmhSettings(temperatures=2, steps=3, candidates=5, replays=2)
    found = []
    for session, kind in ((SkewedSession(), Simulator), (LanesOfSkewed(5), Simulator), (LanesOfSkewed(5), Restarting)):
        with kind([str(cpp_examples / program), *options]) as simulator:
            found.append(
                sample_with_network_moves(
                    simulator, ANSWERS[name].observations, session, runs=100 * settings.runs_per_sweep, seed=3,
                    init_runs=50, settings=settings,
                )
            )  # fmt: skip
        assert kind is Simulator or simulator.calls > 5
    for key, values in found[0].values.items():
        for other in found[1:]:
            np.testing.assert_array_equal(other.values[key], values)
    assert session.calls > 0


def narrow():
    """Two latents whose posterior is much narrower than the prior."""
    x = sample(Normal(0.0, 1.0), name="x")
    y = sample(Normal(0.0, 1.0), name="y")
    observe(Normal(x + y, 0.1), name="sum")
    observe(Normal(x - y, 0.1), name="difference")


def test_the_hottest_replica_is_where_runs_of_the_network_are_effective():
    settings = NetworkRmhSettings(temperatures=3, steps=10, candidates=8, replays=1)
    posterior = sample_with_network_moves(
        FunctionModel(narrow), {"sum": 0.0, "difference": 1.0}, SkewedSession(), runs=1_500 * settings.runs_per_sweep,
        seed=7, burn_in=100, init_runs=500, settings=settings,
    )  # fmt: skip
    betas = posterior.info["inverse_temperatures"]
    assert len(betas) == 3
    assert 0.0 <= betas[-1] < 0.3
    assert_mean(posterior.values["x"], 0.5 / (1.0 + 0.5e-2), "x")


def test_a_network_without_a_possible_run_is_an_error():
    def impossible():
        sample(Normal(0.0, 1.0), name="x")
        observe(Uniform(0.0, 1.0), name="obs")

    with pytest.raises(InferenceError, match="weight zero in all of 10 first runs"):
        sample_with_network_moves(
            FunctionModel(impossible), {"obs": 2.0}, SkewedSession(), runs=10_000, seed=1, init_runs=10
        )


def test_settings_are_checked():
    with pytest.raises(InferenceError, match="0 <= burn_in < sweeps"):
        sample_with_network_moves(examples.model("branching"), {"obs": 6}, SkewedSession(), runs=10, seed=1)
    with pytest.raises(InferenceError, match="settings of 1 or more"):
        sample_with_network_moves(
            examples.model("branching"),
            {"obs": 6},
            SkewedSession(),
            runs=10,
            seed=1,
            settings=NetworkRmhSettings(steps=0),
        )
