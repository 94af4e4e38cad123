# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import numpy as np
import pytest
from scipy import stats

from etalumis.diagnostics import agreement, arviz_calls, weights
from etalumis.diagnostics.quantiles import quantiles
from etalumis.log_weights import normalise


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_khat_of_a_pareto_tail_is_its_shape(shape):
    uniform = np.random.default_rng(2).uniform(size=50_000)
    # w = u^-k has a Pareto tail of shape k; the scatter over 60 seeds is 0.05 to 0.07: four of it
    assert arviz_calls.pareto_khat(-shape * np.log(uniform)) == pytest.approx(shape, abs=0.28)


def test_khat_has_the_right_sign():
    # psislw negates its argument: with the wrong sign it would fit the smallest weights
    rng = np.random.default_rng(4)
    heavy_above = -0.9 * np.log(rng.uniform(size=20_000))
    assert arviz_calls.pareto_khat(heavy_above) > 0.6
    assert arviz_calls.pareto_khat(-heavy_above) < 0.0


def test_khat_of_degenerate_weights():
    assert np.isnan(arviz_calls.pareto_khat(np.full(1000, -np.inf)))
    assert np.isnan(arviz_calls.pareto_khat(np.zeros(10)))
    assert arviz_calls.pareto_khat(np.zeros(1000)) == -np.inf
    with_zeros = np.where(np.arange(1000) % 2, -np.inf, np.random.default_rng(0).normal(size=1000))
    assert np.isfinite(arviz_calls.pareto_khat(with_zeros))
    # over thousands of nats all but a few weights underflow: that is the heaviest tail
    assert arviz_calls.pareto_khat(np.linspace(-50_000, 0, 1000)) == np.inf


def gaussian_importance(draws=20_000, seed=1):
    """Prior N(0, 1), one observation y = 1.5 ~ N(x, 0.7): log weights are log likelihoods; answers are exact."""
    x = np.random.default_rng(seed).normal(size=draws)
    variance = 1 + 0.7**2
    exact = {
        "mean": 1.5 / variance,
        "sd": np.sqrt(0.49 / variance),
        "log_evidence": stats.norm.logpdf(1.5, 0, np.sqrt(variance)),
    }
    return x, stats.norm.logpdf(1.5, x, 0.7), exact


def test_smoothed_weights_shrink_the_largest_ones_only_and_reduce_the_error():
    """Of a mean of known value: draws of N(0, 1) weighted for N(0, 1.3^2), whose weights have no variance."""
    errors = []
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=400)
        log_weight = 0.5 * x**2 - 0.5 * (x / 1.3) ** 2
        raw, smooth = normalise(log_weight), arviz_calls.smoothed_weights(log_weight)
        assert smooth.sum() == pytest.approx(1.0)
        ratio = smooth / raw
        order = np.argsort(raw)
        body = order[: -int(np.ceil(3 * np.sqrt(400)))]
        assert np.ptp(ratio[body]) < 1e-9 * ratio[body].max()  # a common factor, since the sum is one
        assert smooth[order[-1]] == smooth.max()
        errors.append([w @ x**2 - 1.3**2 for w in (raw, smooth)])
    of_raw, of_smooth = np.sqrt(np.mean(np.square(errors), axis=0))
    assert of_smooth < of_raw


def test_weights_without_a_tail_and_zero_weights_are_not_smoothed():
    np.testing.assert_array_equal(arviz_calls.smoothed_weights(np.zeros(8)), np.full(8, 1 / 8))
    np.testing.assert_array_equal(arviz_calls.smoothed_weights(np.full(100, -np.inf)), np.zeros(100))
    log_weight = np.r_[np.full(50, -np.inf), np.random.default_rng(1).normal(size=400)]
    weight = arviz_calls.smoothed_weights(log_weight)
    assert np.all(weight[:50] == 0.0)
    assert weight.sum() == pytest.approx(1.0)


def test_weighted_mean_sd_quantiles_and_evidence_are_exact_within_their_errors():
    x, log_weight, exact = gaussian_importance()
    whole = weights.summarise_weights(log_weight)
    assert abs(whole["log_evidence"] - exact["log_evidence"]) < 4 * whole["log_evidence_mcse"]
    assert whole["log_evidence_mcse"] < 0.02
    summary = weights.summarise_continuous(x, normalise(log_weight))
    assert abs(summary["mean"] - exact["mean"]) < 4 * summary["mcse"]
    # standard error of a sd of m normal draws: sd / sqrt(2 m); of a quantile q: sqrt(q (1 - q) / m) / density
    m = whole["ess"]
    assert abs(summary["sd"] - exact["sd"]) < 4 * exact["sd"] / np.sqrt(2 * m)
    for q, value in summary["quantiles"].items():
        expected = stats.norm.ppf(float(q), exact["mean"], exact["sd"])
        error = np.sqrt(float(q) * (1 - float(q)) / m) / stats.norm.pdf(expected, exact["mean"], exact["sd"])
        assert abs(value - expected) < 4 * error


