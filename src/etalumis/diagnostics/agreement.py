# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How far two posteriors of the same quantity are apart (the comparison of the paper's Figure 8, in numbers)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from etalumis.typing import FloatArray


def ks_distance(x: FloatArray, wx: FloatArray, y: FloatArray, wy: FloatArray) -> float:
    """Largest distance between two weighted empirical distribution functions, 0 to 1."""
    points = np.concatenate([x, y])
    order_x, order_y = np.argsort(x), np.argsort(y)
    fx = np.concatenate([[0.0], np.cumsum(wx[order_x])])[np.searchsorted(x[order_x], points, side="right")]
    fy = np.concatenate([[0.0], np.cumsum(wy[order_y])])[np.searchsorted(y[order_y], points, side="right")]
    return float(np.max(np.abs(fx - fy)))


def compare_continuous(x: FloatArray, wx: FloatArray, y: FloatArray, wy: FloatArray) -> dict[str, float]:
    """Distances between two weighted samples.

    Returns
    -------
    dict
        ``mean_difference`` and ``wasserstein`` (first Wasserstein distance), both in units of the pooled standard
        deviation sqrt((var x + var y) / 2); ``ks``: Kolmogorov-Smirnov distance. All nan where a sample is empty; the
        first two are nan where neither sample has any width.
    """
    nan = float("nan")
    keep_x, keep_y = np.isfinite(x) & (wx > 0), np.isfinite(y) & (wy > 0)
    x, wx, y, wy = x[keep_x], wx[keep_x], y[keep_y], wy[keep_y]
    if not len(x) or not len(y):
        return {"mean_difference": nan, "wasserstein": nan, "ks": nan}
    wx, wy = wx / wx.sum(), wy / wy.sum()
    mean_x, mean_y = float(wx @ x), float(wy @ y)
    width = float(np.sqrt(0.5 * (wx @ (x - mean_x) ** 2 + wy @ (y - mean_y) ** 2)))
    return {
        "mean_difference": (mean_x - mean_y) / width if width > 0 else nan,
        "wasserstein": float(wasserstein_distance(x, y, wx, wy)) / width if width > 0 else nan,
        "ks": ks_distance(x, wx, y, wy),
    }


def compare_categorical(p: dict[str, float], q: dict[str, float]) -> dict[str, Any]:
    """Total variation distance, half the sum of |p - q|, 0 (equal) to 1 (disjoint); nan where a side is empty."""
    if not p or not q:
        return {"total_variation": float("nan")}
    codes = sorted(set(p) | set(q), key=int)
    return {"total_variation": 0.5 * sum(abs(p.get(code, 0.0) - q.get(code, 0.0)) for code in codes)}
