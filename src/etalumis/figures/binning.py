# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Axis ranges, bins and contour levels of weighted draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from etalumis.diagnostics.quantiles import quantiles
from etalumis.diagnostics.quantities import Quantity
from etalumis.diagnostics.rounding import is_constant, is_discrete
from etalumis.log_weights import effective_sample_size
from etalumis.typing import FloatArray

MIN_BINS, MAX_BINS = 20, 80


def axis_range(
    quantity: Quantity, samples: Sequence[tuple[FloatArray, FloatArray]], truth: float
) -> tuple[float, float]:
    """Return the range of an axis: that of the prior if it is known, else all but 0.1 % of the weight, and the truth.

    It follows the weight, not the draws: most draws of a bad proposal lie where the posterior has no mass.
    """
    if quantity.span is not None:
        return quantity.span
    ends = [_bulk(values, weight) for values, weight in samples if len(values)]
    points = np.concatenate([*ends, [truth]]) if ends else np.array([truth])
    points = points[np.isfinite(points)]
    if not len(points):
        return 0.0, 1.0
    low, high = float(points.min()), float(points.max())
    margin = 0.5 * max(abs(low), 1.0) if is_constant(points) else 0.05 * (high - low)
    bounded = low >= 0 and quantity.unit == "GeV"  # energies are not negative
    return (max(0.0, low - margin) if bounded else low - margin), high + margin


def _bulk(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the smallest and the largest draw, array (2,), without 0.1 % of the weight on each side.

    Interpolation would lead from the outermost draw with weight towards those without.
    """
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order])
    return np.asarray(values[order][np.searchsorted(cumulated, np.array([0.001, 0.999]) * cumulated[-1])])


def bin_edges(samples: Sequence[tuple[FloatArray, FloatArray]], low: float, high: float) -> FloatArray:
    """Return the edges of the bins: whole numbers have bins centred on them, with the same number of values in each."""
    values = np.concatenate([values for values, _ in samples])
    if not is_discrete(values) or high - low < 1:
        return np.linspace(low, high, bin_count(samples, high - low) + 1)
    first, last = np.ceil(low), np.floor(high)
    step = max(1.0, np.ceil((last - first + 1) / MAX_BINS))
    return np.arange(first - 0.5, last + 0.5 + step, step)


def bin_count(samples: Sequence[tuple[FloatArray, FloatArray]], width: float) -> int:
    """Return 20 to 80 bins, by Freedman and Diaconis' rule for the posterior with the fewest effective draws."""
    counts: list[int] = []
    for values, weight in samples:
        if len(values):
            first, third = quantiles(values, weight, (0.25, 0.75))
            effective = effective_sample_size(weight)
            step = 2.0 * (third - first) / effective ** (1 / 3)
            counts.append(int(min(width / step, MAX_BINS)) if step > 0 else MAX_BINS)
    return int(np.clip(min(counts, default=MIN_BINS), MIN_BINS, MAX_BINS))


def mass_level(density: FloatArray, mass: float) -> float:
    """Return the level above which a density on a grid has this share of its mass (highest-density region)."""
    ordered = np.sort(density.ravel())[::-1]
    cumulated = np.cumsum(ordered)
    return float(ordered[min(np.searchsorted(cumulated, mass * cumulated[-1]), len(ordered) - 1)])
