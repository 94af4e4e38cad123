# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Temperatures of a population: where it starts, and how far each stage goes (`inference.smc`)."""

import math

import numpy as np

from etalumis.log_weights import effective_sample_size, normalise
from etalumis.typing import Array

MIN_START_SHARE = 0.5
"""Share of the largest effective sample size, over all temperatures, that the first runs have to keep."""


def starting_beta(log_weight: Array, log_likelihood: Array, enough: float = math.inf) -> tuple[float, Array]:
    """Return the highest inverse temperature at which weighted draws are worth `enough`, or half of what they can be.

    Between two that are about as effective, the higher one saves stages, and each stage costs lineages.

    Parameters
    ----------
    log_weight
        (draw,) log weights for the prior.
    log_likelihood
        (draw,) log likelihoods, finite.
    enough
        Effective sample size that is large enough, although it is larger at another temperature.

    Returns
    -------
    float, array (draw,)
        The inverse temperature, and the log weights there.
    """
    betas = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 81)])
    sizes = [effective_sample_size(normalise(log_weight + beta * log_likelihood)) for beta in betas]
    beta = float(betas[np.flatnonzero(np.array(sizes) >= min(enough, MIN_START_SHARE * max(sizes)))[-1]])
    return beta, log_weight + beta * log_likelihood


def next_beta(log_likelihood: Array, beta: float, conditional_ess: float) -> float:
    """Return the largest inverse temperature up to 1 that keeps the conditional effective sample size.

    For equally weighted draws (draw,) it is (sum w)^2 / sum w^2 with w = likelihood^(next beta - beta).
    """

    def kept(candidate: float) -> float:
        weight = normalise((candidate - beta) * log_likelihood)
        return effective_sample_size(weight) / len(weight)

    if kept(1.0) >= conditional_ess:
        return 1.0
    low, high = beta, 1.0
    while high - low > 1e-3 * (high - beta):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept(middle) >= conditional_ess else (low, middle)
    return high
