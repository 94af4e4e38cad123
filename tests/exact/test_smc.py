# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sequential Monte Carlo against exact posteriors; its joint moves against prior draws."""

import math

import numpy as np
import pytest
from exact.answers import ANSWERS, SIGMAS, assert_population
from exact.test_ic_by_hand import SkewedSession, skewed_session
from exact.test_proposed_runs import Drifted
from exact.test_rmh import chained_scopes
from exact.test_tempering import ORIGIN, channel_shares, channels

from etalumis.diagnostics.run import lineages
from etalumis.diagnostics.weights import summarise_continuous
from etalumis.distributions import (
    Beta,
    Categorical,
    Exponential,
    Gamma,
    LogNormal,
    Normal,
    Poisson,
    StudentT,
    Uniform,
    Weibull,
)
from etalumis.errors import InferenceError
from etalumis.inference import Posterior, SmcSettings, importance
from etalumis.inference.annealing import next_beta, starting_beta
from etalumis.inference.smc import sample_population, systematic_resampling
from etalumis.log_weights import effective_sample_size, normalise
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample, tag


def settings_of(statistics, **more):
    sizes = {"particles": statistics.size(300, 3_000), "starts": statistics.size(600, 6_000)}
    return SmcSettings(**{**sizes, "conditional_ess": 0.7, "entry_moves": 3, "block_moves": 3, **more})


@pytest.mark.parametrize("proposed", [False, True], ids=["prior", "proposals"])
@pytest.mark.parametrize("name", list(ANSWERS))
def test_smc_is_exact(name, proposed, statistics):
    exact, session = ANSWERS[name], skewed_session(name) if proposed else None
    settings = settings_of(statistics)
    posterior = sample_population(examples.model(name), exact.observations, session, seed=3, settings=settings)
    assert len(posterior) == settings.particles
    assert_population(posterior, exact)


def test_jobs_count_by_their_evidence(statistics):
    exact, settings = ANSWERS["dependent_loop"], settings_of(statistics, particles=200, starts=300)
    model = examples.model("dependent_loop")
    jobs = [
        sample_population(model, exact.observations, None, seed=3, job=job, settings=settings)
        for job in range(statistics.size(3, 20))
    ]
    whole = Posterior.concatenate(jobs)
    evidence = np.exp([job.log_evidence for job in jobs])
    assert whole.log_evidence == pytest.approx(np.log(evidence.mean()))
    expected = sum(e * job.values["x"].mean() for e, job in zip(evidence, jobs, strict=True)) / evidence.sum()
    assert whole.mean("x") == pytest.approx(expected)
    assert_population(whole, exact)


def shares_of_channels(statistics, jobs, **more):
    """Return the estimates of P(channel) and of the log evidence of independent jobs."""
    settings = SmcSettings(statistics.size(150, 600), statistics.size(300, 1_200), 0.7, entry_moves=3, block_moves=2)
    found = []
    for job in range(jobs):
        posterior = sample_population(
            FunctionModel(channels), ORIGIN, SkewedChannels(), seed=3, job=job, settings=settings, **more
        )
        weight, channel = posterior.weight, posterior.values["channel"]
        found.append([weight[channel == k].sum() for k in range(3)] + [posterior.log_evidence])
    return np.array(found), posterior


class SkewedChannels(Drifted):
    """Proposes the third channel more often than its prior, and offsets from the prior."""

    def propose(self, address, distribution, rng):
        if distribution.kind != "Categorical":
            return super().propose(address, distribution, rng)
        value = Categorical((0.2, 0.2, 0.6)).sample(rng)
        return value, math.log((0.2, 0.2, 0.6)[int(value)])


def test_strata_give_the_shares_of_modes_with_less_variance(statistics):
    exact, jobs = channel_shares(), statistics.size(10, 20)
    pooled, _ = shares_of_channels(statistics, jobs)
    found, posterior = shares_of_channels(statistics, jobs, strata="channel")
    error = found.std(axis=0, ddof=1) / math.sqrt(jobs)
    assert np.all(np.abs(found[:, :3].mean(axis=0) - exact) < SIGMAS * error[:3])
    assert np.all(error[:3] < 0.05)
    assert found[:, :3].std(axis=0).sum() < pooled[:, :3].std(axis=0).sum()
    assert found[:, 3].mean() == pytest.approx(pooled[:, 3].mean(), abs=0.25)
    assert [part["stratum"] for part in posterior.info["strata"]] == ["channel 0", "channel 1", "channel 2"]
    total = np.logaddexp.reduce([part["log_evidence"] for part in posterior.info["strata"]])
    assert posterior.log_evidence == pytest.approx(total)


def test_rare_values_and_missing_entries_share_a_stratum(statistics):
    """In this model `s` is drawn only if r <= 4, so some first runs have no value of it."""
    exact = ANSWERS["branching"]
    settings = settings_of(statistics)
    for name in ("r", "s"):
        posterior = sample_population(
            examples.model("branching"), exact.observations, None, seed=4, settings=settings, strata=name
        )
        assert posterior.info["strata"][-1]["stratum"] == f"other {name}"
        assert len(posterior.info["strata"]) > 3
        assert_population(posterior, exact)


