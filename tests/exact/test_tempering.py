# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Parallel tempering: exact for models where plain Metropolis-Hastings works, and for models where it is stuck."""

from itertools import pairwise

import numpy as np
import pytest
from exact.answers import ANSWERS, SIGMAS, assert_chain, assert_mean, mcse
from scipy import stats

from etalumis.distributions import Categorical, Normal
from etalumis.errors import InferenceError
from etalumis.inference import rmh
from etalumis.inference.kernel import Settings
from etalumis.inference.observations import Observations
from etalumis.inference.runner import ModelRunner
from etalumis.inference.temperatures import equalise_swap_rates, inverse_temperatures, replica_settings
from etalumis.inference.tempering import Ladder, RoundTripCounter
from etalumis.models import FunctionModel, examples, observe, sample

LADDER = inverse_temperatures(4, 0.1)


@pytest.mark.parametrize("name", ["gaussian_unknown_mean", "branching", "dependent_loop"])
def test_the_cold_replica_samples_the_posterior(name, statistics):
    exact = ANSWERS[name]
    sweeps = statistics.size(5_000, 15_000)
    posterior = rmh(examples.model(name), exact.observations, runs=4 * sweeps, burn_in=200, seed=41, betas=LADDER)
    assert len(posterior) == sweeps - 200
    assert_chain(posterior, exact)
    assert all(rate > 0.1 for rate in posterior.info["swap_acceptance"])
    assert posterior.info["round_trips"] > 100


# Three decay channels in the plane. Relative to the observation, their centres lie on different sides, so a change of
# the channel with the same offsets lowers the log likelihood by hundreds of nats: the modes are isolated.
PRIOR = (0.5, 0.3, 0.2)
CENTRES = ((2.0, 2.0), (-2.0, 1.9), (0.0, -2.2))
NOISE = 0.1
ORIGIN = {"east": 0.0, "north": 0.0}


def channels():
    """Draw a channel and an offset from its centre, and observe the position with little noise."""
    east, north = CENTRES[int(sample(Categorical(PRIOR), name="channel"))]
    observe(Normal(east + sample(Normal(0.0, 1.0), name="a"), NOISE), name="east")
    observe(Normal(north + sample(Normal(0.0, 1.0), name="b"), NOISE), name="north")


def channel_shares():
    """Return the exact posterior of the channel: the sum of offset and noise is Gaussian around the centre."""
    spread = np.hypot(1.0, NOISE)
    joint = np.array([p * np.prod(stats.norm.pdf(0.0, c, spread)) for p, c in zip(PRIOR, CENTRES, strict=True)])
    return joint / joint.sum()


def test_tempering_finds_the_shares_of_modes_that_plain_chains_never_leave(statistics):
    model, exact = FunctionModel(channels), channel_shares()
    assert exact.max() < 0.6
    for chain in range(2):
        plain = rmh(model, ORIGIN, runs=4_000, burn_in=200, seed=42, chain=chain)
        assert np.bincount(plain.values["channel"].astype(int), minlength=3).max() > 0.99 * len(plain)
    betas = inverse_temperatures(5, 0.02)
    tempered = rmh(model, ORIGIN, runs=statistics.size(80_000, 160_000), burn_in=500, seed=43, betas=betas)
    assert tempered.info["round_trips"] > 100
    channel = tempered.values["channel"]
    for number, share in enumerate(exact):
        inside = channel == number
        error = mcse(inside.astype(float))
        assert error < 0.1
        assert abs(inside.mean() - share) < SIGMAS * error, number
        for name, centre in zip("ab", CENTRES[number], strict=True):
            offset = tempered.values[name][inside]
            assert abs(offset.mean() + centre / (1.0 + NOISE**2)) < SIGMAS * mcse(offset), (number, name)


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_a_hot_replica_samples_its_own_tempered_posterior(beta, statistics):
    # prior N(1, 5), two observations of variance 2: the precision of the likelihood is multiplied by beta
    mu = np.array([state.value[0] for state in hottest_states((1.0, beta), statistics.size(2_500, 12_000))])
    precision = 1 / 5 + beta * 2 / 2
    mean = (1 / 5 + beta * (8 + 9) / 2) / precision
    assert_mean(mu, mean, "mean")
    assert_mean((mu - mean) ** 2, 1 / precision, "variance")


