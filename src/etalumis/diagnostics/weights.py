# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Diagnostics of importance weights: Kish's effective sample size, PSIS k-hat, the evidence with its error.

Log weights are float64. A log weight of ``-inf`` is a draw of weight zero; it counts as a draw.

Draws of one lineage (of sequential Monte Carlo) are dependent. A lineage then counts as one draw, which has their total
weight: sums of squares are over lineages instead of draws (Lee and Whiteley 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from etalumis.diagnostics import arviz_calls
from etalumis.diagnostics.quantiles import quantile_table
from etalumis.diagnostics.rounding import is_constant
from etalumis.log_weights import effective_sample_size, normalise
from etalumis.typing import FloatArray


def summarise_weights(log_weight: FloatArray, lineage: FloatArray | None = None) -> dict[str, Any]:
    """Return effective sample size, k-hat, log evidence, share of zero weights and largest normalised weight.

    Parameters
    ----------
    log_weight : array (draw,)
    lineage : array (draw,), optional
        Number of the lineage of each draw.

    Returns
    -------
    dict
        ``ess`` = (sum w)^2 / sum w^2 (Kish). ``log_evidence`` is the log of the mean weight, which is an unbiased
        estimate of p(y); ``log_evidence_mcse`` = sqrt(1/ess - 1/n) is its standard error (delta method). With lineages,
        ``lineages`` is their number, effective sample size, k-hat and largest weight are those of the lineages, and
        the standard error is sqrt(1/ess).
    """
    count = len(log_weight)
    alive = bool(normalise(log_weight).any())
    weight = _total(normalise(log_weight), lineage)
    size = effective_sample_size(weight)
    independent = 1.0 / count if lineage is None and count else 0.0  # lineages had unequal weights from the start
    top = float(log_weight.max()) if alive else float("-inf")
    with np.errstate(divide="ignore"):
        khat = arviz_calls.pareto_khat(log_weight if lineage is None else np.log(weight))
    return {
        "draws": count,
        "lineages": None if lineage is None else len(weight),
        "ess": size,
        "ess_fraction": size / count if count else float("nan"),
        "khat": khat,
        "log_evidence": top + float(np.log(np.mean(np.exp(log_weight - top)))) if alive else float("-inf"),
        "log_evidence_mcse": float(np.sqrt(max(1.0 / size - independent, 0.0))) if alive else float("nan"),
        "zero_fraction": float(np.mean(np.isneginf(log_weight))) if count else float("nan"),
        "largest_weight": float(weight.max()) if count else float("nan"),
    }


def _total(x: FloatArray, lineage: FloatArray | None) -> FloatArray:
    """Return the sums of x (draw,) over each lineage, or x itself without lineages."""
    if lineage is None:
        return x
    return np.bincount(np.unique(lineage, return_inverse=True)[1], weights=x).astype(np.float64)


def summarise_continuous(values: FloatArray, weight: FloatArray, lineage: FloatArray | None = None) -> dict[str, Any]:
    """Return the weighted mean, its Monte Carlo error, sd and quantiles.

    The error is that of the self-normalised estimate: sqrt(sum w^2 (x - mean)^2) for weights that sum to one.

    Parameters
    ----------
    values : array (draw,)
        nan if a draw lacks the quantity. ``absent_fraction`` is the weight of the draws that are not finite.
    weight : array (draw,)
        Normalised; weights that are all zero give nan everywhere.
    lineage : array (draw,), optional
        Number of the lineage of each draw.
    """
    present = np.isfinite(values) & (weight > 0)
    total = float(weight[present].sum())
    if total == 0:
        nothing = dict.fromkeys(("mean", "sd", "mcse", "ess"), float("nan"))
        return nothing | {"quantiles": {}, "constant": False, "absent_fraction": 1.0}
    x, w = values[present], weight[present] / total
    constant = is_constant(x)
    mean = float(x[0] if constant else w @ x)
    deviation = np.zeros_like(x) if constant else x - mean
    descent = None if lineage is None else lineage[present]
    return {
        "mean": mean,
        "sd": float(np.sqrt(w @ deviation**2)),
        "mcse": float(np.sqrt(np.sum(_total(w * deviation, descent) ** 2))),
        "ess": effective_sample_size(_total(w, descent)),
        "quantiles": quantile_table(x, w),
        "constant": constant,
        "absent_fraction": max(0.0, 1.0 - total),
    }


def summarise_categorical(values: FloatArray, weight: FloatArray, lineage: FloatArray | None = None) -> dict[str, Any]:
    """Return the weighted probability of each code and its Monte Carlo error sqrt(sum w^2 (1{x = code} - p)^2)."""
    present = np.isfinite(values) & (weight > 0)
    total = float(weight[present].sum())
    probabilities: dict[str, float] = {}
    errors: dict[str, float] = {}
    x, w = values[present], weight[present] / (total or 1.0)
    descent = None if lineage is None else lineage[present]
    for code in np.unique(x):
        hit = x == code
        p = float(w[hit].sum())
        probabilities[str(int(code))] = p
        errors[str(int(code))] = float(np.sqrt(np.sum(_total(w * (hit - p), descent) ** 2)))
    return {
        "probabilities": probabilities,
        "mcse": errors,
        "ess": effective_sample_size(_total(w, descent)) if total else float("nan"),
        "constant": len(probabilities) == 1,
        "absent_fraction": max(0.0, 1.0 - total),
    }
