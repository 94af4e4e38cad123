# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Simulation-based calibration of the engines: over draws of a model, the ranks of the truth are uniform."""

import pytest

from etalumis.calibration import Engine, calibrate, summarise
from etalumis.diagnostics import Thresholds
from etalumis.inference import importance, rmh
from etalumis.models import examples

THRESHOLDS = Thresholds(ess=10.0, rhat=1.2, khat=1.0)


def by_rmh(model, observations, *, seed, checkpoint):
    return rmh(model, observations, runs=900, seed=seed, burn_in=100, thin=4)


def by_importance(model, observations, *, seed, checkpoint):
    return importance(model, observations, runs=2000, seed=seed)


def narrowed(model, observations, *, seed, checkpoint):
    """Return the draws of importance sampling at a third of their distance from the mean."""
    posterior = by_importance(model, observations, seed=seed, checkpoint=checkpoint)
    mean = posterior.mean("mu")
    posterior.values = {"mu": mean + 0.3 * (posterior.values["mu"] - mean)}
    return posterior


def verdicts(engine, sample, name, observations):
    model = examples.model(name)
    cases = calibrate(model, Engine(engine, {}, sample), observations=observations, seed=2)
    result = summarise(engine, cases, THRESHOLDS, ["mu"])
    assert result["usable"] > 0.8 * observations, result["problems"]
    return {check["subject"]: check for check in result["checks"]}


@pytest.mark.parametrize(("engine", "sample"), [("rmh", by_rmh), ("importance", by_importance)])
@pytest.mark.parametrize("name", ["gaussian_unknown_mean", "marsaglia_replaced"])
def test_ranks_of_the_truth_are_uniform(engine, sample, name, statistics):
    found = verdicts(engine, sample, name, statistics.size(40, 200))
    assert found["ranks"]["passed"], found["ranks"]["sentence"]
    assert found["coverage"]["passed"], found["coverage"]["sentence"]


def test_a_posterior_that_is_too_narrow_is_found(statistics):
    found = verdicts("importance", narrowed, "gaussian_unknown_mean", statistics.size(40, 200))
    assert not found["ranks"]["passed"]
    assert "too narrow" in found["ranks"]["sentence"]
    assert not found["coverage"]["passed"]
