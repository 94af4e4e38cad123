# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Proposals in inference: draw values of many tokens and return their exact log densities, in float64.

The densities are those of `proposal_densities`, which has them in differentiable form. The result of a token does not
depend on the other tokens of a call.
"""

import math

import numpy as np
from scipy import special

from etalumis.network.proposal_densities import SCALE_FLOOR, UNIT_SCALE_CEILING
from etalumis.network.standardise import FAMILIES
from etalumis.typing import Array

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_MIN_UNIT_VALUE = 2.0**-53


def sample(kind: str, raw: Array, uniforms: Array) -> Array:
    """Draw x (token,) from the proposals with raw outputs `raw` (token, width); for a count, before rounding.

    `uniforms` (token, 2) are independent draws from [0, 1): one chooses the component, one the value.
    """
    family = FAMILIES[kind]
    if family == "categorical":
        return _choose(raw, uniforms[:, 0]).astype(np.float64)
    weight, location, spread = _thirds(raw)
    chosen = _choose(weight, uniforms[:, 0])[:, None]
    location = np.take_along_axis(location, chosen, 1)[:, 0]
    spread = np.take_along_axis(spread, chosen, 1)[:, 0]
    u = np.maximum(uniforms[:, 1], _MIN_UNIT_VALUE)
    if family == "unit":
        return _truncated_normal(special.expit(location), _unit_scale(spread), u)
    noise = special.ndtri(u) if family == "line" else special.logit(u)
    return np.asarray(location + _line_scale(spread) * noise)


def log_density(kind: str, raw: Array, x: Array, context: Array) -> Array:
    """Return log q(x | context) (token,) of the proposals with raw outputs `raw` (token, width).

    `context` (token, 2) is that of `standardise`.
    """
    family = FAMILIES[kind]
    if family == "categorical":
        return np.take_along_axis(raw, x.astype(np.int64)[:, None], 1)[:, 0] - _log_sum_exp(raw)
    weight, location, spread = _thirds(raw)
    if family == "unit":
        component = _log_truncated(location, spread, x[:, None])
    elif family == "line":
        component = _log_normal(location, spread, x[:, None])
    else:
        component = _log_rounded_logistic(location, spread, context)
    return _log_sum_exp(weight + component) - _log_sum_exp(weight)


def _thirds(raw: Array) -> tuple[Array, Array, Array]:
    k = raw.shape[1] // 3
    return raw[:, :k], raw[:, k : 2 * k], raw[:, 2 * k :]


def _log_truncated(location: Array, spread: Array, x: Array) -> Array:
    mean, scale = special.expit(location), _unit_scale(spread)
    z = (x - mean) / scale
    mass = 0.5 * (special.erf(_SQRT_HALF * mean / scale) + special.erf(_SQRT_HALF * (1.0 - mean) / scale))
    return np.asarray(-0.5 * z * z - _HALF_LOG_2PI - np.log(scale * mass))


def _log_normal(mean: Array, spread: Array, x: Array) -> Array:
    scale = _line_scale(spread)
    z = (x - mean) / scale
    return np.asarray(-0.5 * z * z - _HALF_LOG_2PI - np.log(scale))


def _log_rounded_logistic(mean: Array, spread: Array, edges: Array) -> Array:
    scale = _line_scale(spread)
    lower, upper = (edges[:, :1] - mean) / scale, (edges[:, 1:] - mean) / scale
    return np.asarray(special.log_expit(upper) + special.log_expit(-lower) + np.log(-np.expm1(lower - upper)))


def _truncated_normal(mean: Array, scale: Array, u: Array) -> Array:
    """Draw from normals truncated to (0, 1) by inversion; their means are inside, so the cdf is accurate."""
    below, above = special.ndtr(-mean / scale), special.ndtr((1.0 - mean) / scale)
    z = special.ndtri(below + (above - below) * u)
    return np.asarray(np.clip(mean + scale * z, _MIN_UNIT_VALUE, 1.0 - _MIN_UNIT_VALUE))


def _unit_scale(spread: Array) -> Array:
    return np.asarray(SCALE_FLOOR + (UNIT_SCALE_CEILING - SCALE_FLOOR) * special.expit(spread))


def _line_scale(spread: Array) -> Array:
    return np.asarray(SCALE_FLOOR + np.logaddexp(0.0, spread))


def _choose(logits: Array, u: Array) -> Array:
    """Draw an index (token,) with probability softmax(logits) by inversion."""
    cumulative = np.cumsum(np.exp(logits - logits.max(1, keepdims=True)), axis=1)
    below = cumulative <= (u * cumulative[:, -1])[:, None]
    return np.asarray(np.minimum(below.sum(1), logits.shape[1] - 1))


def _log_sum_exp(values: Array) -> Array:
    largest = values.max(1)
    return np.asarray(largest + np.log(np.exp(values - largest[:, None]).sum(1)))
