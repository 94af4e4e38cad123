# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Time of a minibatch as a function of what it contains, fitted from measured steps."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from etalumis.training.phases import Phases
from etalumis.typing import Array

_OUTLIER = 4.0
"""Residual, in robust standard deviations, beyond which a step counts as disturbed by other programs."""


@dataclass(frozen=True)
class StepCosts:
    """Seconds of forward and backward pass: `fixed`, and for each trace, token and touched row."""

    fixed: float
    per_trace: float
    per_token: float
    per_row: float

    def of(self, traces: Array, tokens: Array, touched_rows: Array) -> Array:
        """Return the seconds of minibatches with these counts, all of the same shape."""
        return np.asarray(self.fixed + self.per_trace * traces + self.per_token * tokens + self.per_row * touched_rows)

    def __str__(self) -> str:
        return (
            f"{1e3 * self.per_trace:.3g} ms per trace, {1e3 * self.per_token:.3g} ms per token, "
            f"{1e3 * self.per_row:.3g} ms per touched row, {1e3 * self.fixed:.3g} ms per step"
        )


def fit_costs(traces: Array, tokens: Array, touched_rows: Array, seconds: Array) -> StepCosts:
    """Fit the costs to measured steps by least squares, with no negative cost.

    Steps that deviate far more than others are left out of a second fit. The counts must vary independently: ranks
    whose loads are balanced cannot tell the cost of a trace from that of a token.

    Parameters
    ----------
    traces, tokens, touched_rows
        Counts of each step, all of the same shape.
    seconds
        Time of forward and backward pass.
    """
    design = np.stack([np.ones(traces.size), traces.ravel(), tokens.ravel(), touched_rows.ravel()], 1)
    target = np.asarray(seconds, np.float64).ravel()
    scale = np.maximum(np.abs(design).max(axis=0), 1.0)  # columns of similar size, for the solver
    found = nnls(design / scale, target)[0] / scale
    residual = target - design @ found
    deviation = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    kept = np.abs(residual - np.median(residual)) <= _OUTLIER * deviation
    if not kept.all():
        found = nnls(design[kept] / scale, target[kept])[0] / scale
    return StepCosts(*found.tolist())


def fit_phases(phases: Phases) -> StepCosts:
    """Return the costs of the steps in a file of phases; see `fit_costs`."""
    seconds = phases.seconds["forward"] + phases.seconds["backward"]
    here = np.isfinite(seconds)
    return fit_costs(phases.traces[here], phases.tokens[here], phases.touched_rows[here], seconds[here])
