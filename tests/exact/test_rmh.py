# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import numpy as np
import pytest
from exact.answers import ANSWERS, assert_chain, assert_mean, mcse

from etalumis.distributions import Categorical, Normal, Poisson, Uniform
from etalumis.inference import importance, rmh
from etalumis.inference.kernel import Settings
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample, tag


@pytest.mark.parametrize("name", list(ANSWERS))
def test_rmh_is_exact(name, statistics):
    exact = ANSWERS[name]
    runs = statistics.size(15_000, 40_000)
    posterior = rmh(examples.model(name), exact.observations, runs=runs, burn_in=500, seed=2)
    assert len(posterior) == runs - 500
    assert_chain(posterior, exact)


# Each kind of move is tested alone: a mixture would hide a small mistake in one of them.
MOVES = {
    "fresh": Settings(focus_share=0.0, fresh_share=1.0, tail_share=0.0),
    "local": Settings(focus_share=0.7, fresh_share=0.0, tail_share=0.0),
    "tail": Settings(focus_share=0.0, fresh_share=0.0, tail_share=1.0),
}


# no case ("branching", "local"): local steps of r alone rarely cross 3 and 4, which have no posterior mass
@pytest.mark.parametrize(
    ("name", "moves"),
    [("branching", "fresh"), ("branching", "tail")] + [("dependent_loop", moves) for moves in MOVES],
)
def test_every_kind_of_move_is_exact(name, moves, statistics):
    settings = MOVES[moves]
    exact = ANSWERS[name]
    runs = statistics.size(12_000, 30_000)
    posterior = rmh(examples.model(name), exact.observations, runs=runs, burn_in=500, seed=5, settings=settings)
    assert_chain(posterior, exact)


def test_uncontrolled_entries_are_redrawn_but_never_stepped(statistics):
    def model():
        nuisance = sample(Normal(0.0, 1.0), name="nuisance", control=False)
        x = sample(Normal(0.0, 1.0), name="x")
        observe(Normal(x + nuisance, 1.0), name="obs")

    runs, settings = statistics.size(15_000, 60_000), Settings(redraw_share=0.3)
    posterior = rmh(FunctionModel(model), {"obs": 3.0}, runs=runs, seed=3, settings=settings)
    assert "nuisance" not in posterior.info["acceptance"]
    assert_mean(posterior.values["nuisance"], 1.0, "mean")  # of three standard normals that add up to 3


def chained_scopes():
    """Latents and uncontrolled draws around two scopes whose acceptance depends on earlier draws."""
    shift = sample(Uniform(-0.5, 0.5), name="shift", control=False)
    theta = sample(Uniform(0.2, 2.0), name="theta")
    x = _loop(theta, shift)
    count = sample(Poisson(1.0 + theta), name="count")
    z = _loop(0.3 + x * x, 0.0)
    extra = sample(Normal(x, 0.5), name="extra") if count > 1 else 0.0
    last = sample(Uniform(0.0, 1.0 + (count > 2)), name="last")
    tag("x", x)
    tag("z", z)
    tag("extra_or_zero", extra)
    observe(Normal(x + z + extra + last, 0.7), name="obs")
    return x


def _loop(rate, shift):
    """Return x ~ N(shift, 1), y ~ U(0, 1) where y < x^2 rate / (1 + x^2 rate), with a test draw."""
    with rejection_scope() as scope:
        while True:
            x = sample(Normal(shift, 1.0))
            helper = sample(Uniform(0.0, 1.0), control=x > 0)
            if sample(Uniform(0.0, 1.0)) <= rate * x * x / (1 + rate * x * x) * (0.5 + 0.5 * helper):
                return x
            scope.repeat()


@pytest.mark.parametrize("settings", [Settings(), Settings(tail_share=0.3)], ids=["default", "tails"])
def test_rmh_agrees_with_importance_sampling_on_chained_scopes(settings, statistics):
    model, observations = FunctionModel(chained_scopes), {"obs": 2.0}
    reference = importance(model, observations, runs=statistics.size(4_000, 20_000), seed=8)
    weight = reference.weight
    runs = statistics.size(6_000, 40_000)
    chain = rmh(model, observations, runs=runs, burn_in=500, seed=9, thin=3, settings=settings)
    for name in ("shift", "theta", "count", "x", "z", "extra_or_zero", "last"):
        for power in (1, 2):
            exact_values = reference.values[name] ** power
            truth = float(weight @ exact_values)
            error = float(np.sqrt(weight**2 @ (exact_values - truth) ** 2))
            values = chain.values[name] ** power
            ess_error = mcse(values)
            assert abs(values.mean() - truth) < 4 * np.hypot(error, ess_error), (name, power)


ACCEPTED = ((0, 0), (0, 1), (0, 2), (1, 1), (2, 2))


def coupled_pair():
    """A scope of two categories without a test draw: uniform over the accepted pairs."""
    uniform = Categorical((1.0, 1.0, 1.0))
    with rejection_scope() as scope:
        while True:
            pair = sample(uniform, name="first"), sample(uniform, name="second")
            if pair in ACCEPTED:
                break
            scope.repeat()
    tag("pair", ACCEPTED.index(pair))


@pytest.mark.parametrize("fresh_share", [0.0, 1.0])
def test_proposals_that_leave_the_scope_are_lost_not_redrawn(fresh_share, statistics):
    # Pairs with many accepted neighbours lose fewer proposals. If the next repetition of the loop replaced a lost
    # proposal, the pairs would not be equally likely.
    settings = Settings(focus_share=0.0, fresh_share=fresh_share, tail_share=0.0)
    runs = statistics.size(6_000, 40_000)
    chain = rmh(FunctionModel(coupled_pair), {}, runs=runs, seed=12, settings=settings)
    for pair in range(len(ACCEPTED)):
        assert_mean((chain.values["pair"] == pair).astype(float), 1 / len(ACCEPTED), f"pair {ACCEPTED[pair]}")
    assert chain.info["lost_share"] > 0.2


def chained_scopes_prior():
    """The latents of `chained_scopes` without its observation."""
    theta = sample(Uniform(0.2, 2.0), name="theta")
    x = _loop(theta, 0.0)
    tag("x", x)
    count = sample(Poisson(1.0 + theta), name="count")
    if count > 2:
        sample(Normal(x, 1.0))
    z = _loop(0.3 + x * x, 0.5)
    tag("z", z)
    tag("last", sample(Uniform(0.0, 1.0 + (z > 0))))


def test_without_observations_loops_and_branches_keep_their_prior(statistics):
    model = FunctionModel(chained_scopes_prior)
    prior = importance(model, {}, runs=statistics.size(3_000, 20_000), seed=21)
    chain = rmh(model, {}, runs=statistics.size(6_000, 40_000), seed=22, thin=2)
    for name in ("theta", "count", "x", "z", "last"):
        for power in (1, 2):
            a, b = prior.values[name] ** power, chain.values[name] ** power
            error = np.hypot(a.std() / len(a) ** 0.5, mcse(b))
            assert abs(a.mean() - b.mean()) < 4 * error, (name, power)
