# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Each local kernel alone leaves the prior invariant: a wrong Jacobian or ratio would change the moments."""

import math

import numpy as np
import pytest
from exact.answers import assert_mean
from scipy import stats

from etalumis.distributions import (
    BY_CODE,
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Exponential,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    Uniform,
    Weibull,
)
from etalumis.distributions.support import same_support
from etalumis.inference.entry_proposals import propose

PRIORS = [
    (Normal(1.0, 2.0), stats.norm(1, 2)),
    (Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    (Categorical((0.2, 0.5, 0.0, 0.3)), stats.rv_discrete(values=([0, 1, 3], [0.2, 0.5, 0.3]))),
    (Poisson(2.5), stats.poisson(2.5)),
    (Bernoulli(0.3), stats.bernoulli(0.3)),
    (Beta(2.0, 3.0), stats.beta(2, 3)),
    (Exponential(2.0), stats.expon(scale=0.5)),
    (Gamma(2.0, 3.0), stats.gamma(2, scale=1 / 3)),
    (LogNormal(0.1, 0.5), stats.lognorm(0.5, scale=math.exp(0.1))),
    (Binomial(7.0, 0.4), stats.binom(7, 0.4)),
    (Weibull(1.5, 2.0), stats.weibull_min(2, scale=1.5)),
    (NegativeBinomial(2.5, 0.5), stats.nbinom(2.5, 0.5)),
    (StudentT(9.0, 1.0, 2.0), stats.t(9, 1, 2)),
]


def test_every_distribution_has_a_case():
    assert {prior.code for prior, _ in PRIORS} == set(BY_CODE)


def walk(prior, steps, fresh_share, seed):
    rng = np.random.default_rng(seed)
    x = prior.sample(rng)
    values = np.empty(steps)
    for step in range(steps):
        moved, log_ratio = propose(rng, prior, x, prior.log_prob(x), fresh_share)
        if math.log(1.0 - rng.random()) < log_ratio:
            x = moved
        values[step] = x
    return values


@pytest.mark.parametrize(("prior", "exact"), PRIORS, ids=[prior.kind for prior, _ in PRIORS])
def test_local_steps_leave_the_prior_invariant(prior, exact):
    values = walk(prior, 60_000, 0.0, seed=4)
    mean, median = float(exact.mean()), float(exact.median())
    assert_mean(values, mean, "mean")
    assert_mean((values - mean) ** 2, float(exact.var()), "variance")
    assert_mean((values <= median).astype(float), float(exact.cdf(median)), "median")


def test_fresh_draws_are_always_accepted():
    rng = np.random.default_rng(1)
    assert all(propose(rng, prior, prior.sample(rng), 0.0, 1.0)[1] == 0.0 for prior, _ in PRIORS)


@pytest.mark.parametrize(
    ("prior", "x"),
    [(Gamma(0.01, 1.0), 0.0), (Beta(2.0, 2.0), 1.0), (Categorical((1.0,)), 0.0), (Exponential(1.0), 5e-324)],
)
def test_values_on_the_edge_of_the_support_do_not_break_a_step(prior, x):
    rng = np.random.default_rng(2)
    for _ in range(200):
        moved, log_ratio = propose(rng, prior, x, -1.0, 0.0)
        assert not math.isnan(log_ratio)
        assert log_ratio == -math.inf or moved == x or prior.log_prob(moved) > -math.inf


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (Normal(0.0, 1.0), Normal(5.0, 2.0), True),
        (Normal(0.0, 1.0), LogNormal(0.0, 1.0), False),
        (Uniform(0.0, 1.0), Uniform(0.0, 2.0), False),
        (Categorical((0.5, 0.5)), Categorical((0.1, 0.9)), True),
        (Categorical((0.5, 0.5)), Categorical((0.1, 0.8, 0.1)), False),
        (Binomial(3.0, 0.1), Binomial(3.0, 0.9), True),
        (Binomial(3.0, 0.1), Binomial(4.0, 0.1), False),
    ],
)
def test_values_are_kept_only_under_the_same_support(a, b, same):
    assert same_support(a, b) is same_support(b, a) is same
