# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Models with the distributions that PPX 1.0 does not have: exact posteriors with engines that need no network."""

import math

import numpy as np
import pytest
from exact.answers import Exact, assert_chain, assert_population, assert_weighted
from exact.test_smc import settings_of
from scipy import stats

from etalumis.distributions import Gamma, NegativeBinomial, Normal, Poisson, StudentT
from etalumis.inference import importance, rmh
from etalumis.inference.smc import sample_population
from etalumis.models import FunctionModel, observe, sample

SHAPE, RATE = 2.5, 0.5


def overdispersed():
    """A count whose rate is gamma distributed: NegativeBinomial(SHAPE, 1 / (1 + RATE)) without the rate."""
    rate = sample(Gamma(SHAPE, RATE), name="rate")
    observe(Poisson(rate), name="obs")


def marginalised():
    """A negative binomial number of events, seen with noise."""
    count = sample(NegativeBinomial(SHAPE, 1 / (1 + RATE)), name="count")
    observe(Normal(count, 2.0), name="obs")


def outlier():
    """A value with heavy tails, seen far out."""
    x = sample(StudentT(2.0, 0.0, 1.0), name="x")
    observe(Normal(x, 1.0), name="obs")


def _overdispersed() -> Exact:
    evidence = NegativeBinomial(SHAPE, 1 / (1 + RATE)).log_prob(7.0)
    return Exact({"obs": 7.0}, evidence, {"mean": ("rate", lambda v: v, (SHAPE + 7.0) / (RATE + 1.0))})


def _marginalised() -> Exact:
    count = np.arange(400.0)
    joint = stats.nbinom.pmf(count, SHAPE, RATE / (1 + RATE)) * stats.norm.pdf(6.0, count, 2.0)
    mass = joint / joint.sum()
    return Exact(
        {"obs": 6.0},
        math.log(joint.sum()),
        {
            "mean": ("count", lambda v: v, float(mass @ count)),
            "square": ("count", lambda v: v**2, float(mass @ count**2)),
            "P(5)": ("count", lambda v: (v == 5.0).astype(float), float(mass[5])),
        },
    )


def _outlier() -> Exact:
    x = np.linspace(-30.0, 30.0, 60_001)
    joint = stats.t.pdf(x, 2.0) * stats.norm.pdf(5.0, x, 1.0) * (x[1] - x[0])
    mass = joint / joint.sum()
    expectations = {"mean": ("x", lambda v: v, float(mass @ x)), "square": ("x", lambda v: v**2, float(mass @ x**2))}
    return Exact({"obs": 5.0}, math.log(joint.sum()), expectations)


CASES = [(overdispersed, _overdispersed()), (marginalised, _marginalised()), (outlier, _outlier())]
IDS = [case[0].__name__ for case in CASES]


@pytest.mark.parametrize(("function", "exact"), CASES, ids=IDS)
def test_importance_sampling_rmh_and_smc_agree_with_the_exact_posterior(function, exact, statistics):
    model, size = FunctionModel(function), statistics.size
    assert_weighted(importance(model, exact.observations, runs=size(6_000, 40_000), seed=1), exact)
    assert_chain(rmh(model, exact.observations, runs=size(10_000, 40_000), burn_in=200, seed=2), exact)
    assert_population(
        sample_population(model, exact.observations, None, seed=3, settings=settings_of(statistics)), exact
    )
