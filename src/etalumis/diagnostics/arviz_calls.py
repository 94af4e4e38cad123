# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Calls of ArviZ; no other module imports it.

ArviZ 1.x needs Python 3.12; on Python 3.11 its part `arviz_stats` 0.8 is installed instead. Both have the functions
used here, under the same names.

Every function returns ``nan`` or ``inf`` for degenerate input (one chain, too few draws, a constant, NaN, no weight at
all) instead of raising or warning.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from etalumis.diagnostics.rounding import RELATIVE_ROUNDING, is_constant, rounding_error
from etalumis.log_weights import normalise
from etalumis.typing import FloatArray

MIN_DRAWS = 4  # ArviZ needs two half chains of two draws each
MIN_TAIL_DRAWS = 25  # PSIS fits its Pareto tail to a fifth of the draws and needs five of them

array_stats: Any = importlib.import_module("arviz_stats.base").array_stats  # without type annotations
BAND_SIMULATIONS = 4000
"""Simulated samples behind a confidence band; its level is then right to 0.003."""


def _varies(chains: FloatArray) -> bool:
    """Return whether R-hat and ESS are defined: enough finite draws that are not all equal."""
    enough = chains.shape[0] > 0 and chains.shape[1] >= MIN_DRAWS and bool(np.isfinite(chains).all())
    return enough and not is_constant(chains)


def rhat(chains: FloatArray, method: str = "rank") -> float:
    """Return the Gelman-Rubin convergence statistic.

    Parameters
    ----------
    chains : array (chain, draw)
    method : str
        ``"rank"``: the larger of the rank-normalised split and folded-split R-hat (Vehtari et al. 2021);
        ``"split"``: split chains, no ranks; ``"identity"``: the classic statistic of the paper's Section 4.2.

    Returns
    -------
    float
        ``nan`` for one chain, fewer than four draws, a NaN or a constant quantity; ``inf`` if every chain (every half
        of a chain, for the split methods) is constant, but not all at the same value.
    """
    if not _varies(chains) or chains.shape[0] < 2:
        return float("nan")
    half = chains.shape[1] // 2
    parts = chains if method == "identity" else np.concatenate([chains[:, :half], chains[:, -half:]])
    if (np.ptp(parts, axis=1) <= rounding_error(chains)).all():
        return float("inf")
    with np.errstate(divide="ignore", invalid="ignore"):  # half a chain may be constant: 0/0
        return float(array_stats.rhat(chains, method=method))


def ess(chains: FloatArray, method: str = "bulk") -> float:
    """Return the effective sample size of all chains together, in draws.

    Parameters
    ----------
    chains : array (chain, draw)
    method : str
        ``"bulk"``, ``"tail"`` (the smaller one of the 5 % and 95 % quantiles) or ``"mean"``.

    Returns
    -------
    float
        ``nan`` if it is not defined: a NaN, too few draws, a constant quantity.
    """
    if not _varies(chains):
        return float("nan")
    prob = (0.05, 0.95) if method == "tail" else None
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(array_stats.ess(chains, method=method, prob=prob))


def mcse_mean(chains: FloatArray) -> float:
    """Return the Monte Carlo standard error of the mean, from the effective sample size; ``nan`` as for `ess`."""
    if not _varies(chains):
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(array_stats.mcse(chains, method="mean"))


def autocorrelation(chains: FloatArray) -> FloatArray:
    """Return the autocorrelation per chain, array (chain, lag); a constant chain or one with a NaN gives ``nan``."""
    out = np.full(chains.shape, np.nan)
    for row, chain in zip(out, chains, strict=True):
        if _varies(chain[None]):
            row[:] = array_stats.autocorr(chain, axis=-1)
    return out


def pareto_khat(log_weight: FloatArray) -> float:
    """Return the Pareto shape k-hat of the largest importance weights (PSIS, Vehtari et al. 2024).

    Parameters
    ----------
    log_weight : array (draw,)
        Unnormalised; ``-inf`` is a weight of zero. The tail is fitted among the draws of non-zero weight.

    Returns
    -------
    float
        ``nan`` with fewer than 25 non-zero weights; ``-inf`` if the largest weights are equal up to rounding (no tail);
        ``inf`` if the tail spans more than float64 holds: the fit would see zeros only and find nothing wrong.
    """
    finite = log_weight[np.isfinite(log_weight)]
    if len(finite) < MIN_TAIL_DRAWS:
        return float("nan")
    tail = int(np.ceil(min(len(finite) / 5, 3 * np.sqrt(len(finite)))))
    largest = np.partition(finite, len(finite) - tail - 1)[-tail - 1 :]
    if np.ptp(largest) <= max(rounding_error(largest), RELATIVE_ROUNDING):
        return float("-inf")
    if np.ptp(largest) > -np.log(np.finfo(np.float64).tiny):
        return float("inf")
    with np.errstate(divide="ignore", invalid="ignore"):
        # psislw negates its argument: in leave-one-out cross-validation the ratio is 1 / likelihood
        _, khat = array_stats.psislw(-finite)
    return float(khat)


def smoothed_weights(log_weight: FloatArray) -> FloatArray:
    """Return Pareto-smoothed weights that sum to one, array (draw,) (PSIS, Vehtari et al. 2024).

    The largest weights are replaced by quantiles of the Pareto distribution that is fitted to them, and none exceeds
    the largest one before. Without a tail to fit (`pareto_khat` is not finite), the weights are not smoothed.
    """
    if not np.isfinite(pareto_khat(log_weight)):
        return normalise(log_weight)
    finite = np.isfinite(log_weight)
    weight = np.zeros(len(log_weight))
    with np.errstate(divide="ignore", invalid="ignore"):
        smoothed, _ = array_stats.psislw(-log_weight[finite])
    weight[finite] = normalise(smoothed)
    return weight


def ecdf_band(count: int, probability: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the simultaneous confidence band of the empirical distribution function of uniform numbers.

    The whole function lies within the band with the given probability (Säilynoja, Bürkner, Vehtari 2022, simulation
    method, with a fixed seed).

    Parameters
    ----------
    count : int
        Number of uniform numbers, at least 2.
    probability : float

    Returns
    -------
    points, low, high : array (count - 1,)
        Where the function is evaluated, i / count, and the band there.
    """
    ecdf: Any = importlib.import_module("arviz_stats.ecdf_utils")
    points = np.arange(1, count) / count
    rng = np.random.Generator(np.random.PCG64(0))
    pointwise = ecdf.simulate_confidence_bands(count, 1, points, probability, BAND_SIMULATIONS, rng)
    low, high = ecdf.get_pointwise_confidence_band(pointwise, count, points)
    return points, low, high
