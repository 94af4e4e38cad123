# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import inspect
import itertools
import re

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm
from synthetic_posteriors import posterior_of, tau_posterior

from etalumis.config import Config
from etalumis.diagnostics import Thresholds, advice, diagnose
from etalumis.diagnostics.run import compare
from etalumis.distributions import Normal, Uniform
from etalumis.inference import rmh
from etalumis.inference.posterior import Posterior
from etalumis.models import FunctionModel, observe, sample


def sentences(result, subject):
    return [c["sentence"] for c in result["checks"] if c["subject"] == subject]


def passed(result, subject):
    return [c["passed"] for c in result["checks"] if c["subject"] == subject]


@pytest.mark.parametrize(("engine", "remedy"), [("ic", "training.max_minutes"), ("importance", "use RMH or IC")])
def test_the_advice_for_uneven_weights_names_a_remedy(engine, remedy):
    (sentence,) = sentences(diagnose([tau_posterior(engine, log_weight_sd=5.0)]), "weights")
    assert "not reliable: k-hat" in sentence
    assert remedy in sentence


def test_settings_that_the_advice_names_exist():
    text = re.sub(r'"\s+f?"', "", inspect.getsource(advice))  # sentences run over several lines
    keys = set(re.findall(r"\b(?:posteriors|training|traces)(?:\.[a-z_]+)+", text))
    assert {"posteriors.rmh.temperatures", "posteriors.rmh.runs", "training.max_minutes"} <= keys
    for key in keys:
        found = Config().model_dump()
        for name in key.split("."):
            found = found[name]


