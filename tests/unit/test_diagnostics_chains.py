# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import numpy as np
import pytest
from scipy.signal import lfilter

from etalumis.diagnostics import arviz_calls
from etalumis.diagnostics.chains import as_chains, summarise_categorical, summarise_continuous
from etalumis.diagnostics.rounding import tie_break


def normal_chains(seed=0, chains=4, draws=2000):
    return np.random.default_rng(seed).normal(size=(chains, draws))


@pytest.mark.parametrize("method", ["rank", "split", "identity"])
def test_rhat_of_chains_of_one_distribution_is_one(method):
    # the largest of 200 such R-hats (rank) was 1.0009
    assert arviz_calls.rhat(normal_chains(), method) == pytest.approx(1.0, abs=0.002)


def test_classic_rhat_of_shifted_chains_follows_the_formula():
    chains = normal_chains(chains=2, draws=5000) + np.array([[0.0], [2.0]])
    # within variance 1, means 2 apart: var+ = 1 + var(means) = 1 + 2
    assert arviz_calls.rhat(chains, "identity") == pytest.approx(np.sqrt(3.0), rel=0.03)
    # rank-normalised, the split chains' means lie somewhat closer together
    assert 1.3 < arviz_calls.rhat(chains, "rank") < np.sqrt(3.0)


def test_rank_rhat_detects_different_widths_and_the_classic_one_does_not():
    chains = normal_chains(chains=2, draws=5000) * np.array([[1.0], [3.0]])
    assert arviz_calls.rhat(chains, "rank") > 1.1
    assert arviz_calls.rhat(chains, "identity") < 1.01


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_ess_of_an_autoregressive_chain(rho):
    innovations = normal_chains(seed=3, draws=5000)
    chains = lfilter([np.sqrt(1 - rho**2)], [1, -rho], innovations, axis=1)
    expected = chains.size * (1 - rho) / (1 + rho)
    # the scatter of this estimate over 60 seeds is 6 %: four of it
    assert arviz_calls.ess(chains) == pytest.approx(expected, rel=0.24)
    assert arviz_calls.mcse_mean(chains) == pytest.approx(1 / np.sqrt(expected), rel=0.15)


def test_autocorrelation_of_an_autoregressive_chain():
    chains = lfilter([np.sqrt(1 - 0.81)], [1, -0.9], normal_chains(seed=1, draws=40000), axis=1)
    lags = np.arange(6)
    # Bartlett: standard error about sqrt(2 tau / n) = 0.02 at these lags, tau = 9.5 the autocorrelation time
    np.testing.assert_allclose(arviz_calls.autocorrelation(chains)[:, :6], np.tile(0.9**lags, (4, 1)), atol=0.08)


def test_degenerate_chains_give_nan_and_no_warning():
    broken = normal_chains()
    broken[0, 5] = np.nan
    for chains in (np.ones((2, 100)), broken, normal_chains(draws=3), np.empty((0, 0)), np.empty((2, 0))):
        assert np.isnan(arviz_calls.rhat(chains))
        assert np.isnan(arviz_calls.ess(chains))
        assert np.isnan(arviz_calls.mcse_mean(chains))
    assert np.isnan(arviz_calls.rhat(normal_chains(chains=1)))
    assert arviz_calls.ess(normal_chains(chains=1)) > 0
    assert np.isnan(arviz_calls.autocorrelation(np.ones((2, 50)))).all()


def test_chains_constant_at_different_values_have_infinite_rhat():
    assert arviz_calls.rhat(np.array([[0.0] * 50, [1.0] * 50])) == np.inf
    assert summarise_categorical(np.array([[0.0] * 50, [1.0] * 50]))["rhat"] == np.inf


def test_ranks_run_over_all_chains():
    ranks = tie_break(np.array([[1.0, 5.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(ranks, [[1, 4], [2, 3]])


def test_chains_are_cut_to_the_shortest():
    chain = np.array([7, 7, 7, 9, 9])
    np.testing.assert_array_equal(as_chains(np.arange(5.0), chain), [[0, 1], [3, 4]])


def test_absent_draws_are_counted_and_left_out_of_the_mean():
    chains = np.where(np.arange(100) < 50, 1.0, np.nan) * np.ones((2, 1))
    summary = summarise_continuous(chains)
    assert summary["absent_fraction"] == 0.5
    assert summary["mean"] == 1.0
    assert np.isnan(summary["rhat"])
    assert summary["constant"]


def test_categorical_summary_does_not_depend_on_how_channels_are_numbered():
    rng = np.random.default_rng(5)
    codes = rng.choice(3, p=[0.6, 0.3, 0.1], size=(2, 3000)).astype(float)
    codes[1, :1500] = 0
    renumbered = np.array([40.0, 2.0, 7.0])[codes.astype(int)]
    first, second = summarise_categorical(codes), summarise_categorical(renumbered)
    assert first["rhat"] == second["rhat"] > 1.01
    assert first["ess"] == second["ess"]
    assert sum(first["probabilities"].values()) == pytest.approx(1.0)
    assert first["probabilities"]["0"] == second["probabilities"]["40"] == np.mean(codes == 0)


def test_a_rare_channel_does_not_affect_rhat_and_ess():
    codes = np.zeros((2, 1000))
    codes[0, ::2] = codes[1, ::2] = 1
    codes[0, 3] = 5
    summary = summarise_categorical(codes)
    assert "5" in summary["probabilities"]
    assert "5" not in summary["mcse"]
