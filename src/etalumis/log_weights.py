# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Normalised weights from log weights, for posteriors and diagnostics."""

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