def hottest_states(betas, sweeps):
    """Make sweeps with the Gaussian example; yield the state of the hottest replica after each sweep."""
    runner = ModelRunner(examples.model("gaussian_unknown_mean"), Observations({"obs0": 8.0, "obs1": 9.0}), seed=44)
    ladder = Ladder(runner, np.random.default_rng(44), Settings(), betas)
    ladder.start(50)
    for _ in range(sweeps):
        ladder.sweep()
        yield ladder.replicas[-1].state


def test_at_beta_zero_every_step_is_an_accepted_draw_of_the_prior():
    runner = ModelRunner(examples.model("branching"), Observations({"obs": 6.0}), seed=45)
    ladder = Ladder(runner, np.random.default_rng(45), Settings(), (1.0, 0.0))
    ladder.start(50)
    for _ in range(200):
        ladder.sweep()
    assert ladder.replicas[-1].counts == {"all redrawn": [200, 200, 0]}


def test_the_ladder_has_equal_ratios_and_ends_at_the_prior():
    assert inverse_temperatures(1, 0.5) == (1.0,)
    assert inverse_temperatures(2, 0.5) == (1.0, 0.0)
    np.testing.assert_allclose(inverse_temperatures(4, 0.01), (1.0, 0.1, 0.01, 0.0), rtol=1e-12)
    for wrong in ((0, 0.5), (3, 0.0), (3, 1.0)):
        with pytest.raises(InferenceError, match="hottest_beta"):
            inverse_temperatures(*wrong)


@pytest.mark.parametrize("betas", [(0.5, 0.1), (1.0, 0.5, 0.5), (1.0, -0.1), (1.0, 0.2, 0.4), (1.0, float("nan"))])
def test_a_ladder_that_does_not_decrease_from_one_is_refused(betas):
    with pytest.raises(InferenceError, match="1 = beta_0"):
        rmh(examples.model("branching"), {"obs": 6.0}, runs=100, seed=1, betas=betas)


def test_temperatures_divide_the_rejection_rate_into_equal_parts():
    np.testing.assert_allclose(
        equalise_swap_rates((1.0, 0.1, 0.01, 0.0), (0.3, 0.3, 0.3)), (1.0, 0.1, 0.01, 0.0), rtol=1e-9
    )
    # 0.9 + 0.3 + 0.3 in steps of 0.5: at 5/9 of the first interval, at 1/3 of the second, logarithmically
    betas = equalise_swap_rates((1.0, 0.1, 0.01, 0.0), (0.9, 0.3, 0.3))
    np.testing.assert_allclose(betas, (1.0, 10 ** (-5 / 9), 10 ** (-4 / 3), 0.0), rtol=1e-9)
    # 0.1 + 0.5 in steps of 0.3: at 2/5 of the last interval, linearly
    np.testing.assert_allclose(equalise_swap_rates((1.0, 0.5, 0.0), (0.1, 0.5)), (1.0, 0.5 * 0.6, 0.0), rtol=1e-9)


def test_the_burn_in_equalises_the_swap_rates(statistics):
    model, observations = examples.model("gaussian_unknown_mean"), {"obs0": 8.0, "obs1": 9.0}
    uneven = (1.0, 0.95, 0.9, 0.85, 0.0)
    rates = [
        rmh(
            model,
            observations,
            runs=statistics.size(5_000, 15_000) + 5 * burn_in,
            burn_in=burn_in,
            seed=46,
            betas=uneven,
        ).info
        for burn_in in (0, 400)
    ]
    assert rates[0]["inverse_temperatures"] == list(uneven)
    before, after = (np.ptp(info["swap_acceptance"]) for info in rates)
    assert before > 0.9
    assert after < 0.25


def test_hot_replicas_redraw_more():
    cold = Settings()
    assert replica_settings(cold, 1.0) == cold
    shares = [replica_settings(cold, beta) for beta in LADDER[:-1]]
    assert all(a.tail_share < b.tail_share and a.redraw_share < b.redraw_share for a, b in pairwise(shares))
    assert replica_settings(cold, 0.0).redraw_share == 1.0


def test_round_trips_are_from_the_cold_end_to_the_hot_one_and_back():
    walks = RoundTripCounter(3)
    trips = []
    for pair in (0, 1, 1, 0, 0, 1, 1, 0):  # walkers at the ends: 1..2, 1..0, 1..2, 0..2, 1..2, 1..0, 1..2, 0..2
        walks.exchange(pair)
        walks.record()
        trips.append(walks.round_trips)
    assert trips == [0, 0, 0, 0, 0, 0, 0, 1]