def test_reported_errors_are_the_scatter_of_repeated_estimates():
    runs = []
    for seed in range(200):
        x, log_weight, _ = gaussian_importance(2000, seed)
        summary = weights.summarise_continuous(x, normalise(log_weight))
        whole = weights.summarise_weights(log_weight)
        runs.append((summary["mean"], summary["mcse"], whole["log_evidence"], whole["log_evidence_mcse"]))
    mean, mcse, evidence, evidence_mcse = np.array(runs).T
    # a standard deviation from 200 numbers is known to 5 %: four of it
    assert np.std(mean) == pytest.approx(np.mean(mcse), rel=0.2)
    assert np.std(evidence) == pytest.approx(np.mean(evidence_mcse), rel=0.2)


def test_kish_ess_counts_equal_weights_and_ignores_zero_ones():
    log_weight = np.array([0.0] * 30 + [-np.inf] * 70)
    summary = weights.summarise_weights(log_weight)
    assert summary["ess"] == pytest.approx(30)
    assert summary["zero_fraction"] == pytest.approx(0.7)
    assert summary["log_evidence"] == pytest.approx(np.log(0.3))
    # the mean of 100 Bernoulli(0.3) draws has relative error sqrt(0.7 / 0.3 / 100)
    assert summary["log_evidence_mcse"] == pytest.approx(np.sqrt(0.7 / 0.3 / 100))


def test_small_and_large_weights_do_not_under_or_overflow():
    log_weight = np.array([-90_000.0, -90_001.0])
    assert weights.summarise_weights(log_weight)["log_evidence"] == pytest.approx(
        -90_000 + np.log((1 + np.exp(-1)) / 2)
    )
    np.testing.assert_allclose(normalise(log_weight), [1 / (1 + np.exp(-1)), 1 / (1 + np.e)])


def test_all_weights_zero():
    log_weight = np.full(50, -np.inf)
    summary = weights.summarise_weights(log_weight)
    assert summary["ess"] == 0
    assert summary["log_evidence"] == -np.inf
    assert np.isnan(weights.summarise_continuous(np.arange(50.0), normalise(log_weight))["mean"])
    assert weights.summarise_categorical(np.arange(50.0), normalise(log_weight))["probabilities"] == {}
    assert weights.summarise_weights(np.empty(0))["ess"] == 0


def test_weighted_categorical_probabilities():
    summary = weights.summarise_categorical(np.array([3.0, 3.0, 8.0]), np.array([0.25, 0.25, 0.5]))
    assert summary["probabilities"] == {"3": 0.5, "8": 0.5}
    assert summary["mcse"]["8"] == pytest.approx(np.sqrt(2 * 0.25**2 * 0.25 + 0.5**2 * 0.25))


def test_equally_weighted_quantiles_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=1001)
    ours = quantiles(x, np.full(1001, 1 / 1001), (0.1, 0.5, 0.9))
    np.testing.assert_allclose(ours, np.quantile(x, (0.1, 0.5, 0.9), method="hazen"))


def test_distances_of_shifted_samples():
    x = np.linspace(-1, 1, 2001)
    w = np.full(2001, 1 / 2001)
    distance = agreement.compare_continuous(x + 0.5, w, x, w)
    sd = x.std()
    assert distance["mean_difference"] == pytest.approx(0.5 / sd)
    assert distance["wasserstein"] == pytest.approx(0.5 / sd)
    assert distance["ks"] == pytest.approx(0.25, abs=0.002)


def test_distances_use_the_weights():
    x = np.array([0.0, 1.0])
    assert agreement.ks_distance(x, np.array([0.5, 0.5]), x, np.array([0.9, 0.1])) == pytest.approx(0.4)
    assert agreement.compare_categorical({"1": 1.0}, {"2": 1.0})["total_variation"] == 1.0
    assert agreement.compare_categorical({"1": 0.5, "2": 0.5}, {"2": 1.0})["total_variation"] == 0.5


def test_the_distance_to_an_empty_sample_is_nan():
    empty = agreement.compare_continuous(np.ones(3), np.zeros(3), np.ones(3), np.full(3, 1 / 3))
    assert all(np.isnan(value) for value in empty.values())
    assert np.isnan(agreement.compare_categorical({}, {"1": 1.0})["total_variation"])