def test_a_value_that_no_first_run_has_is_reached_by_moves(statistics):
    """The rare value has nearly all of the posterior, and no stratum."""
    prior = (0.6, 0.3995, 0.0005)

    def model():
        observe(Normal(4.0 * sample(Categorical(prior), name="k"), 1.0), name="obs")

    settings = SmcSettings(statistics.size(300, 2_000), 300, 0.9, entry_moves=10, block_moves=0)
    posterior = sample_population(FunctionModel(model), {"obs": 8.0}, None, seed=1, settings=settings, strata="k")
    assert [part["stratum"] for part in posterior.info["strata"]] == ["k 0", "k 1"]
    joint = np.array(prior) * np.exp(-0.5 * (8.0 - 4.0 * np.arange(3)) ** 2)
    assert posterior.weight[posterior.values["k"] == 2].sum() > 0.5 * joint[2] / joint.sum()


def test_particles_stay_in_their_stratum_although_moves_draw_it_again():
    """The value of a scope after the moved entry is drawn again by every block move."""

    def model():
        x = sample(Normal(0.0, 1.0), name="x")
        with rejection_scope() as scope:
            while True:
                k = sample(Categorical((0.5, 0.5)), name="k")
                if sample(Uniform(0.0, 1.0), name="u") < 0.5 + 0.3 * k:
                    break
                scope.repeat()
        observe(Normal(x + k, 0.5), name="obs")

    settings = SmcSettings(200, 400, 0.5, entry_moves=3, block_moves=3)
    posterior = sample_population(FunctionModel(model), {"obs": 0.7}, None, seed=1, settings=settings, strata="k")
    particles = [part["particles"] for part in posterior.info["strata"]]
    assert 199 <= sum(particles) <= 201
    assert min(particles) > 50  # one half of them is divided equally
    np.testing.assert_array_equal(posterior.values["k"], np.repeat([0.0, 1.0], particles))


def test_only_a_discrete_entry_has_strata():
    def sampled(name):
        model, observations = examples.model("dependent_loop"), {"obs": 0.4}
        sample_population(model, observations, None, seed=3, settings=SmcSettings(10, 20), strata=name)

    with pytest.raises(InferenceError, match="'theta' has a Uniform prior; expected the name of a discrete entry"):
        sampled("theta")
    with pytest.raises(InferenceError, match="no first run has an entry of the name 'channel'; found theta, u, x"):
        sampled("channel")


@pytest.mark.parametrize("moves", [{"entry_moves": 0}, {"block_moves": 0}], ids=["blocks", "entries"])
def test_each_kind_of_move_agrees_with_importance_sampling_on_chained_scopes(moves, statistics):
    model, observations = FunctionModel(chained_scopes), {"obs": 2.0}
    reference = importance(model, observations, runs=statistics.size(6_000, 30_000), seed=8)
    settings = settings_of(statistics, **moves)
    posterior = sample_population(model, observations, None, seed=4, settings=settings)
    for name in ("theta", "count", "x", "z", "extra_or_zero", "last"):
        for power in (1, 2):
            truth = summarise_continuous(reference.values[name] ** power, reference.weight)
            found = summarise_continuous(posterior.values[name] ** power, posterior.weight, lineages(posterior))
            error = np.hypot(truth["mcse"], found["mcse"])
            assert abs(found["mean"] - truth["mean"]) < SIGMAS * error, (name, power)


def every_kind():
    """Latents of every kind with a continuous coordinate, whose priors depend on earlier ones."""
    uniform = sample(Uniform(-1.0, 2.0), name="uniform")
    normal = sample(Normal(uniform, 1.0 + uniform * uniform), name="normal")
    gamma = sample(Gamma(2.0, 1.0 + normal * normal), name="gamma")
    beta = sample(Beta(1.5, 1.0 + gamma), name="beta")
    exponential = sample(Exponential(0.5 + beta), name="exponential")
    lognormal = sample(LogNormal(beta, 0.5), name="lognormal")
    weibull = sample(Weibull(1.0 + lognormal, 1.5), name="weibull")
    student = sample(StudentT(1.5, weibull, 0.5), name="student")
    count = sample(Poisson(1.0 + min(student * student, 9.0)), name="count")
    sample(Normal(count + exponential, 1.0), name="last")


NAMES = ("uniform", "normal", "gamma", "beta", "exponential", "lognormal", "weibull", "student", "count", "last")


def test_joint_moves_keep_the_prior_of_every_kind_of_entry(statistics):
    model, particles = FunctionModel(every_kind), statistics.size(600, 5_000)
    settings = SmcSettings(particles, particles, entry_moves=0, block_moves=statistics.size(20, 40))
    moved = sample_population(model, {}, None, seed=5, settings=settings)
    moves = moved.info["acceptance"]["block of entries"]
    assert moves["proposed"] >= 0.9 * settings.block_moves * particles
    assert moves["accepted"] > 0.05
    reference = importance(model, {}, runs=20 * particles, seed=7)
    for name in NAMES:
        truth = np.sort(reference.values[name])
        for share in (0.1, 0.5, 0.9):  # heavy tails have no usable moments
            below = float((moved.values[name] <= np.quantile(truth, share, method="inverted_cdf")).mean())
            exact = float((truth <= np.quantile(truth, share, method="inverted_cdf")).mean())
            assert abs(below - exact) < SIGMAS * np.sqrt(exact * (1 - exact) / particles * 1.05), (name, share)


