# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Proposals that depend on tags: exact, the same in many runs at a time, and refused if a tag depends on the draw."""

import math

import numpy as np
import pytest
from exact.answers import SIGMAS, assert_mean
from exact.test_ic_by_hand import NearlyPrior
from exact.test_proposed_runs import LanesOfDrifted, assert_same_draws

from etalumis import seeds
from etalumis.distributions import Binomial, Categorical, Normal
from etalumis.errors import InferenceError
from etalumis.inference.compilation import sample_with_proposals
from etalumis.inference.network_rmh import NetworkRmhSettings, sample_with_network_moves
from etalumis.inference.observations import Observations
from etalumis.inference.proposal_controller import Proposal, ProposalSource, proposed_before
from etalumis.inference.proposed_runs import draw_by_draw
from etalumis.inference.runner import ModelRunner
from etalumis.inference.scope_choice import ScopeChoice
from etalumis.models import FunctionModel, observe, sample, tag
from etalumis.ppx import Simulator

NOISE, OBSERVED = 0.2, 2.5


def curved():
    """Observe a^2 + b with little noise. The tag makes b easy to propose."""
    a = sample(Normal(0.0, 1.0), name="a")
    tag("square", np.array(a * a))
    b = sample(Normal(0.0, 1.0), name="b")
    observe(Normal(a * a + b, NOISE), name="obs")


def exact_posterior():
    """Return E[a^2], E[b] and the log evidence: b is integrated in closed form, a by quadrature."""
    a = (np.arange(200_000) + 0.5) / 200_000 * 16 - 8
    rest, variance = OBSERVED - a * a, 1.0 + NOISE * NOISE
    joint = np.exp(-0.5 * a * a - 0.5 * rest * rest / variance) / (2 * np.pi * math.sqrt(variance)) * (16 / len(a))
    evidence = joint.sum()
    return (joint @ (a * a)) / evidence, (joint @ rest) / variance / evidence, math.log(evidence)


class Seeing(ProposalSource):
    """Proposes `b` around the observation less the tag, and `a` from a normal of its own."""

    def __init__(self):
        self.runs = self.seen = 0

    def begin(self, lane=0):
        self.runs += 1
        self.square = self.first = None

    def needs_tags(self, address):
        return self._is_b(address)

    def visible_tags(self, tags):
        return np.reshape(tags["square"], 1)

    def see(self, tags, lane=0):
        self.seen += 1
        self.square = float(tags[0])

    def propose(self, address, distribution, rng):
        proposal = self._proposal(address)
        value = proposal.sample(rng)
        return value, proposal.log_prob(value)

    def log_density(self, address, distribution, value):
        return self._proposal(address).log_prob(value)

    def _proposal(self, address):
        if not self._is_b(address):
            return Normal(0.3, 1.3)
        assert self.square is not None
        return Normal(OBSERVED - self.square, 0.25)

    def _is_b(self, address):
        self.first = self.first or address
        return address != self.first


def test_proposals_that_see_tags_are_exact(statistics):
    square, b, log_evidence = exact_posterior()
    session = Seeing()
    posterior = sample_with_proposals(
        FunctionModel(curved), {"obs": OBSERVED}, session, runs=statistics.size(2_000, 20_000), seed=4
    )
    weight = posterior.weight
    for values, truth in ((posterior.values["a"] ** 2, square), (posterior.values["b"], b)):
        estimate = weight @ values
        assert abs(estimate - truth) < SIGMAS * math.sqrt(weight**2 @ (values - estimate) ** 2)
    relative = math.sqrt(weight @ weight - 1 / len(weight))
    assert abs(posterior.log_evidence - log_evidence) < SIGMAS * relative
    assert session.seen == len(posterior)
    assert session.runs == 2 * len(posterior)  # the first attempt of a run stops at b


def test_chains_move_to_runs_that_saw_tags(statistics):
    square, b, _ = exact_posterior()
    settings = NetworkRmhSettings(temperatures=2, steps=2, candidates=4, replays=1)
    runs = statistics.size(1_500, 10_000) * settings.runs_per_sweep
    posterior = sample_with_network_moves(
        FunctionModel(curved), {"obs": OBSERVED}, Seeing(), runs=runs, seed=5, burn_in=20, init_runs=200,
        settings=settings,
    )  # fmt: skip
    assert_mean(posterior.values["a"] ** 2, square, "a^2")
    assert_mean(posterior.values["b"], b, "b")


