# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs proposed in advance, many at a time: the same draws as one message per draw, and exact posteriors."""

import math

import numpy as np
import pytest
from exact.answers import ANSWERS, assert_weighted
from exact.test_cpp import COMMANDS
from exact.test_ic_by_hand import SkewedSession, skewed_session
from scipy import integrate, stats

from etalumis.distributions import Categorical, Normal, Uniform
from etalumis.errors import SimulatorError
from etalumis.inference import scope_choice
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.compilation import sample_with_proposals
from etalumis.inference.proposal_controller import Proposal, ProposalSource
from etalumis.inference.proposed_runs import ProposedRuns
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample
from etalumis.ppx import Simulator

OBSERVED = {"track": np.array([1.2, 0.8]), "shares": None}


class LanesOfSkewed(ProposalSource):
    """A `SkewedSession` per lane."""

    def __init__(self, lanes, unknown="", name=""):
        self.sessions = [skewed_session(name, unknown) for _ in range(lanes)]
        self.calls = self.asked_alone = 0

    @property
    def lanes(self):
        return len(self.sessions)

    def begin(self, lane=0):
        self.sessions[lane].begin()

    def knows(self, address):
        return not (self.sessions[0].unknown and self.sessions[0].unknown in address)

    def propose(self, address, distribution, rng):
        self.asked_alone += 1
        return self.sessions[0].propose(address, distribution, rng)

    def log_density(self, address, distribution, value):
        return self.sessions[0].log_density(address, distribution, value)

    def propose_all(self, lanes, addresses, distributions, rngs):
        self.calls += 1
        found = []
        for lane, address, distribution, rng in zip(lanes, addresses, distributions, rngs, strict=True):
            value, log_q = self.sessions[lane].propose(address, distribution, rng)
            found.append(Proposal(value, log_q, distribution.log_prob(value)))
        return found


class Drifted(SkewedSession):
    """Proposes from the prior, whatever its kind."""

    def propose(self, address, distribution, rng):
        if self.unknown and self.unknown in address:
            return None
        value = distribution.sample(rng)
        return value, distribution.log_prob(value)

    def log_density(self, address, distribution, value):
        return None if self.unknown and self.unknown in address else distribution.log_prob(value)


class LanesOfDrifted(LanesOfSkewed):
    def __init__(self, lanes, unknown=""):
        super().__init__(lanes)
        self.sessions = [Drifted(unknown) for _ in range(lanes)]


def assert_same_draws(found, expected):
    np.testing.assert_array_equal(found.log_weight, expected.log_weight)
    np.testing.assert_array_equal(found.log_likelihood, expected.log_likelihood)
    assert set(found.values) == set(expected.values)
    for name, column in expected.values.items():
        np.testing.assert_array_equal(found.values[name], column, err_msg=name)
    for key in ("lost_share", "unknown_address_fraction", "replay_runs", "zero_weights"):
        assert found.info[key] == expected.info[key], key


@pytest.mark.parametrize("scopes", ["auto", "first-shot", "prior"])
@pytest.mark.parametrize("name", list(COMMANDS))
def test_draws_are_those_of_runs_that_ask(name, scopes, cpp_examples):
    program, *options = COMMANDS[name]
    runs = 1_000
    with Simulator([str(cpp_examples / program), *options]) as simulator:
        assert simulator.takes_proposals

        def posterior(session):
            return sample_with_proposals(
                simulator, ANSWERS[name].observations, session, runs=runs, seed=33, scopes=scopes
            )

        asking = posterior(SkewedSession())
        for lanes in (2, 50):
            session = LanesOfSkewed(lanes)
            assert_same_draws(posterior(session), asking)
            # the loop of this model draws all entries by itself
            assert (session.calls == 0) == (name == "marsaglia_replaced" and scopes == "prior")
        assert session.calls < runs  # several runs per call


@pytest.mark.parametrize("scopes", ["auto", "prior"])
@pytest.mark.parametrize("name", list(examples.ALL))
def test_draws_of_python_models_are_those_of_runs_that_ask(name, scopes):
    def posterior(session):
        return sample_with_proposals(
            examples.model(name), ANSWERS[name].observations, session, runs=300, seed=3, scopes=scopes
        )

    asking, session = posterior(skewed_session(name)), LanesOfSkewed(20, name=name)
    assert_same_draws(posterior(session), asking)
    assert session.calls < 300
    assert session.asked_alone < 300