def narrow_ridge():
    """Two latents that the observation ties to a thousandth of their prior."""
    x, y = sample(Uniform(0.0, 1.0), name="x"), sample(Uniform(0.0, 1.0), name="y")
    tag("sum", x + y)
    observe(Normal(x + y, 0.001), name="obs")


def test_joint_moves_follow_a_narrow_ridge(statistics):
    particles = statistics.size(400, 2_000)
    settings = SmcSettings(particles, particles, conditional_ess=0.7, entry_moves=0, block_moves=5)
    posterior = sample_population(FunctionModel(narrow_ridge), {"obs": 1.0}, None, seed=6, settings=settings)
    assert posterior.info["acceptance_overall"] > 0.3
    found = summarise_continuous(posterior.values["x"], posterior.weight, lineages(posterior))
    assert abs(found["mean"] - 0.5) < SIGMAS * found["mcse"]
    assert found["sd"] == pytest.approx(1 / np.sqrt(12), rel=0.2)


def test_resampling_keeps_expectations():
    weight = np.array([0.5, 0.0, 0.3, 0.2])
    rng = np.random.default_rng(1)
    counts = np.zeros(4)
    for _ in range(2000):
        chosen = systematic_resampling(rng, weight, 5)
        drawn = np.bincount(chosen, minlength=4)
        assert (np.abs(drawn - 5 * weight) < 1).all()
        counts += drawn
    assert counts[1] == 0
    np.testing.assert_allclose(counts / counts.sum(), weight, atol=0.01)


def test_the_next_temperature_keeps_the_conditional_effective_sample_size():
    log_likelihood = np.random.default_rng(2).normal(-100.0, 30.0, 1000)
    beta = next_beta(log_likelihood, 0.1, 0.8)
    weight = np.exp((beta - 0.1) * (log_likelihood - log_likelihood.max()))
    assert weight.sum() ** 2 / np.sum(weight**2) / 1000 == pytest.approx(0.8, abs=0.01)
    assert next_beta(np.full(5, -3.0), 0.1, 0.8) == 1.0


def test_the_start_is_as_cold_as_its_effective_draws_allow():
    log_likelihood = np.random.default_rng(3).normal(-100.0, 5.0, 1000)
    sizes = {}
    for beta in np.linspace(0.0, 1.0, 401):
        weight = np.exp(beta * (log_likelihood - log_likelihood.max()))
        sizes[beta] = weight.sum() ** 2 / np.sum(weight**2)
    expected = max(beta for beta, size in sizes.items() if size >= 0.5 * max(sizes.values()))
    beta, log_weight = starting_beta(np.zeros(1000), log_likelihood)
    assert beta == pytest.approx(expected, rel=0.15)
    np.testing.assert_array_equal(log_weight, beta * log_likelihood)
    proposed_well = -log_likelihood  # weights are equal at 1
    assert starting_beta(proposed_well, log_likelihood)[0] == 1.0
    # fewer effective draws are enough: a higher temperature is not needed
    higher, log_weight = starting_beta(np.zeros(1000), log_likelihood, 100.0)
    assert beta < higher < 1.0
    assert effective_sample_size(normalise(log_weight)) >= 100.0


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_joint_moves_do_not_depend_on_units(scale):
    def model():
        time_s = sample(Normal(0.0, scale), name="time_s")
        observe(Normal(time_s, 0.3 * scale), name="obs")

    settings = SmcSettings(200, 200, entry_moves=0, block_moves=5)
    posterior = sample_population(FunctionModel(model), {"obs": 0.5 * scale}, None, seed=9, settings=settings)
    assert posterior.info["acceptance_overall"] > 0.4


def test_joint_moves_of_few_states_keep_their_spread(statistics):
    """The state that moves is not one of the two that its move is the difference of; if it were, the spread shrinks."""
    variances = []
    for job in range(statistics.size(150, 1_000)):
        model = FunctionModel(lambda: sample(Normal(0.0, 1.0), name="x"))
        settings = SmcSettings(8, 8, entry_moves=0, block_moves=20)
        posterior = sample_population(model, {}, None, seed=10, job=job, settings=settings)
        variances.append(np.mean(posterior.values["x"] ** 2))
    error = np.std(variances) / np.sqrt(len(variances))
    assert abs(np.mean(variances) - 1.0) < 3.5 * error


def test_an_infinite_likelihood_is_refused():
    def model():
        observe(Normal(sample(Uniform(0.0, 1.0)), 1.0), name="obs")
        return np.inf

    class Infinite(SkewedSession):
        def propose(self, address, distribution, rng):
            return 0.5, -np.inf

    with pytest.raises(InferenceError, match=r"inf"):
        sample_population(FunctionModel(model), {"obs": 0.5}, Infinite(), seed=9, settings=SmcSettings(10, 10))
