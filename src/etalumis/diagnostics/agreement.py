# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Distances between two posteriors of the same quantity (the comparison of the paper's Figure 8, in numbers)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from etalumis.diagnostics.rounding import rounding_error
from etalumis.typing import FloatArray

CUMULATED_ROUNDING = 1e-12
"""Difference of two cumulative sums of weights below which they are equal: each term adds about 1e-16."""


def ks_distance(x: FloatArray, wx: FloatArray, y: FloatArray, wy: FloatArray) -> float:
    """Return the Kolmogorov-Smirnov distance between two weighted samples, 0 to 1; values equal up to rounding tie."""
    points = np.concatenate([x, y]) + rounding_error(x, y)
    order_x, order_y = np.argsort(x), np.argsort(y)
    fx = np.concatenate([[0.0], np.cumsum(wx[order_x])])[np.searchsorted(x[order_x], points, side="right")]
    fy = np.concatenate([[0.0], np.cumsum(wy[order_y])])[np.searchsorted(y[order_y], points, side="right")]
    distance = float(np.max(np.abs(fx - fy)))
    return distance if distance > CUMULATED_ROUNDING else 0.0


def compare_continuous(x: FloatArray, wx: FloatArray, y: FloatArray, wy: FloatArray) -> dict[str, float]:
    """Return the distances between two weighted samples.

    Returns
    -------
    dict
        ``mean_difference`` and ``wasserstein`` (first Wasserstein distance), both in units of the pooled standard
        deviation sqrt((var x + var y) / 2); ``ks``: Kolmogorov-Smirnov distance. All nan if a sample is empty. Two
        constants have no width: the first two are then 0 if the constants are equal up to rounding, else infinite.
    """
    nan = float("nan")
    keep_x, keep_y = np.isfinite(x) & (wx > 0), np.isfinite(y) & (wy > 0)
    x, wx, y, wy = x[keep_x], wx[keep_x], y[keep_y], wy[keep_y]
    if not len(x) or not len(y):
        return {"mean_difference": nan, "wasserstein": nan, "ks": nan}
    wx, wy = wx / wx.sum(), wy / wy.sum()
    mean_x, mean_y = float(wx @ x), float(wy @ y)
    stddev = float(np.sqrt(0.5 * (wx @ (x - mean_x) ** 2 + wy @ (y - mean_y) ** 2)))
    error = rounding_error(x, y)
    return {
        "mean_difference": _standardised(mean_x - mean_y, stddev, error),
        "wasserstein": _standardised(float(wasserstein_distance(x, y, wx, wy)), stddev, error),
        "ks": ks_distance(x, wx, y, wy),
    }


def _standardised(distance: float, stddev: float, error: float) -> float:
    """Return distance / stddev; a distance or a standard deviation within the rounding error counts as zero."""
    if abs(distance) <= error:
        return 0.0
    return distance / stddev if stddev > error else math.copysign(math.inf, distance)


def compare_categorical(p: dict[str, float], q: dict[str, float]) -> dict[str, Any]:
    """Return the total variation distance, sum |p - q| / 2: 0 (equal) to 1 (disjoint); nan if p or q is empty."""
    if not p or not q:
        return {"total_variation": float("nan")}
    codes = sorted(set(p) | set(q), key=int)
    return {"total_variation": 0.5 * sum(abs(p.get(code, 0.0) - q.get(code, 0.0)) for code in codes)}


def unvisited(x: FloatArray, y: FloatArray, wy: FloatArray, cells: int = 20) -> float:
    """Return the share of the posterior mass of y in cells that contain no value of x; nan if a sample is empty.

    The cells have equal posterior mass, or one value each if the quantity takes few. `x` has the values of all draws
    with a positive weight, however small: a region that was visited and found improbable is not missed.
    """
    x = x[np.isfinite(x)]
    keep = np.isfinite(y) & (wy > 0)
    y, wy = y[keep], wy[keep]
    if not len(x) or not len(y):
        return float("nan")
    order = np.argsort(y)
    cumulated = np.cumsum(wy[order]) / wy.sum()
    starts = np.searchsorted(cumulated, np.arange(1, cells) / cells)
    edges = np.unique(y[order][starts]) - rounding_error(x, y)
    visited = np.isin(np.searchsorted(edges, y), np.searchsorted(edges, x))
    return float(wy[~visited].sum() / wy.sum())
