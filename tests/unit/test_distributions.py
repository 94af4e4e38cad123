# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The distributions against scipy.stats: densities, supports, moments, and scalar against array."""

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from etalumis.distributions import (
    ArrayDistribution,
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Distribution,
    Exponential,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    Uniform,
    Weibull,
    from_code,
)

CASES = [
    (Normal(1.0, 2.0), stats.norm(1, 2)),
    (Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    (Categorical((1.0, 0.0, 3.0)), stats.rv_discrete(values=([0, 2], [0.25, 0.75]))),
    (Poisson(4.0), stats.poisson(4)),
    (Bernoulli(0.3), stats.bernoulli(0.3)),
    (Beta(2.0, 3.0), stats.beta(2, 3)),
    (Exponential(2.0), stats.expon(scale=0.5)),
    (Gamma(2.5, 3.0), stats.gamma(2.5, scale=1 / 3)),
    (LogNormal(0.1, 0.5), stats.lognorm(0.5, scale=math.exp(0.1))),
    (Binomial(7.0, 0.3), stats.binom(7, 0.3)),
    (Weibull(2.0, 1.5), stats.weibull_min(1.5, scale=2)),
    (NegativeBinomial(2.5, 0.6), stats.nbinom(2.5, 0.4)),
    (StudentT(9.0, 1.0, 2.0), stats.t(9, 1, 2)),
]
IDS = [case[0].kind for case in CASES]


def reference(distribution: Distribution, frozen, x: np.ndarray) -> np.ndarray:
    return frozen.logpmf(x) if distribution.discrete else frozen.logpdf(x)


@pytest.mark.parametrize(("distribution", "frozen"), CASES, ids=IDS)
def test_log_prob_agrees_with_scipy_inside_and_outside_the_support(distribution, frozen):
    grid = np.arange(-2.0, 10.0) if distribution.discrete else np.linspace(-2.05, 9.05, 40)
    expected = reference(distribution, frozen, grid)
    np.testing.assert_allclose([distribution.log_prob(x) for x in grid], expected, rtol=1e-12, atol=1e-12)
    array = ArrayDistribution.of(distribution)
    np.testing.assert_allclose([array.log_prob(np.asarray(x)) for x in grid], expected, rtol=1e-12, atol=1e-12)
    if distribution.discrete:
        assert distribution.log_prob(0.5) == -math.inf
        assert array.log_prob(np.asarray(0.5)) == -math.inf


@pytest.mark.parametrize(("distribution", "frozen"), CASES, ids=IDS)
def test_samples_have_the_right_mean_and_variance(distribution, frozen):
    rng, n = np.random.default_rng(7), 20_000
    mean, variance, _, kurtosis = frozen.stats(moments="mvsk")
    array = ArrayDistribution(
        ArrayDistribution.of(distribution).code,
        tuple(np.broadcast_to(p, (n, *p.shape)) for p in ArrayDistribution.of(distribution).arrays),
    )
    for draws in (np.array([distribution.sample(rng) for _ in range(n)]), array.sample(rng)):
        assert abs(draws.mean() - mean) < 5 * math.sqrt(variance / n)
        assert abs(draws.var() - variance) < 5 * variance * math.sqrt((kurtosis + 2) / n)


@pytest.mark.parametrize("distribution", [case[0] for case in CASES], ids=IDS)
def test_from_code_restores_a_distribution(distribution):
    again = from_code(distribution.code, distribution.parameters)
    assert again == distribution
    assert hash(again) == hash(distribution)


def test_categorical_suffix():
    assert Categorical((0.2, 0.8)).suffix == "Categorical(len_probs:2)"
    assert Uniform(0.0, 1.0).suffix == "Uniform"


def test_array_log_prob_sums_over_elements_and_broadcasts_parameters():
    rng = np.random.default_rng(3)
    mean, value = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    for stddev in (np.asarray(0.7), rng.uniform(0.5, 1, size=5), rng.uniform(0.5, 1, size=(4, 5))):
        expected = stats.norm(mean, stddev).logpdf(value).sum()
        assert ArrayDistribution(Normal.code, (mean, stddev)).log_prob(value) == pytest.approx(expected, rel=1e-12)


def test_array_log_prob_refuses_another_shape():
    with pytest.raises(ValueError, match=r"shape \(2,\), found \(3,\)"):
        ArrayDistribution(Normal.code, (np.zeros(2), np.asarray(1.0))).log_prob(np.zeros(3))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Normal(0.0, 0.0), "stddev > 0"),
        (lambda: Uniform(1.0, 1.0), "low < high"),
        (lambda: Categorical((0.0, 0.0)), "positive, finite sum"),
        (lambda: Categorical((-1.0, 2.0)), "probabilities >= 0"),
        (lambda: Poisson(-1.0), "0 <= rate"),
        (lambda: Bernoulli(1.5), "probs <= 1"),
        (lambda: Binomial(1.5, 0.5), "whole 0 <= total_count"),
        (lambda: Gamma(math.nan, 1.0), "concentration > 0"),
        (lambda: NegativeBinomial(2.0, 1.0), "probs < 1"),
        (lambda: NegativeBinomial(1e10, 1.0 - 1e-10), "mean of at most 2"),
        (lambda: StudentT(0.0, 0.0, 1.0), "df > 0"),
        (lambda: from_code(14, (1.0,)), "number from 1 to 13"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_density_of_a_weibull_does_not_overflow():
    assert Weibull(2.0, 1.5).log_prob(1e300) == -math.inf
    assert ArrayDistribution.of(Weibull(2.0, 1.5)).log_prob(np.array(1e300)) == -math.inf
    assert ArrayDistribution.of(Exponential(2.0)).log_prob(np.array(1e308)) == -math.inf


@pytest.mark.parametrize("x", [0.1, 40.0, 1e6, 1e200])
@pytest.mark.parametrize("df", [0.5, 30.0, 999.0, 1000.0, 1e9])
def test_the_tails_of_student_t_are_exact(df, x):
    # in 50 digits, Gamma by its product and Stirling's series far out
    with mpmath.workdps(50):
        nu, z = mpmath.mpf(df), mpmath.mpf(x - 1.0) / 2
        log_norm = mpmath.loggamma((nu + 1) / 2) - mpmath.loggamma(nu / 2) - mpmath.log(nu * mpmath.pi) / 2
        expected = float(log_norm - mpmath.log(2) - (nu + 1) / 2 * mpmath.log1p(z * z / nu))
    law = StudentT(df, 1.0, 2.0)
    assert law.log_prob(x) == pytest.approx(expected, rel=1e-12)
    assert ArrayDistribution.of(law).log_prob(np.array(x)) == pytest.approx(expected, rel=1e-12)


def test_a_gamma_poisson_mixture_is_negative_binomial():
    shape, rate = 2.5, 2.0 / 3.0
    grid = (np.arange(40_000) + 0.5) / 40_000 * 60.0
    for count in (0.0, 3.0, 11.0):
        mass = stats.poisson.pmf(count, grid) * stats.gamma.pdf(grid, shape, scale=1 / rate)
        expected = math.log(mass.sum() * 60.0 / 40_000)
        assert NegativeBinomial(shape, 1 / (1 + rate)).log_prob(count) == pytest.approx(expected, abs=1e-6)


def test_the_elements_of_an_array_are_scalar_distributions():
    elements = list(StudentT(3.0, np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([1.0, 0.5])).elements())
    assert elements == [
        ("[0,0]", StudentT(3.0, 0.0, 1.0)), ("[0,1]", StudentT(3.0, 1.0, 0.5)),
        ("[1,0]", StudentT(3.0, 2.0, 1.0)), ("[1,1]", StudentT(3.0, 3.0, 0.5)),
    ]  # fmt: skip
    rows = list(Categorical(np.array([[0.5, 0.5], [0.0, 1.0]])).elements())
    assert rows == [("[0]", Categorical((0.5, 0.5))), ("[1]", Categorical((0.0, 1.0)))]
    assert list(ArrayDistribution.of(Poisson(3.0)).elements()) == [("", Poisson(3.0))]
    with pytest.raises(ValueError, match="stddev > 0"):
        list(Normal(np.zeros(2), np.array([1.0, -1.0])).elements())


@pytest.mark.parametrize(("distribution", "frozen"), CASES, ids=IDS)
def test_array_parameters_give_independent_elements(distribution, frozen):
    parameters = (distribution.probs,) if isinstance(distribution, Categorical) else distribution.parameters
    first, *rest = (np.asarray(parameter) for parameter in parameters)
    array = type(distribution)(np.stack([first, first]), *rest)
    assert isinstance(array, ArrayDistribution)
    assert (array.kind, array.shape) == (distribution.kind, (2,))
    assert array.log_prob(np.ones(2)) == pytest.approx(2 * reference(distribution, frozen, np.ones(1))[0])


def test_array_parameters_by_name_and_as_lists():
    for array in (Normal(mean=np.zeros(3), stddev=2.0), Normal([0, 0, 0], 2), Normal((0.0,) * 3, np.float32(2.0))):
        assert isinstance(array, ArrayDistribution)
        assert array.log_prob(np.zeros(3)) == pytest.approx(3 * stats.norm.logpdf(0, 0, 2))


def test_numpy_scalars_make_scalar_distributions():
    same = [Normal(np.float64(1.0), np.array(2.0)), Normal(mean=np.int64(1), stddev=2.0), Normal(1.0, 2.0)]
    assert len(set(same)) == 1
    assert Categorical(np.array([1.0, 3.0])) == Categorical([1.0, 3.0]) == Categorical((0.25, 0.75))


def test_array_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"Normal: parameters of shapes \[\(3,\), \(4,\)\] do not broadcast"):
        Normal(np.zeros(3), np.ones(4))
    with pytest.raises(TypeError, match="Normal: expected the parameters mean, stddev"):
        Normal(np.zeros(3))