def test_a_proposed_run_has_the_density_that_it_was_proposed_with():
    runner = ModelRunner(FunctionModel(curved), Observations({"obs": OBSERVED}), 5)
    choice = ScopeChoice(runner, 5, "test", "auto")
    for i in range(20):
        run = draw_by_draw(runner, Seeing(), lambda i=i: seeds.generator(5, "test", i), choice)
        log_weight, _ = proposed_before(run.trace, Seeing(), runner.addresses, choice)
        assert log_weight == pytest.approx(run.log_weight, rel=1e-12)


def test_a_tag_that_depends_on_the_draw_is_refused():
    def curved():
        a = sample(Normal(0.0, 1.0), name="a")
        b = sample(Normal(0.0, 1.0), name="b")
        tag("square", np.array(a * a + b))
        observe(Normal(a * a + b, NOISE), name="obs")

    with pytest.raises(InferenceError, match="after the draws that see them were proposed; expected tags"):
        sample_with_proposals(FunctionModel(curved), {"obs": OBSERVED}, Seeing(), runs=5, seed=4)


class Leaking(NearlyPrior):
    """Proposes nearly always the category that the tag says."""

    seen = None

    def needs_tags(self, address):
        return True

    def visible_tags(self, tags):
        return np.reshape(tags["channel"], 1)

    def see(self, tags, lane=0):
        self.seen = int(tags[0])

    def _proposal(self, distribution):
        return Categorical((0.95, 0.05) if self.seen == 0 else (0.05, 0.95))


def test_a_tag_that_is_the_draw_itself_is_refused():
    """A network learns such a tag perfectly, so that few runs show the difference."""

    def decay():
        k = sample(Categorical((0.8, 0.2)), name="k")
        tag("channel", np.array(k))
        observe(Normal(k, 1.0), name="obs")

    with pytest.raises(InferenceError, match="after the draws that see them were proposed"):
        sample_with_proposals(FunctionModel(decay), {"obs": 0.5}, Leaking(), runs=300, seed=4)


class SeeingLanes(LanesOfDrifted):
    """Proposes the last two draws of the drifting model from what it waited before."""

    def __init__(self, lanes):
        super().__init__(lanes)
        self.waited = [None] * lanes

    def begin(self, lane=0):
        super().begin(lane)
        self.waited[lane] = None

    def needs_tags(self, address):
        return "Binomial" in address

    def visible_tags(self, tags):
        return np.reshape(tags["waited"], 1)

    def see(self, tags, lane=0):
        self.waited[lane] = float(tags[0])

    def propose(self, address, distribution, rng):
        return self._propose(0, address, distribution, rng)

    def propose_all(self, lanes, addresses, distributions, rngs):
        self.calls += 1
        found = []
        for lane, address, distribution, rng in zip(lanes, addresses, distributions, rngs, strict=True):
            value, log_q = self._propose(lane, address, distribution, rng)
            found.append(Proposal(value, log_q, distribution.log_prob(value)))
        return found

    def _propose(self, lane, address, distribution, rng):
        if "Binomial" not in address:
            return self.sessions[lane].propose(address, distribution, rng)
        proposal = Binomial(distribution.total_count, 0.2 + 0.1 * min(self.waited[lane], 5.0))
        value = proposal.sample(rng)
        return value, proposal.log_prob(value)


class Killed(Simulator):
    """Dies once, while runs wait for their tags."""

    calls = restarts = 0

    def carry_out_each(self, requests, addresses):
        self.calls += 1
        if self.calls in (4, 9):
            self.restart()
            type(self).restarts += 1
        return super().carry_out_each(requests, addresses)


@pytest.mark.parametrize("kind", [Simulator, Killed])
def test_draws_do_not_depend_on_the_number_of_runs_in_flight(kind, cpp_examples):
    """Whatever the number of lanes, and if the simulator is replaced in between."""
    observations = {"track": np.array([0.5, 0.6]), "shares": np.array([0.5, 0.4]), "count": np.array(2.0)}

    def posterior(session, kind=Simulator):
        with kind([str(cpp_examples / "drifting")]) as simulator:
            return sample_with_proposals(simulator, observations, session, runs=300, seed=33, scopes="first-shot")

    alone = posterior(SeeingLanes(1))
    for lanes in (2, 40):
        session = SeeingLanes(lanes)
        Killed.restarts = 0
        assert_same_draws(posterior(session, kind), alone)
        assert session.calls > 0
        assert Killed.restarts == (2 if kind is Killed else 0)
    assert len(np.unique(alone.values["hits"])) > 1
