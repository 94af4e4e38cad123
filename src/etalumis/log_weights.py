# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Weights: normalisation, effective sample size and resampling."""

import numpy as np
from numpy.typing import NDArray


def normalise(log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights that sum to one, array (draw,); all zero if every log weight is -inf."""
    if len(log_weight) == 0 or not np.isfinite(log_weight.max()):
        return np.zeros_like(log_weight)
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def effective_sample_size(weight: NDArray[np.float64]) -> float:
    """Return Kish's effective sample size of normalised weights (draw,); 0 if all are zero."""
    squares = float(np.sum(weight**2))
    return 1.0 / squares if squares > 0.0 else 0.0


def systematic_resampling(rng: np.random.Generator, weight: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the indices (count,) of resampled draws, in ascending order, for normalised weights (draw,), not all zero.

    A draw of weight w occurs floor(count w) or floor(count w) + 1 times; one of weight zero never does.
    """
    points = (rng.random() + np.arange(count)) / count
    ends = np.cumsum(weight)
    rows = np.searchsorted(ends, points, side="right")
    return np.asarray(np.minimum(rows, np.flatnonzero(weight)[-1]))  # the sum of the weights is rounded
