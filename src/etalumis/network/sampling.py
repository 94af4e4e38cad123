# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Proposals in inference: draw a value and return its exact log density, in float64.

The densities are those of `proposals`, which has them in differentiable form; here they are computed for one token.
"""

import math
from typing import Any

import numpy as np
from scipy import special

from etalumis.network.proposal_densities import SCALE_FLOOR, UNIT_SCALE_CEILING
from etalumis.network.standardise import FAMILIES
from etalumis.typing import Array

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_MIN_UNIT_VALUE = 2.0**-53


def sample(kind: str, raw: Array, rng: np.random.Generator) -> float:
    """Draw x from the proposal with raw outputs `raw` (width,); for a count, before rounding."""
    family = FAMILIES[kind]
    if family == "categorical":
        return float(_choose(raw, rng))
    weight, location, spread = _thirds(raw)
    i = _choose(weight, rng)
    if family == "unit":
        return _truncated_normal(float(special.expit(location[i])), float(_unit_scale(spread[i])), rng)
    noise = rng.standard_normal() if family == "line" else rng.logistic()
    return float(location[i] + _line_scale(spread[i]) * noise)


def log_density(kind: str, raw: Array, x: float, context: tuple[float, float]) -> float:
    """Return log q(x | context) of the proposal with raw outputs `raw` (width,); context as in `standardise`."""
    family = FAMILIES[kind]
    if family == "categorical":
        return float(raw[int(x)] - _log_sum_exp(raw))
    weight, location, spread = _thirds(raw)
    if family == "unit":
        component = _log_truncated(location, spread, x)
    elif family == "line":
        component = _log_normal(location, spread, x)
    else:
        component = _log_rounded_logistic(location, spread, context)
    return _log_sum_exp(weight + component) - _log_sum_exp(weight)


def _thirds(raw: Array) -> tuple[Array, Array, Array]:
    k = len(raw) // 3
    return raw[:k], raw[k : 2 * k], raw[2 * k :]


def _log_truncated(location: Array, spread: Array, x: float) -> Array:
    mean, scale = special.expit(location), _unit_scale(spread)
    z = (x - mean) / scale
    mass = 0.5 * (special.erf(_SQRT_HALF * mean / scale) + special.erf(_SQRT_HALF * (1.0 - mean) / scale))
    return np.asarray(-0.5 * z * z - _HALF_LOG_2PI - np.log(scale * mass))


def _log_normal(mean: Array, spread: Array, x: float) -> Array:
    scale = _line_scale(spread)
    z = (x - mean) / scale
    return np.asarray(-0.5 * z * z - _HALF_LOG_2PI - np.log(scale))


def _log_rounded_logistic(mean: Array, spread: Array, edges: tuple[float, float]) -> Array:
    scale = _line_scale(spread)
    lower, upper = (edges[0] - mean) / scale, (edges[1] - mean) / scale
    return np.asarray(special.log_expit(upper) + special.log_expit(-lower) + np.log(-np.expm1(lower - upper)))


def _truncated_normal(mean: float, scale: float, rng: np.random.Generator) -> float:
    """Draw from a normal truncated to (0, 1) by inversion; its mean is inside, so the cdf is accurate."""
    below, above = special.ndtr(-mean / scale), special.ndtr((1.0 - mean) / scale)
    z = special.ndtri(below + (above - below) * rng.random())
    return float(min(max(mean + scale * z, _MIN_UNIT_VALUE), 1.0 - _MIN_UNIT_VALUE))


def _unit_scale(spread: Any) -> Any:
    return SCALE_FLOOR + (UNIT_SCALE_CEILING - SCALE_FLOOR) * special.expit(spread)


def _line_scale(spread: Any) -> Any:
    return SCALE_FLOOR + np.logaddexp(0.0, spread)


def _choose(logits: Array, rng: np.random.Generator) -> int:
    """Draw an index with probability softmax(logits)."""
    cumulative = np.cumsum(np.exp(logits - logits.max()))
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")), len(logits) - 1)


def _log_sum_exp(values: Array) -> float:
    largest = float(values.max())
    return largest + math.log(float(np.exp(values - largest).sum()))
