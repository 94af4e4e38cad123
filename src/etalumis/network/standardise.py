# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Values in the units of their proposals: unit interval, standardised real line, or standardised whole numbers.

Every PPX distribution belongs to one family of proposals. For a value v of a site with a given prior,

    log q(v) = log q_family(x | context) + log_jacobian

where (x, context, log_jacobian) depend on the value and its prior only, so they are computed once, in float64, outside
the network.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from etalumis.typing import Array

FAMILIES = {
    "Uniform": "unit",
    "Beta": "unit",
    "Normal": "line",
    "Exponential": "line",
    "Gamma": "line",
    "LogNormal": "line",
    "Weibull": "line",
    "StudentT": "line",
    "Poisson": "count",
    "Binomial": "count",
    "NegativeBinomial": "count",
    "Bernoulli": "count",
    "Categorical": "categorical",
}
"""Family of the proposal of each PPX distribution.

- unit: mixture of truncated normals on (0, 1); a uniform prior is mapped there affinely
- line: mixture of normals in z = (t - m) / s, where m and s are the prior's mean and standard deviation of t = v
  (Normal) or t = log v (Exponential, Gamma, LogNormal, Weibull: thus a mixture of log-normals); for StudentT, z is the
  normal score: the prior probability of smaller values, as a quantile of the standard normal. A standard normal z is
  the prior itself, with its heavy tails.
- count: mixture of logistics in z = (t - m) / s with t = v, rounded to whole numbers in the support. (A mixture of
  Poissons or binomials would be simpler, but is at least as wide as a Poisson: it cannot be certain.)
- categorical: softmax
"""

_INFINITE_EDGE = 1e6  # in standard deviations of the prior; finite, so that gradients are finite too
_MIN_POSITIVE = 1e-300  # smallest value of which a logarithm is taken
_MAX_EXPONENT = 700.0
_MAX_FEATURE = 10.0
_MAX_SCORE = 7.5  # up to here, the quantiles of SciPy's StudentT are accurate; 6e-14 of the prior is further out


@dataclass(frozen=True, slots=True)
class Standardised:
    """Values of tokens of one kind, in the units of their family.

    Attributes
    ----------
    x
        float64 (token,). Argument of the density of the family.
    context
        float64 (token, 2). count: the edges in z of the interval that is rounded to the value, practically infinite
        at the ends of the support; else 0.
    log_jacobian
        float64 (token,). log |dx/dv| for continuous values, 0 for discrete ones.
    feature
        float64 (token,). Input of the sample embedding: of order one, bounded; the index of the category for a
        categorical.
    """

    x: Array
    context: Array
    log_jacobian: Array
    feature: Array


def standardise(kind: str, value: Array, low: Array, high: Array, parameters: Array) -> Standardised:
    """Return values of one kind in the units of their family; the arrays are those of a `Minibatch`."""
    x = value
    context = np.zeros((len(value), 2))
    log_jacobian = np.zeros(len(value))
    first, second, third = parameters.T
    match FAMILIES[kind]:
        case "unit":
            if kind == "Uniform":
                width = high - low
                x = (value - low) / width
                log_jacobian = -np.log(width)
            x = np.clip(x, 0.0, 1.0)
            feature = 2.0 * x - 1.0
        case "line" if kind == "StudentT":
            x, log_jacobian = _normal_score(value, first, second, third)
            feature = x
        case "line":
            mean, deviation, logarithmic = prior_scale(kind, first, second)
            t = np.log(np.maximum(value, _MIN_POSITIVE)) if logarithmic else value
            x = (t - mean) / deviation
            log_jacobian = -np.log(deviation) - (t if logarithmic else 0.0)
            feature = np.clip(x, -_MAX_FEATURE, _MAX_FEATURE)
        case "count":
            mean, deviation, last = count_scale(kind, first, second)
            x = (value - mean) / deviation
            context[:, 0] = np.where(value <= 0, -_INFINITE_EDGE, (value - 0.5 - mean) / deviation)
            context[:, 1] = np.where(value >= last, _INFINITE_EDGE, (value + 0.5 - mean) / deviation)
            feature = np.clip(x, -_MAX_FEATURE, _MAX_FEATURE)
        case _:
            feature = value
    return Standardised(x, context, log_jacobian, feature)


def restore(kind: str, x: Array, low: Array, high: Array, parameters: Array) -> Array:
    """Return the values whose standardised form is `x` (the inverse of `standardise`)."""
    first, second, third = parameters.T
    match FAMILIES[kind]:
        case "unit":
            return np.asarray(np.clip(low + (high - low) * x, low, high)) if kind == "Uniform" else x
        case "line" if kind == "StudentT":
            tail = special.stdtrit(first, special.ndtr(-np.minimum(np.abs(x), _MAX_SCORE)))
            return np.asarray(second - np.sign(x) * third * tail)
        case "line":
            mean, deviation, logarithmic = prior_scale(kind, first, second)
            t = mean + deviation * x
            return np.asarray(np.exp(np.clip(t, -_MAX_EXPONENT, _MAX_EXPONENT)) if logarithmic else t)
        case "count":
            mean, deviation, last = count_scale(kind, first, second)
            return np.asarray(np.clip(np.floor(mean + deviation * x + 0.5), 0.0, last))
        case _:
            return x


def _normal_score(value: Array, df: Array, loc: Array, scale: Array) -> tuple[Array, Array]:
    """Return z = ndtri(F(value)) and log |dz/dv| for the distribution function F of StudentT priors."""
    t = (value - loc) / scale
    z = np.sign(t) * np.minimum(-special.ndtri(special.stdtr(df, -np.abs(t))), _MAX_SCORE)
    log_norm = special.gammaln(0.5 * (df + 1)) - special.gammaln(0.5 * df) - 0.5 * np.log(df * math.pi) - np.log(scale)
    log_prior = log_norm - (df + 1) * np.log(np.hypot(1.0, t / np.sqrt(df)))
    return z, log_prior + 0.5 * z * z + 0.5 * math.log(2.0 * math.pi)


def prior_scale(kind: str, first: Array, second: Array) -> tuple[Array, Array, bool]:
    """Return mean and standard deviation of t under a prior of the line family, and whether t = log v."""
    match kind:
        case "Normal":
            return first, second, False
        case "LogNormal":
            return first, second, True
        case "Exponential":
            return -np.euler_gamma - np.log(first), np.full_like(first, math.pi / math.sqrt(6.0)), True
        case "Gamma":
            return special.digamma(first) - np.log(second), np.sqrt(special.polygamma(1, first)), True
        case "Weibull":
            return np.log(first) - np.euler_gamma / second, math.pi / (math.sqrt(6.0) * second), True
    raise ValueError(f"{kind}: expected a kind of the line family")


def count_scale(kind: str, first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Return mean, standard deviation (at least 1/2) and maximum of a prior of the count family."""
    if kind == "Poisson":
        return first, np.sqrt(first + 0.25), np.full_like(first, math.inf)
    if kind == "NegativeBinomial":
        mean = first * second / (1.0 - second)
        return mean, np.sqrt(mean / (1.0 - second) + 0.25), np.full_like(first, math.inf)
    count, probability = (np.ones_like(first), first) if kind == "Bernoulli" else (first, second)
    mean = count * probability
    return mean, np.sqrt(mean * (1.0 - probability) + 0.25), count
