# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Ranks of the true value among posterior draws, scaled to 0 ... 1 and uniform if the posterior is right.

Let x_1 ... x_M be draws with weights w_i, and t the truth. The rank is

    u = [sum_i w_i 1{x_i < t} + v (sum_i w_i 1{x_i = t} + w_t)] / (sum_i w_i + w_t)

with v uniform on (0, 1), which orders ties at random, and with a weight w_t for the truth itself: the truth and the
draws are exchangeable only together. For independent, equally weighted draws w_t = w_i, so that u = (r + v) / (M + 1)
with the rank r of Talts et al. (2018), and u is exactly uniform. The importance weight of the truth is not known in
general; in its place stands its expectation under the posterior, sum_i w_i^2 / sum_i w_i, which is 1 / ESS of the sum
of the weights (for dependent draws, the ESS is less than that of the weights). So u spreads no more than ESS draws
allow, and is uniform up to terms of order 1 / ESS.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from etalumis.diagnostics.chains import as_chains
from etalumis.diagnostics.rounding import rounding_error
from etalumis.typing import FloatArray


def rank_of_truth(values: FloatArray, weight: FloatArray, truth: float, tie: float, ess: float = math.nan) -> float:
    """Return the rank of the truth among weighted draws, as a number from 0 to 1.

    Parameters
    ----------
    values : array (draw,)
        nan if a draw lacks the quantity: the rank is that among the others, given that the quantity exists.
    weight : array (draw,)
        Weights; they need not be normalised.
    truth : float
        The true value.
    tie : float
        Uniform random number from 0 to 1; the position of the truth among the draws that are equal to it.
    ess : float
        Effective number of draws that have the quantity; nan: that of independent draws with these weights.

    Returns
    -------
    float
        ``nan`` if the truth is nan, or no draw with a weight has the quantity.
    """
    present = ~np.isnan(values) & (weight > 0)
    if math.isnan(truth) or not present.any():
        return math.nan
    x, w = values[present], weight[present]
    ties = np.abs(x - truth) <= rounding_error(x, truth) if math.isfinite(truth) else x == truth
    return _scaled(w, _own_weight(w, ess), float(w[(x < truth) & ~ties].sum()), float(w[ties].sum()), tie)


def category_rank(values: FloatArray, weight: FloatArray, truth: float, tie: float, ess: float = math.nan) -> float:
    """Return the rank of the true category, as a number from 0 to 1: the values are ordered by decreasing probability.

    The result is the posterior mass of the categories that are more probable than the true one, plus a random share of
    the mass of the true one. It is uniform if the probabilities are right, close to 1 too often if the engine is too
    certain, and close to 0 too often if it is not certain enough. Parameters and result are those of `rank_of_truth`.
    """
    present = ~np.isnan(values) & (weight > 0)
    if math.isnan(truth) or not present.any():
        return math.nan
    x, w = values[present], weight[present]
    own_weight = _own_weight(w, ess)
    # The truth takes part in the ordering, like every draw; equally probable categories are ordered by their codes.
    masses = {code: float(w[x == code].sum()) for code in {*x.tolist(), truth}}
    order = (masses[truth] + own_weight, -truth)
    above = sum(mass for code, mass in masses.items() if code != truth and (mass, -code) > order)
    return _scaled(w, own_weight, above, masses[truth], tie)


def _own_weight(weight: FloatArray, ess: float) -> float:
    """Return the expected importance weight of a draw from the posterior: sum w / ESS, with sum w^2 / sum w if nan."""
    total = float(np.sum(weight))
    return float(np.sum(weight**2)) / total if math.isnan(ess) else total / ess


def _scaled(weight: FloatArray, own_weight: float, below: float, equal: float, tie: float) -> float:
    return (below + tie * (equal + own_weight)) / (float(weight.sum()) + own_weight)


def thinned(chain: NDArray[np.int64], ess: float) -> NDArray[np.int64]:
    """Return the indices of about `ess` evenly spaced draws of Markov chains, which are nearly independent.

    Parameters
    ----------
    chain : array (draw,)
        Number of each draw's chain; the draws of a chain are in order.
    ess : float
        Effective sample size of all chains together; nan: it is not known, and all draws are kept.
    """
    positions = as_chains(np.arange(len(chain)).astype(float), chain)
    step = max(1, math.ceil(positions.size / ess)) if ess > 0 else 1
    return np.asarray(positions[:, step - 1 :: step].ravel(), dtype=np.int64)
