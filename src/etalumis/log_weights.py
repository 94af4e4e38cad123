# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""From log weights to weights, for the posteriors and for the diagnostics alike."""

import numpy as np
from numpy.typing import NDArray


def normalise(log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that sum to one, array (draw,); all zero where no draw has any weight."""
    if len(log_weight) == 0 or not np.isfinite(log_weight.max()):
        return np.zeros_like(log_weight)
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())