def ridge(rho=0.999, draws=4000, **info):
    """Two correlated latents, from chains that change one of them at a time, and a value computed from them."""
    rng = np.random.default_rng(0)
    pair = np.zeros((2, draws // 2, 2))
    for chain in pair:
        chain[0] = rng.normal() * np.ones(2)
        for before, after in itertools.pairwise(chain):
            after[0] = rho * before[1] + np.sqrt(1 - rho**2) * rng.normal()
            after[1] = rho * after[0] + np.sqrt(1 - rho**2) * rng.normal()
    a, b = pair.reshape(-1, 2).T
    return posterior_of({"a": a, "b": b, "result": a}, acceptance={"a": {}, "b": {}}, **info)


def test_correlated_latents_are_named_as_the_cause_and_tempering_as_the_remedy():
    plain = ridge(inverse_temperatures=[1.0])
    (sentence,) = sentences(diagnose([plain]), "convergence")
    assert "Likely cause: correlated latents (a and b, rank correlation 1.00)" in sentence
    assert (
        "Set posteriors.rmh.temperatures to 7 (now 1, no tempering; in Python: betas=inverse_temperatures(7, 0.01))"
        in sentence
    )
    (sentence,) = sentences(
        diagnose([ridge(inverse_temperatures=[1.0, 0.0], swap_acceptance=[0.4], round_trips=3)]), "convergence"
    )
    assert "Set posteriors.rmh.temperatures" not in sentence
    assert "Raise posteriors.rmh.runs (in Python: runs; about " in sentence


def test_a_posterior_of_rmh_carries_what_the_advice_needs():
    def model():
        a, b = sample(Uniform(0.0, 10.0), name="a"), sample(Uniform(0.0, 10.0), name="b")
        observe(Normal(a + b, 0.2), name="y")
        return a

    parts = [rmh(FunctionModel(model), {"y": 5.0}, runs=800, seed=1, chain=chain) for chain in (0, 1)]
    result = diagnose([Posterior.concatenate(parts)])
    mixing = result["engines"]["rmh"]["chains"]["mixing"]
    assert mixing["temperatures"] == 1
    assert [pair["latents"] for pair in mixing["correlated"]] == [["a", "b"]]
    assert "Likely cause: correlated latents (a and b" in sentences(result, "convergence")[0]


def test_uncorrelated_chains_that_are_short_need_more_runs_only():
    short = posterior_of({"a": np.random.default_rng(2).normal(size=300)}, acceptance={"a": {}})
    (sentence,) = sentences(diagnose([short], Thresholds(rhat=1.1)), "convergence")
    assert sentence.endswith("Raise posteriors.rmh.runs (in Python: runs; about 2 times as many).")
    very_short = posterior_of({"a": np.random.default_rng(2).normal(size=40)}, acceptance={"a": {}})
    (sentence,) = sentences(diagnose([very_short], Thresholds(rhat=2.0)), "convergence")
    assert "Raise posteriors.rmh.runs (in Python: runs; about " in sentence


def test_slow_chains_without_a_known_cause_need_tempering():
    walk = lfilter([1.0], [1.0, -0.999], np.random.default_rng(2).normal(size=(2, 2000)), axis=1).ravel()
    (sentence,) = sentences(diagnose([posterior_of({"a": walk}, acceptance={"a": {}})]), "convergence")
    assert "Set posteriors.rmh.temperatures to 7" in sentence


def test_modes_that_are_seldom_crossed_are_named():
    rng = np.random.default_rng(4)
    sides = np.repeat([1, -1, 1, -1, 1, -1, 1, -1], 500)
    (sentence,) = sentences(diagnose([posterior_of({"x": 3 * sides + 0.1 * rng.normal(size=4000)})]), "convergence")
    assert "separate modes or a strong, nonlinear dependence (x <= -2." in sentence
    assert "crossings of the gap by all chains: 6)" in sentence
    apart = posterior_of({"x": np.repeat([3.0, -3.0], 2000) + 0.1 * rng.normal(size=4000)})
    (sentence,) = sentences(diagnose([apart]), "convergence")
    assert (
        "chains that stay apart, as in separate modes or with a strong, nonlinear dependence (x by chain: 3, -3)"
        in sentence
    )


def test_a_mode_that_only_one_engine_visited_is_named():
    rng = np.random.default_rng(5)
    one = posterior_of({"x": rng.normal(2, 0.1, size=4000)}, inverse_temperatures=[1.0])
    both = posterior_of({"x": rng.normal(2 * rng.choice([1, -1], size=4000), 0.1)}, "ic")
    (sentence,) = sentences(diagnose([one, both]), "agreement")
    assert re.search(r"RMH has no draw where IC has at least (4\d|50) % of its mass \(x\), an unvisited mode", sentence)
    assert sentence.endswith("(now 1, no tempering; in Python: betas=inverse_temperatures(7, 0.01)).")
    alone = diagnose([one])
    assert passed(alone, "convergence") == [True]
    assert "a mode that no chain visited goes unnoticed" in sentences(alone, "convergence")[0]


def test_too_few_effective_draws_are_not_reported_as_an_unvisited_mode():
    rng = np.random.default_rng(6)
    # 25 values, each kept for 70 draws; moved by 0.85 standard deviations, they leave the lowest tenth empty
    x = np.repeat(rng.permutation(norm.ppf((np.arange(25) + 0.5) / 25)) + 0.85, 70)
    few = posterior_of({"x": x}, inverse_temperatures=[1.0])
    many = posterior_of({"x": rng.normal(size=4000)}, "ic")
    result = diagnose([few, many])
    assert 10 < result["engines"]["rmh"]["quantities"]["x"]["ess"] < 40
    assert compare(few, many)["x"]["unvisited"]["rmh"] >= advice.MIN_UNVISITED
    (sentence,) = sentences(result, "agreement")
    assert " differ: x by " in sentence
    assert "an unvisited mode" not in sentence
    assert "Do not trust RMH, whose own check fails" in sentence


@pytest.mark.parametrize(("draws", "agree"), [(60, True), (4000, False)])
def test_engines_may_differ_by_their_monte_carlo_errors(draws, agree):
    rng = np.random.default_rng(8)
    codes, p, q = np.arange(3), (0.5, 0.3, 0.2), (0.35, 0.4, 0.25)  # total variation 0.15
    one = posterior_of(
        {"x": norm.ppf((np.arange(draws) + 0.5) / draws), "channel": rng.choice(codes, draws, p=p)}, "ic"
    )
    other = posterior_of({"x": one.values["x"] + 0.45, "channel": rng.choice(codes, draws, p=q)}, "importance")
    (sentence,) = sentences(diagnose([one, other]), "agreement")
    assert (" agree in all " in sentence) == agree
    if not agree:
        assert re.search(r"x by 0\.4\d sd \(> 0\.1\d?, Monte Carlo errors included\)", sentence)
