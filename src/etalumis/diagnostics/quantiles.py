# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Weighted quantiles, of continuous and of discrete quantities."""

from __future__ import annotations

import numpy as np

from etalumis.diagnostics.rounding import is_discrete
from etalumis.typing import FloatArray

PROBABILITIES = (0.025, 0.25, 0.5, 0.75, 0.975)


def quantiles(values: FloatArray, weight: FloatArray, probabilities: tuple[float, ...] = PROBABILITIES) -> FloatArray:
    """Return weighted quantiles, array (probability,).

    Linear between the mid-points of the cumulated weights. Quantiles of a discrete quantity are values that it takes.
    """
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order])
    if is_discrete(values):
        return np.asarray(values[order][np.searchsorted(cumulated, np.array(probabilities) * cumulated[-1])])
    middle = (cumulated - 0.5 * weight[order]) / cumulated[-1]
    return np.asarray(np.interp(probabilities, middle, values[order]))


def quantile_table(values: FloatArray, weight: FloatArray) -> dict[str, float]:
    """Return the quantiles of `PROBABILITIES` by probability, as diagnostics.json has them; empty without values."""
    if not len(values):
        return {}
    return {str(p): float(value) for p, value in zip(PROBABILITIES, quantiles(values, weight), strict=True)}