def test_draws_are_those_of_runs_that_ask_if_a_scope_is_left_to_the_model(cpp_examples, tmp_path, monkeypatch):
    """The loop of the model needs 4 / pi repetitions, which is too many here: no run is lost; also if interrupted."""
    monkeypatch.setattr(scope_choice, "MAX_REPETITIONS", 1.0)
    saved = []

    class Noted(Checkpoint):
        def save(self, posterior, state):
            saved.append(state["counts"]["drawn"])
            super().save(posterior, state)
            raise KeyboardInterrupt

    program, *options = COMMANDS["marsaglia_replaced"]
    with Simulator([str(cpp_examples / program), *options]) as simulator:

        def posterior(session, checkpoint=None):
            return sample_with_proposals(
                simulator, ANSWERS["marsaglia_replaced"].observations, session, runs=300, seed=9, checkpoint=checkpoint
            )

        asking = posterior(SkewedSession())
        assert asking.info["lost_share"] == 0.0
        assert_same_draws(posterior(LanesOfSkewed(20)), asking)
        with pytest.raises(KeyboardInterrupt):
            posterior(LanesOfSkewed(20), Noted(tmp_path / "part.h5", {}, interval_s=0.0))
        assert [list(drawn.values()) for drawn in saved] == [[True]]
        assert_same_draws(posterior(LanesOfSkewed(3), Checkpoint(tmp_path / "part.h5", {})), asking)


@pytest.mark.parametrize("unknown", ["", "Bernoulli", "Exponential", "Uniform", "Normal", "Binomial"])
def test_draws_are_those_of_runs_that_ask_whatever_the_model_does(unknown, cpp_examples):
    """Priors that never repeat, optional scopes, uncontrolled entries inside and outside of scopes."""
    with Simulator([str(cpp_examples / "drifting")]) as simulator:

        def posterior(session):
            return sample_with_proposals(simulator, OBSERVED, session, runs=300, seed=2)

        asking = posterior(Drifted(unknown))
        assert 0.05 < asking.info["lost_share"] < 0.9 or unknown == "Exponential"
        assert_same_draws(posterior(LanesOfDrifted(20, unknown)), asking)


def test_guessing_stops_if_it_does_not_pay(cpp_examples):
    with Simulator([str(cpp_examples / "drifting"), "--steps", "12"]) as simulator:
        found = sample_with_proposals(simulator, OBSERVED, LanesOfDrifted(20), runs=300, seed=2, scopes="prior")
    assert found.info["simulator_runs"] < 600


@pytest.mark.parametrize("name", list(COMMANDS))
def test_posteriors_are_exact(name, cpp_examples, statistics):
    program, *options = COMMANDS[name]
    runs = statistics.size(4_000, 20_000) * (4 if name.startswith("marsaglia") else 1)
    with Simulator([str(cpp_examples / program), *options]) as simulator:
        session = LanesOfSkewed(64, name=name)
        posterior = sample_with_proposals(simulator, ANSWERS[name].observations, session, runs=runs, seed=34)
    assert_weighted(posterior, ANSWERS[name])


@pytest.mark.parametrize("lanes", [64, 65, 300])
def test_guessing_goes_on_with_any_number_of_lanes(lanes, cpp_examples):
    """The first round has nothing to guess with."""
    with Simulator([str(cpp_examples / "branching")]) as simulator:
        session = LanesOfSkewed(lanes)
        sample_with_proposals(simulator, ANSWERS["branching"].observations, session, runs=2_000, seed=34)
    assert session.asked_alone < 100
    assert session.calls > 10


class Dying(Simulator):
    """Is killed in some of its calls of `carry_out_each`."""

    dies_at: frozenset[int] = frozenset()
    calls = 0

    def carry_out_each(self, requests, addresses):
        self.calls += 1
        if self.calls in self.dies_at:
            self.close()
            raise SimulatorError("killed by the test")
        return super().carry_out_each(requests, addresses)


def test_a_killed_simulator_is_replaced_and_the_draws_are_the_same(cpp_examples):
    def posterior(simulator):
        observations = ANSWERS["marsaglia_replaced"].observations
        return sample_with_proposals(simulator, observations, LanesOfSkewed(10), runs=100, seed=5)

    command = [str(cpp_examples / "marsaglia"), "--replaced"]
    with Simulator(command) as simulator, Dying(command) as dying:
        dying.dies_at = frozenset({2, 5})
        found = posterior(dying)
        assert dying.calls > 5
        assert_same_draws(found, posterior(simulator))


