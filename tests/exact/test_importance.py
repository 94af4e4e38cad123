# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import pytest
from exact.answers import ANSWERS, assert_weighted

from etalumis.inference import importance
from etalumis.models import examples


@pytest.mark.parametrize("name", list(ANSWERS))
def test_importance_sampling_is_exact(name, statistics):
    exact = ANSWERS[name]
    runs = statistics.size(10_000, 40_000)
    posterior = importance(examples.model(name), exact.observations, runs=runs, seed=11)
    assert len(posterior) == runs
    assert_weighted(posterior, exact)


def test_without_observations_the_posterior_is_the_prior():
    posterior = importance(examples.model("gaussian_unknown_mean"), {}, runs=2000, seed=3)
    assert (posterior.log_weight == 0).all()
    mu = posterior.values["mu"]
    assert abs(mu.mean() - 1.0) < 4 * (5 / 2000) ** 0.5
    assert abs(mu.var() / 5.0 - 1.0) < 4 * (2 / 2000) ** 0.5


def test_jobs_are_combined_into_one_estimate(statistics):
    exact = ANSWERS["gaussian_unknown_mean"]
    model = examples.model("gaussian_unknown_mean")
    runs = statistics.size(3_000, 10_000)
    parts = [importance(model, exact.observations, runs=runs, seed=11, job=job) for job in range(3)]
    joined = type(parts[0]).concatenate(parts)
    assert len(joined) == 3 * runs
    assert len(set(joined.values["mu"].tolist())) == 3 * runs  # jobs draw independently
    assert_weighted(joined, exact)
