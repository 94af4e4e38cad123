# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posterior predictive checks against exact p-values, in Python and through C++."""

import random

import h5py
import numpy as np
import pytest
from scipy import stats
from unit.engine_runs import (
    ENGINES,
    EveryStep,
    Interrupted,
    Interrupting,
    with_ic,
    with_importance,
    with_ladder,
    with_rmh,
    with_smc,
)

from etalumis.address import AddressTable
from etalumis.diagnostics import diagnose
from etalumis.diagnostics.headline import headline
from etalumis.distributions import ArrayDistribution, Beta, Gamma, Normal, Poisson
from etalumis.errors import DatasetError, InferenceError
from etalumis.inference import Posterior
from etalumis.inference.predictive import PredictiveCheck
from etalumis.inference.trace_reservoir import PLACES, TraceReservoir, places_for
from etalumis.models import FunctionModel, observe, sample
from etalumis.ppx import Simulator
from etalumis.recorded_trace import RecordedTrace

PRIOR_SD = 3.0


def image(mean, sd=1.0):
    return ArrayDistribution(Normal.code, (np.asarray(mean, dtype=float), np.asarray(sd)))


@FunctionModel
def shared_mean():
    """Five numbers with one unknown mean, and sixty of noise alone."""
    mean = sample(Normal(0.0, PRIOR_SD), name="mean")
    observe(image(np.r_[np.full(5, mean), np.zeros(60)]), "y")


def posterior_of_mean(y):
    precision = 1.0 / PRIOR_SD**2 + 5.0
    return stats.norm(y[:5].sum() / precision, precision**-0.5)


def exact(y):
    """Return the two posterior predictive p-values by quadrature, and the mean number of elements with signal."""
    mean = posterior_of_mean(y).ppf((np.arange(4000) + 0.5) / 4000)
    squares = np.square(y[:5, None] - mean).sum(axis=0)
    signal = np.abs(mean) > 1.0
    everywhere = stats.chi2.sf(squares + np.square(y[5:]).sum(), 65).mean()
    return everywhere, stats.chi2.sf(squares[signal], 5).mean(), 5 * signal.mean()


Y = np.r_[2.5, 0.4, 1.1, -0.6, 3.1, np.random.default_rng(3).normal(size=60) * 1.1]


@pytest.mark.parametrize("engine", ENGINES)
def test_p_values_are_exact(engine, tmp_path):
    runs = {with_rmh: 9_000, with_ladder: 9_000, with_smc: 300}.get(engine, 4_000)
    jobs = {with_rmh: "chain", with_ladder: "chain"}.get(engine, "job")
    parts = [engine(shared_mean, {"y": Y}, runs=runs, **{jobs: k}) for k in range(4)]
    whole = Posterior.concatenate(parts)
    whole.save(tmp_path / "p.h5")
    check = Posterior.load(tmp_path / "p.h5").predictive
    places = len(check.p) // 4
    assert places == places_for(len(parts[0])) > 10
    for column, expected in zip((check.p, check.p_signal, check.signal_elements), exact(Y), strict=True):
        error = np.nanstd(column) / np.sqrt(places)  # draws of one chain or job may repeat
        assert abs(check.mean(column) - expected) < 4 * error
    sd = posterior_of_mean(Y).std() / np.sqrt(places)
    np.testing.assert_allclose(check.expected["y"][:5], posterior_of_mean(Y).mean(), atol=4 * sd)
    assert np.all(check.expected["y"][5:] == 0.0)


def test_jobs_count_by_their_weight():
    parts = [
        PredictiveCheck(np.full(2, w), np.full(2, p), np.full(2, np.nan), np.zeros(2), {"y": np.full(3, p)})
        for w, p in ((0.0, 0.1), (np.log(3.0), 0.9))
    ]
    joined = PredictiveCheck.concatenate(parts)
    assert joined.mean(joined.p) == pytest.approx(0.7)
    np.testing.assert_allclose(joined.expected["y"], 0.7)
    assert np.isnan(joined.mean(joined.p_signal))


def test_counts_are_compared_with_replicates():
    """For counts, equally likely ones count half: the exact p-value is a sum over the negative binomial."""

    @FunctionModel
    def counts():
        observe(Poisson(sample(Gamma(2.0, 0.5), name="rate")), "n")

    n = 9
    rate = stats.gamma(2 + n, scale=1 / 1.5).ppf((np.arange(2000) + 0.5) / 2000)
    k = np.arange(200)[:, None]
    probability, observed = stats.poisson.pmf(k, rate), stats.poisson.pmf(n, rate)
    close = np.isclose(probability, observed, rtol=1e-12)
    p = (probability * ((probability < observed) & ~close) + 0.5 * probability * close).sum(axis=0)
    parts = [with_importance(counts, {"n": n}, runs=4000, job=k) for k in range(4)]
    check = Posterior.concatenate(parts).predictive
    assert abs(check.mean(check.p) - p.mean()) < 4 * np.std(check.p) / np.sqrt(4 * PLACES)
    assert np.isnan(check.p_signal).all()
    assert check.expected == {}