def test_rows_of_an_earlier_session_are_not_sent(cpp_examples, monkeypatch):
    """The numbers of priors differ between sessions: another prior must not be taken for the expected one."""
    sent = []
    original = ProposedRuns._plan

    def plan(self, lane):
        made = original(self, lane)
        sent.append(made.rows)
        return made

    monkeypatch.setattr(ProposedRuns, "_plan", plan)
    command = [str(cpp_examples / "gaussian")]
    observations = ANSWERS["gaussian_unknown_mean"].observations
    with Simulator(command) as simulator:
        expected = sample_with_proposals(simulator, observations, SkewedSession(), runs=60, seed=5)

        class Restarting(LanesOfSkewed):
            def propose_all(self, *arguments):
                if self.calls == 3:
                    simulator.restart()
                return super().propose_all(*arguments)

        found = sample_with_proposals(simulator, observations, Restarting(8), runs=60, seed=5)
    assert sum(rows is not None for rows in sent) > 20
    assert_same_draws(found, expected)


# ---------------------------------------------------------------------- shared replays

SHARES, HEIGHTS, NOISE = (0.2, 0.5, 0.3), (0.9, 0.3, 0.1), 0.2


def _discrete_context():
    """The acceptance probability of the loop is HEIGHTS[k]."""
    k = int(sample(Categorical(SHARES), name="k"))
    with rejection_scope() as scope:
        while (x := sample(Uniform(0.0, 1.0), name="x")) >= HEIGHTS[k]:
            scope.repeat()
    observe(Normal(x + 0.3 * k, NOISE), name="y")
    return x


def test_shared_replays_are_exact_and_vary_less(statistics):
    y = 0.55

    def likelihood(x: float, k: int) -> float:
        return stats.norm.pdf(y, x + 0.3 * k, NOISE)

    parts = [
        share * integrate.quad(likelihood, 0.0, height, args=(k,))[0] / height
        for k, (share, height) in enumerate(zip(SHARES, HEIGHTS, strict=True))
    ]
    posteriors = {
        shared: sample_with_proposals(
            FunctionModel(_discrete_context), {"y": y}, Drifted(), runs=statistics.size(6_000, 40_000), seed=3,
            shared_replays=shared,
        )
        for shared in (0, 3_000)
    }  # fmt: skip
    shared = posteriors[3_000]
    assert 3_000 < shared.info["replay_runs"] <= 9_000
    assert abs(shared.log_evidence - math.log(sum(parts))) < 0.1
    for k, part in enumerate(parts):
        probability = float(shared.weight[shared.values["k"] == k].sum())
        assert probability == pytest.approx(part / sum(parts), abs=0.03), k
    sizes = {number: 1 / float(np.sum(one.weight**2)) for number, one in posteriors.items()}
    assert sizes[3_000] > 1.3 * sizes[0]


def test_contexts_with_a_continuous_entry_are_not_shared(statistics):
    exact = ANSWERS["dependent_loop"]
    model, runs = examples.model("dependent_loop"), statistics.size(3_000, 10_000)
    posterior = sample_with_proposals(model, exact.observations, SkewedSession(), runs=runs, seed=6, shared_replays=500)
    assert_weighted(posterior, exact)
    assert posterior.info["replay_runs"] == int((posterior.log_weight > -math.inf).sum())


def test_an_interrupted_job_goes_on_with_the_shared_replays(cpp_examples, tmp_path):
    """The context is empty: all runs share the replays of one loop."""

    class Interrupted(LanesOfSkewed):
        def propose_all(self, *arguments):
            if self.calls == 100:
                raise KeyboardInterrupt
            return super().propose_all(*arguments)

    with Simulator([str(cpp_examples / "marsaglia"), "--replaced"]) as simulator:

        def posterior(session, checkpoint=None):
            return sample_with_proposals(
                simulator, ANSWERS["marsaglia_replaced"].observations, session, runs=400, seed=8, shared_replays=100,
                checkpoint=checkpoint,
            )  # fmt: skip

        with pytest.raises(KeyboardInterrupt):
            posterior(Interrupted(4), Checkpoint(tmp_path / "part.h5", {}, interval_s=0.0))
        resumed = posterior(LanesOfSkewed(7), Checkpoint(tmp_path / "part.h5", {}))
        whole = posterior(LanesOfSkewed(5))
    np.testing.assert_array_equal(resumed.log_weight, whole.log_weight)
    assert whole.info["replay_runs"] == 100 + 8  # and those of the choice of scopes
    assert resumed.info["replay_runs"] > 100  # some were made again
