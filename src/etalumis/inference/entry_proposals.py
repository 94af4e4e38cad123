# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Proposals for one entry: mixtures of kernels, each of which is reversible.

A component c is chosen with a probability that does not depend on the value of the entry, and the step is accepted with
the ratio of that component alone. Since every component leaves the target invariant, so does the mixture (Tierney
1994), and no component needs the densities of the others. Each kernel k returns the new value x' and

    log r = log [p(x') k(x | x')] - log [p(x) k(x' | x)]

where p is the prior of the entry. It is the same in both directions, since its context is. src/cpp/src/proposal.cpp
implements the same in C++.
"""

import math
from collections.abc import Callable

import numpy as np

from etalumis.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Distribution,
    Exponential,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    Uniform,
    Weibull,
)

Proposal = tuple[float, float]
"""(x', log r)"""

MIN_SCALE, MAX_SCALE = 1e-3, 1.0
"""Range of the log-uniform step scale, relative to the width of the prior: posteriors may be that much narrower."""


_LOG_MIN_SCALE, _LOG_RANGE = math.log(MIN_SCALE), math.log(MAX_SCALE / MIN_SCALE)


def propose(
    rng: np.random.Generator, distribution: Distribution, x: float, log_prob: float, fresh_share: float
) -> Proposal:
    """Return (x', log r) for an entry of value `x` and log prior density `log_prob`.

    With probability `fresh_share`, the new value is drawn from the prior (log r = 0), otherwise by a local step.
    """
    if rng.random() < fresh_share:
        return distribution.sample(rng), 0.0
    return _LOCAL[distribution.code](rng, distribution, x, log_prob)


def _scale(rng: np.random.Generator) -> float:
    return math.exp(_LOG_MIN_SCALE + _LOG_RANGE * rng.random())


def _wrapped(rng: np.random.Generator, d: Distribution, x: float, log_prob: float) -> Proposal:
    # On the circle [low, high), the Gaussian step is symmetric, and the prior is flat.
    assert isinstance(d, Uniform)
    width = d.high - d.low
    moved = d.low + (x - d.low + width * _scale(rng) * float(rng.standard_normal())) % width
    return min(moved, d.high), 0.0


def _other_category(rng: np.random.Generator, d: Distribution, x: float, log_prob: float) -> Proposal:
    # Uniform over the categories other than x: symmetric.
    assert isinstance(d, Categorical)
    others = len(d.probs) - 1
    if others == 0:
        return x, 0.0
    moved = int(rng.integers(others))
    return _symmetric(d, float(moved + (moved >= x)), log_prob)


def _flip(rng: np.random.Generator, d: Distribution, x: float, log_prob: float) -> Proposal:
    return _symmetric(d, 1.0 - x, log_prob)


def _whole_step(rng: np.random.Generator, d: Distribution, x: float, log_prob: float) -> Proposal:
    # Up or down with the same probability and the same distribution of lengths: symmetric.
    assert isinstance(d, Poisson | Binomial | NegativeBinomial)
    if isinstance(d, Poisson):
        variance = d.rate
    elif isinstance(d, Binomial):
        variance = d.total_count * d.probs * (1 - d.probs)
    else:
        variance = d.total_count * d.odds / (1 - d.probs)
    length = math.ceil(_scale(rng) * 3.0 * math.sqrt(variance)) if variance > 0 else 1
    return _symmetric(d, x + (length if rng.random() < 0.5 else -length), log_prob)


def _normal_step(rng: np.random.Generator, d: Distribution, x: float, log_prob: float) -> Proposal:
    assert isinstance(d, Normal | StudentT)
    width = d.stddev if isinstance(d, Normal) else d.scale
    return _symmetric(d, x + 2.0 * width * _scale(rng) * float(rng.standard_normal()), log_prob)


def _symmetric(d: Distribution, moved: float, log_prob: float) -> Proposal:
    return moved, d.log_prob(moved) - log_prob


def _log_step(rng: np.random.Generator, d: Distribution, x: float, log_prob: float) -> Proposal:
    # A symmetric step in log x has density phi / x' in x': the Jacobian leaves x' / x.
    if x <= 0.0:
        return x, 0.0  # a draw that underflowed to 0 has no logarithm; only a draw from the prior moves it
    moved = x * math.exp(2.0 * _scale(rng) * float(rng.standard_normal()))
    if not 0.0 < moved < math.inf:
        return x, -math.inf
    return moved, d.log_prob(moved) - log_prob + math.log(moved) - math.log(x)


def _logit_step(rng: np.random.Generator, d: Distribution, x: float, log_prob: float) -> Proposal:
    # A symmetric step in z = log(x / (1 - x)), dx/dz = x (1 - x).
    if not 0.0 < x < 1.0:
        return x, 0.0
    z = math.log(x) - math.log1p(-x) + 2.0 * _scale(rng) * float(rng.standard_normal())
    moved = 1.0 / (1.0 + math.exp(-z)) if z > -700.0 else 0.0
    if not 0.0 < moved < 1.0:
        return x, -math.inf
    jacobian = math.log(moved) + math.log1p(-moved) - math.log(x) - math.log1p(-x)
    return moved, d.log_prob(moved) - log_prob + jacobian


_LOCAL: dict[int, Callable[[np.random.Generator, Distribution, float, float], Proposal]] = {
    Uniform.code: _wrapped,
    Categorical.code: _other_category,
    Bernoulli.code: _flip,
    Poisson.code: _whole_step,
    Binomial.code: _whole_step,
    NegativeBinomial.code: _whole_step,
    Normal.code: _normal_step,
    StudentT.code: _normal_step,
    Exponential.code: _log_step,
    Gamma.code: _log_step,
    LogNormal.code: _log_step,
    Weibull.code: _log_step,
    Beta.code: _logit_step,
}
