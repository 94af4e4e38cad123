# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Log densities of the proposals as functions of a network's raw outputs (torch, differentiable).

The parametrisations are numerically stable: the mean of a truncated normal lies inside the interval, so its
normalisation is a sum of two terms of the same sign; the mass between two edges of a logistic is a product, not a
difference; every scale has a lower bound. `sampling` has the same densities for inference, in float64; a test compares
the two.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from etalumis.network.standardise import FAMILIES

SCALE_FLOOR = 1e-3
"""Minimum scale of a component, in units of the interval or of the prior's standard deviation."""
UNIT_SCALE_CEILING = 10.0
"""Maximum scale of a truncated normal on the unit interval, on which it is then flat."""
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
# initial scales: with the means spread over the prior, the proposal is about as wide as the prior
_INITIAL_SCALE_UNIT, _INITIAL_SCALE_LINE, _INITIAL_SCALE_COUNT = 0.3, 0.8, 0.45


def width(kind: str, categories: int, components: int) -> int:
    """Return the number of raw outputs: K for K categories, else weight, location and scale of each component."""
    return categories if FAMILIES[kind] == "categorical" else 3 * components


def initial_bias(kind: str, categories: int, components: int) -> Tensor:
    """Return the initial output bias (width,): a broad proposal, close to the prior.

    The components have different locations, since equal components would always have equal gradients.
    """
    bias = torch.zeros(width(kind, categories, components))
    if FAMILIES[kind] == "categorical":
        return bias
    k = components
    location = (torch.arange(k) + 0.5) / k
    if FAMILIES[kind] == "unit":
        bias[k : 2 * k] = torch.logit(location)
        share = (_INITIAL_SCALE_UNIT - SCALE_FLOOR) / (UNIT_SCALE_CEILING - SCALE_FLOOR)
        bias[2 * k :] = math.log(share / (1.0 - share))
    else:
        scale = _INITIAL_SCALE_LINE if FAMILIES[kind] == "line" else _INITIAL_SCALE_COUNT
        bias[k : 2 * k] = 2.0 * location - 1.0
        bias[2 * k :] = math.log(math.expm1(scale - SCALE_FLOOR))
    return bias


def log_density(kind: str, raw: Tensor, x: Tensor, context: Tensor) -> Tensor:
    """Return log q(x | context) (token,) of one kind.

    Parameters
    ----------
    kind
        Distribution kind of the prior.
    raw
        (token, width) outputs of the proposal layers.
    x
        (token,) standardised values; a category's number.
    context
        (token, 2) as in `standardise.Standardised`.
    """
    match FAMILIES[kind]:
        case "categorical":
            return functional.log_softmax(raw, -1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
        case "unit":
            return _mixture_of_truncated_normals(raw, x)
        case "line":
            return _mixture_of_normals(raw, x)
        case _:
            return _mixture_of_rounded_logistics(raw, context)


def _mixture_of_truncated_normals(raw: Tensor, x: Tensor) -> Tensor:
    weight, location, spread = raw.chunk(3, -1)
    mean = torch.sigmoid(location)
    scale = SCALE_FLOOR + (UNIT_SCALE_CEILING - SCALE_FLOOR) * torch.sigmoid(spread)
    z = (x.unsqueeze(-1) - mean) / scale
    # mass on (0, 1): both terms are >= 0 since the mean lies inside, so nothing cancels even for small scales
    mass = 0.5 * (torch.erf(_SQRT_HALF * mean / scale) + torch.erf(_SQRT_HALF * (1.0 - mean) / scale))
    component = -0.5 * z * z - _HALF_LOG_2PI - torch.log(scale) - torch.log(mass)
    return torch.logsumexp(functional.log_softmax(weight, -1) + component, -1)


def _mixture_of_normals(raw: Tensor, x: Tensor) -> Tensor:
    weight, mean, spread = raw.chunk(3, -1)
    scale = SCALE_FLOOR + functional.softplus(spread)
    z = (x.unsqueeze(-1) - mean) / scale
    component = -0.5 * z * z - _HALF_LOG_2PI - torch.log(scale)
    return torch.logsumexp(functional.log_softmax(weight, -1) + component, -1)


def _mixture_of_rounded_logistics(raw: Tensor, edges: Tensor) -> Tensor:
    weight, mean, spread = raw.chunk(3, -1)
    scale = SCALE_FLOOR + functional.softplus(spread)
    lower, upper = (edges[:, :1] - mean) / scale, (edges[:, 1:] - mean) / scale
    # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - e^(l - u)): no difference of nearly equal numbers
    inside = torch.log(-torch.expm1(lower - upper))
    component = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + inside
    return torch.logsumexp(functional.log_softmax(weight, -1) + component, -1)
