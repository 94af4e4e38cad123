# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The distributions of PPX for scalar draws of real numbers."""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # it imports scipy.special, which takes 0.2 s, on first use

from etalumis.distributions.base import Distribution

LOG_2PI = math.log(2.0 * math.pi)
LARGE_DF = 1_000.0
"""Degrees of freedom from which on the series in `_log_gamma_ratio` is exact to the last digits."""
_HUGE = 1e150


@dataclass(frozen=True)
class Normal(Distribution):
    """Normal distribution of mean `mean` and standard deviation `stddev`."""

    mean: float
    stddev: float
    code = 1

    def __post_init__(self) -> None:
        self._require(math.isfinite(self.mean) and 0 < self.stddev < math.inf, "a finite mean and stddev > 0")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.mean + self.stddev * float(rng.standard_normal())

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        z = (x - self.mean) / self.stddev
        return -0.5 * (z * z + LOG_2PI) - math.log(self.stddev)


@dataclass(frozen=True)
class Uniform(Distribution):
    """Uniform distribution on [low, high]."""

    low: float
    high: float
    code = 2

    def __post_init__(self) -> None:
        self._require(-math.inf < self.low < self.high < math.inf, "low < high, both finite")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.low + (self.high - self.low) * float(rng.random())

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        return -math.log(self.high - self.low) if self.low <= x <= self.high else -math.inf


@dataclass(frozen=True)
class Beta(Distribution):
    """Beta distribution with density proportional to x^(concentration1 - 1) (1 - x)^(concentration0 - 1)."""

    concentration1: float
    concentration0: float
    code = 6

    def __post_init__(self) -> None:
        self._require(
            0 < self.concentration1 < math.inf and 0 < self.concentration0 < math.inf, "both concentrations > 0"
        )

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return float(rng.beta(self.concentration1, self.concentration0))

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        if not 0 <= x <= 1:
            return -math.inf
        a, b = self.concentration1, self.concentration0
        log_norm = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
        return float(scipy.special.xlogy(a - 1, x) + scipy.special.xlog1py(b - 1, -x)) - log_norm


@dataclass(frozen=True)
class Exponential(Distribution):
    """Exponential distribution of mean 1/rate."""

    rate: float
    code = 7

    def __post_init__(self) -> None:
        self._require(0 < self.rate < math.inf, "a finite rate > 0")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return float(rng.standard_exponential()) / self.rate

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        return math.log(self.rate) - self.rate * x if x >= 0 else -math.inf


@dataclass(frozen=True)
class Gamma(Distribution):
    """Gamma distribution of shape `concentration` and inverse scale `rate`."""

    concentration: float
    rate: float
    code = 8

    def __post_init__(self) -> None:
        self._require(0 < self.concentration < math.inf and 0 < self.rate < math.inf, "concentration > 0, rate > 0")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return float(rng.standard_gamma(self.concentration)) / self.rate

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        if x < 0:
            return -math.inf
        a = self.concentration
        return a * math.log(self.rate) + float(scipy.special.xlogy(a - 1, x)) - self.rate * x - math.lgamma(a)


@dataclass(frozen=True)
class LogNormal(Distribution):
    """Distribution of exp(z), z normal of mean `loc` and standard deviation `scale`."""

    loc: float
    scale: float
    code = 9

    def __post_init__(self) -> None:
        self._require(math.isfinite(self.loc) and 0 < self.scale < math.inf, "a finite loc and scale > 0")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        try:
            return math.exp(self.loc + self.scale * float(rng.standard_normal()))
        except OverflowError:
            return math.inf

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        if x <= 0 or x == math.inf:
            return -math.inf
        log_x = math.log(x)
        z = (log_x - self.loc) / self.scale
        return -0.5 * (z * z + LOG_2PI) - math.log(self.scale) - log_x


@dataclass(frozen=True)
class Weibull(Distribution):
    """Weibull distribution of scale `scale` and shape `concentration`."""

    scale: float
    concentration: float
    code = 11

    def __post_init__(self) -> None:
        self._require(0 < self.scale < math.inf and 0 < self.concentration < math.inf, "scale > 0, concentration > 0")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.scale * float(rng.weibull(self.concentration))

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        if x < 0:
            return -math.inf
        k, z = self.concentration, x / self.scale
        log_front = math.log(k / self.scale) + float(scipy.special.xlogy(k - 1, z))
        try:
            return log_front - math.pow(z, k)
        except OverflowError:
            return -math.inf


@dataclass(frozen=True)
class StudentT(Distribution):
    """Distribution of loc + scale t, t of Student's distribution with `df` degrees of freedom."""

    df: float
    loc: float
    scale: float
    code = 13

    def __post_init__(self) -> None:
        self._require(
            0 < self.df < math.inf and math.isfinite(self.loc) and 0 < self.scale < math.inf,
            "df > 0, a finite loc and scale > 0",
        )

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.loc + self.scale * float(rng.standard_t(self.df))

    def log_prob(self, x: float) -> float:
        """Return the log density at `x`."""
        z = abs(x - self.loc) / self.scale
        # the square of a larger z may overflow
        log_tail = math.log1p(z * z / self.df) if z < _HUGE else 2 * math.log(z) - math.log(self.df)
        log_norm = _log_gamma_ratio(self.df) - 0.5 * math.log(self.df * math.pi) - math.log(self.scale)
        return log_norm - 0.5 * (self.df + 1) * log_tail


def _log_gamma_ratio(df: float) -> float:
    """Return log Gamma((df + 1) / 2) - log Gamma(df / 2); by its series where the difference would cancel."""
    if df < LARGE_DF:
        return math.lgamma(0.5 * (df + 1)) - math.lgamma(0.5 * df)
    return 0.5 * math.log(0.5 * df) - 1 / (4 * df) + 1 / (24 * df**3)
