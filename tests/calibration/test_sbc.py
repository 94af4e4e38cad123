# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Simulation-based calibration (Talts et al. 2018): over draws of a model, the rank of the truth is uniform.

If the posterior is too wide, too narrow or shifted, the ranks accumulate in the middle, at the ends or on one side.
"""

import numpy as np
import pytest
from scipy import stats

from etalumis.address import AddressTable
from etalumis.execution import run
from etalumis.inference import importance, rmh
from etalumis.inference.controllers import PriorController
from etalumis.inference.observations import Observations
from etalumis.models import examples
from etalumis.seeds import generator

DRAWS = 19  # ranks 0..19: four bins of five


def simulate(name: str, replicate: int) -> tuple[float, dict[str, np.ndarray]]:
    """Draw (mu, observations) from the joint distribution of a model."""
    rng = generator(1, f"sbc/{name}", replicate)
    trace = run(examples.model(name), PriorController(rng, Observations({})), AddressTable())
    truth = float(trace.tags["mu"]) if "mu" in trace.tags else trace.value[trace.name.index("mu")]
    return truth, {observed.name: observed.distribution.sample(rng) for observed in trace.observes}


def by_rmh(name: str, observations: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """Return nearly independent draws of mu from one thinned chain."""
    posterior = rmh(examples.model(name), observations, runs=100 + 40 * DRAWS, seed=seed, burn_in=100, thin=40)
    return np.asarray(posterior.values["mu"])


def by_importance(name: str, observations: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """Return draws of mu resampled by weight."""
    posterior = importance(examples.model(name), observations, runs=2000, seed=seed)
    weight = np.exp(posterior.log_weight - posterior.log_weight.max())
    return generator(seed, "sbc/resample", 0).choice(posterior.values["mu"], DRAWS, p=weight / weight.sum())


@pytest.mark.parametrize("engine", [by_rmh, by_importance], ids=["rmh", "importance"])
@pytest.mark.parametrize("name", ["gaussian_unknown_mean", "marsaglia_replaced"])
def test_ranks_of_the_truth_are_uniform(engine, name, statistics):
    ranks = []
    for replicate in range(statistics.size(40, 200)):
        truth, observations = simulate(name, replicate)
        draws = engine(name, observations, replicate)
        assert len(draws) == DRAWS
        ranks.append(int((draws < truth).sum()))
    counts = np.bincount(np.array(ranks) // 5, minlength=4)
    assert stats.chisquare(counts).pvalue > 1e-3, counts


def test_a_posterior_that_is_too_narrow_is_found(statistics):
    ranks = []
    for replicate in range(statistics.size(40, 200)):
        truth, observations = simulate("gaussian_unknown_mean", replicate)
        draws = by_importance("gaussian_unknown_mean", observations, replicate)
        narrowed = draws.mean() + 0.3 * (draws - draws.mean())
        ranks.append(int((narrowed < truth).sum()))
    assert stats.chisquare(np.bincount(np.array(ranks) // 5, minlength=4)).pvalue < 1e-3