@pytest.mark.parametrize("engine", [with_rmh, with_ladder, with_importance, with_ic])
def test_an_interrupted_engine_resumes_with_the_same_check(engine, tmp_path):
    def sampled(model):
        return engine(model, {"y": Y}, runs=90, checkpoint=EveryStep(tmp_path / "p.h5.part", {"seed": 1}))

    whole = engine(shared_mean, {"y": Y}, runs=90).predictive
    with pytest.raises(Interrupted):
        sampled(Interrupting(shared_mean, 60))
    resumed = sampled(shared_mean).predictive
    np.testing.assert_array_equal(resumed.p, whole.p)
    assert resumed.log_weight.tolist() == whole.log_weight.tolist()


def test_traces_are_chosen_in_proportion_to_their_weights():
    table = AddressTable()
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    counts = np.zeros(4)
    for seed in range(40):
        reservoir = TraceReservoir(table, seed, "test")
        for number, weight in enumerate(weights):
            trace = RecordedTrace(table)
            trace.address, trace.value, trace.flags, trace.scope, trace.name = (
                [table.intern("a__Normal__1")], [float(number)], [1], [0], [""],
            )  # fmt: skip
            with np.errstate(divide="ignore"):
                reservoir.offer(trace, float(np.log(weight)))
        for kept in reservoir.traces:
            counts[int(kept.saved.values[0])] += 1
    assert reservoir.log_total == pytest.approx(np.log(8.0))
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], counts.sum() * weights[1:] / 8.0).pvalue > 1e-4


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.r_[9.0, -9.0, 9.0, -9.0, 0.0, Y[5:]], "does not explain the observation"),
        (np.r_[Y[:5], 2.0 * Y[5:]], "does not explain the observation"),
        (np.zeros(65), "closer to its expectation than the noise"),
    ],
    ids=["signal", "noise", "no noise"],
)
def test_an_observation_that_the_model_does_not_explain_is_named(y, words):
    posterior = Posterior.concatenate([with_importance(shared_mean, {"y": y}, runs=3000, job=k) for k in range(2)])
    result = diagnose([posterior])
    (verdict,) = [check for check in result["checks"] if check["subject"] == "prediction"]
    assert not verdict["passed"]
    assert words in verdict["sentence"]
    assert (words in " ".join(headline(result))) == result["checks"][0]["passed"]


def test_an_observation_of_the_model_is_explained():
    posterior = Posterior.concatenate([with_importance(shared_mean, {"y": Y}, runs=3000, job=k) for k in range(2)])
    (verdict,) = [check for check in diagnose([posterior])["checks"] if check["subject"] == "prediction"]
    assert verdict["passed"]
    assert "explains the observation" in verdict["sentence"]


def test_a_model_with_randomness_of_its_own_has_no_check(caplog):
    @FunctionModel
    def model():
        mean = sample(Normal(0.0, 1.0), name="mean") + random.random()
        observe(Normal(mean, 1.0), "y")

    assert with_importance(model, {"y": 0.5}).predictive is None
    assert "no predictive check" in caplog.text


def test_infinite_weights_are_left_to_the_diagnostics():
    @FunctionModel
    def model():
        sample(Normal(0.0, 1.0), name="mean")
        observe(Beta(0.5, 1.0), "y")  # infinite density at 0

    posterior = with_importance(model, {"y": 0.0})
    assert posterior.predictive is None
    with pytest.raises(InferenceError, match="60 of 60 log weights are NaN or \\+inf"):
        diagnose([posterior])


def test_nothing_observed_gives_no_check():
    assert with_importance(shared_mean, {}).predictive is None


@pytest.mark.parametrize(("engine", "delegate"), [*((engine, True) for engine in ENGINES), (with_ic, False)])
def test_the_check_through_cpp_is_exact(engine, delegate, cpp_examples):
    """The model has two observations, each with standard deviation sqrt 2, of one mean with prior N(1, 5)."""
    observed = {"obs0": 0.0, "obs1": 4.0}
    runs = {with_rmh: 1_500, with_ladder: 3_000, with_smc: 100}.get(engine, 600)
    with Simulator([str(cpp_examples / "gaussian")], delegate=delegate) as simulator:
        check = engine(simulator, observed, runs=runs).predictive
    posterior = stats.norm((0.2 + 2.0) / 1.2, 1.2**-0.5)
    mean = posterior.ppf((np.arange(1000) + 0.5) / 1000)
    p = stats.chi2.sf((mean**2 + (4.0 - mean) ** 2) / 2.0, 2)
    assert abs(check.mean(check.p) - p.mean()) < 4 * p.std() / np.sqrt(len(check.p) / 2)
    assert abs(check.expected["obs0"] - posterior.mean()) < 4 * posterior.std() / np.sqrt(len(check.p) / 2)
    assert set(check.expected) == {"obs0", "obs1"}


def test_an_altered_check_is_refused(tmp_path):
    with_importance(shared_mean, {"y": Y}).save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        file["predictive/p"][0] = 2.0
    with pytest.raises(DatasetError, match=r"p\.h5"):
        Posterior.load(tmp_path / "p.h5")
