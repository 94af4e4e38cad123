# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference compilation with proposals written by hand: the weights correct for any proposal."""

import math

import numpy as np
import pytest
from exact.answers import ANSWERS, assert_weighted

from etalumis.distributions import Beta, Categorical, Normal, Poisson, Uniform
from etalumis.inference.compilation import sample_with_proposals
from etalumis.inference.proposal_controller import ProposalSource
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample


class SkewedSession(ProposalSource):
    """Proposes values away from the prior, differently at every step of a trace."""

    def __init__(self, unknown="", shift=2.0):
        self.unknown = unknown
        self.shift = shift  # of normal proposals, in standard deviations of the prior
        self.steps = 0

    def begin(self, lane=0):
        self.steps = 0

    def propose(self, address, distribution, rng):
        if self.unknown and self.unknown in address:
            return None
        origin, width, proposal = self._proposal(distribution)
        value = proposal.sample(rng)
        return origin + width * value, proposal.log_prob(value) - math.log(width)

    def log_density(self, address, distribution, value):
        if self.unknown and self.unknown in address:
            return None
        origin, width, proposal = self._proposal(distribution)
        return proposal.log_prob((value - origin) / width) - math.log(width)

    def _proposal(self, distribution):
        self.steps += 1
        if distribution.kind == "Uniform":
            width = distribution.high - distribution.low
            return distribution.low, width, Beta(0.9, 1.2) if self.steps % 2 else Beta(1.3, 0.9)
        if distribution.kind == "Normal":
            return 0.0, 1.0, Normal(distribution.mean + self.shift * distribution.stddev, distribution.stddev)
        if distribution.kind == "Categorical":
            return 0.0, 1.0, Categorical(tuple(0.5 * p + 0.5 / len(distribution.probs) for p in distribution.probs))
        return 0.0, 1.0, Poisson(distribution.rate + 1.0)


def skewed_session(name, unknown=""):
    """Return proposals for an example; three values that are all far off would leave no effective draws."""
    return SkewedSession(unknown, shift=0.5 if name == "linear_gaussian" else 2.0)


@pytest.mark.parametrize("scopes", ["auto", "first-shot", "prior"])
@pytest.mark.parametrize("name", list(ANSWERS))
def test_weights_correct_for_any_proposal(name, scopes, statistics):
    exact = ANSWERS[name]
    runs = statistics.size(5_000, 10_000) * (3 if name.startswith("marsaglia") else 1)
    posterior = sample_with_proposals(
        examples.model(name), exact.observations, skewed_session(name), runs=runs, seed=7, scopes=scopes
    )
    assert_weighted(posterior, exact)
    looped = name in ("marsaglia_replaced", "dependent_loop")
    assert (posterior.info["lost_share"] > 0.1) == (looped and scopes != "prior")
    assert (posterior.info["replay_runs"] > 0) == (looped and scopes != "prior")


def seldom_or_often():
    """Draw k in {0, 1}, then x with a loop that accepts with probability 0.02 if k = 0 and 0.6 if k = 1."""
    k = sample(Categorical((0.7, 0.3)), name="k")
    rate = (0.04, 1.2)[int(k)]
    with rejection_scope() as scope:
        while True:
            x = sample(Uniform(0.0, 1.0), name="x")
            if sample(Uniform(0.0, 1.0), name="u") <= rate * x:
                break
            scope.repeat()
    observe(Normal(x + k, 0.3), name="obs")
    return x


class NearlyPrior(ProposalSource):
    """Draw categories from the other side, and other values from a line."""

    def begin(self, lane=0):
        pass

    def propose(self, address, distribution, rng):
        proposal = self._proposal(distribution)
        value = proposal.sample(rng)
        return value, proposal.log_prob(value)

    def log_density(self, address, distribution, value):
        return self._proposal(distribution).log_prob(value)

    def _proposal(self, distribution):
        return Categorical((0.4, 0.6)) if distribution.kind == "Categorical" else Beta(1.0, 1.4)


@pytest.mark.parametrize("scopes", ["auto", "first-shot", "prior"])
def test_the_choice_of_scopes_by_context_is_exact(scopes, statistics):
    """ "auto" leaves the scope that seldom accepts to the model, and proposes the other one: few runs are lost."""
    runs = statistics.size(4_000, 40_000)
    posterior = sample_with_proposals(
        FunctionModel(seldom_or_often), {"obs": 1.0}, NearlyPrior(), runs=runs, seed=3, scopes=scopes,
        shared_replays=1000,
    )  # fmt: skip
    x = (np.arange(20_000) + 0.5) / 20_000
    accepted = [2.0 * x, np.minimum(1.2 * x, 1.0)]
    joint = [
        share * np.mean(density / density.mean() * np.exp(-0.5 * ((1.0 - x - k) / 0.3) ** 2))
        for k, (share, density) in enumerate(zip((0.7, 0.3), accepted, strict=True))
    ]
    weight, k = posterior.weight, posterior.values["k"]
    mean, exact = np.sum(weight * k), joint[1] / sum(joint)
    assert mean == pytest.approx(exact, abs=5 * math.sqrt(np.sum((weight * (k - mean)) ** 2)))
    evidence = math.log(sum(joint) / 0.3 / math.sqrt(2 * math.pi))
    assert posterior.log_evidence == pytest.approx(evidence, abs=5 * math.sqrt(np.sum(weight**2)))
    low, high = {"auto": (0.1, 0.3), "first-shot": (0.4, 1.0), "prior": (0.0, 0.0)}[scopes]
    assert low <= posterior.info["lost_share"] <= high


def test_averaged_replays_are_exact(statistics):
    exact = ANSWERS["dependent_loop"]
    model = examples.model("dependent_loop")
    posterior = sample_with_proposals(
        model, exact.observations, SkewedSession(), runs=statistics.size(2_000, 10_000), seed=6, replays=3
    )
    assert_weighted(posterior, exact)
    kept = int((posterior.log_weight > -math.inf).sum())
    assert posterior.info["replay_runs"] == 3 * kept


def test_entries_of_unknown_addresses_come_from_the_prior(statistics):
    exact = ANSWERS["dependent_loop"]
    trace_addresses = []

    class Watching(SkewedSession):
        def propose(self, address, distribution, rng):
            trace_addresses.append(address)
            return super().propose(address, distribution, rng)

    model = examples.model("dependent_loop")
    sample_with_proposals(model, exact.observations, Watching(), runs=20, seed=6)
    ordered = list(dict.fromkeys(trace_addresses))
    assert len(ordered) == 3  # theta, and x and u of the accepted repetition
    for unknown in ordered:
        posterior = sample_with_proposals(
            model, exact.observations, SkewedSession(unknown), runs=statistics.size(1_500, 8_000), seed=7
        )
        assert_weighted(posterior, exact)
        assert 0.0 < posterior.info["unknown_address_fraction"] < 1.0
