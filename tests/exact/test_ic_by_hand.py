# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference compilation with proposals written by hand: the weights correct for any proposal."""

import math

import pytest
from exact.answers import ANSWERS, assert_weighted

from etalumis.distributions import Beta, Normal, Poisson
from etalumis.inference.compilation import sample_with_proposals
from etalumis.models import examples


class SkewedSession:
    """Proposes values away from the prior, differently at every step of a trace."""

    def __init__(self, unknown=""):
        self.unknown = unknown
        self.steps = 0

    def begin(self):
        self.steps = 0

    def propose(self, address, distribution, rng):
        if self.unknown and self.unknown in address:
            return None
        self.steps += 1
        if distribution.kind == "Uniform":
            width = distribution.high - distribution.low
            shape = Beta(0.9, 1.2) if self.steps % 2 else Beta(1.3, 0.9)
            u = shape.sample(rng)
            return distribution.low + width * u, shape.log_prob(u) - math.log(width)
        if distribution.kind == "Normal":
            proposal = Normal(distribution.mean + 2.0 * distribution.stddev, distribution.stddev)
        else:
            proposal = Poisson(distribution.rate + 1.0)
        value = proposal.sample(rng)
        return value, proposal.log_prob(value)


@pytest.mark.parametrize("scopes", ["first-shot", "prior"])
@pytest.mark.parametrize("name", list(ANSWERS))
def test_weights_correct_for_any_proposal(name, scopes, statistics):
    exact = ANSWERS[name]
    runs = statistics.size(5_000, 10_000) * (3 if name.startswith("marsaglia") else 1)
    posterior = sample_with_proposals(
        examples.model(name), exact.observations, SkewedSession(), runs=runs, seed=6, scopes=scopes
    )
    assert_weighted(posterior, exact)
    looped = name in ("marsaglia_replaced", "dependent_loop")
    assert (posterior.info["lost_share"] > 0.1) == (looped and scopes == "first-shot")
    assert (posterior.info["replay_runs"] > 0) == (looped and scopes == "first-shot")


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
