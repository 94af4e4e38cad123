# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The distributions of PPX for scalar draws of integers."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # it imports scipy.special, which takes 0.2 s, on first use

from etalumis.distributions.base import Distribution
from etalumis.typing import Array

MAX_COUNT = 2.0**53
"""Largest mean of a distribution of counts."""


@dataclass(frozen=True)
class Categorical(Distribution):
    """Categorical distribution over 0..K-1; the constructor normalises `probs`."""

    probs: tuple[float, ...]
    code = 3
    discrete = True

    def __post_init__(self) -> None:
        total = math.fsum(self.probs) if self.probs else 0.0
        self._require(0 < total < math.inf and min(self.probs) >= 0, "probabilities >= 0 with a positive, finite sum")
        object.__setattr__(self, "probs", tuple(float(p) / total for p in self.probs))

    @property
    def parameters(self) -> tuple[float, ...]:
        """The K probabilities."""
        return self.probs

    @property
    def suffix(self) -> str:
        """Suffix of addresses, with the number of categories."""
        return f"Categorical(len_probs:{len(self.probs)})"

    @cached_property
    def _cumulative(self) -> Array:
        return np.cumsum(self.probs)

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one category."""
        drawn = int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], side="right"))
        return float(min(drawn, self._last_possible))

    @cached_property
    def _last_possible(self) -> int:
        return max(k for k, p in enumerate(self.probs) if p > 0)

    def log_prob(self, x: float) -> float:
        """Return the log probability of category `x`."""
        if not _integer(x) or not 0 <= x < len(self.probs) or self.probs[int(x)] == 0:
            return -math.inf
        return math.log(self.probs[int(x)])


@dataclass(frozen=True)
class Poisson(Distribution):
    """Poisson distribution of mean `rate`."""

    rate: float
    code = 4
    discrete = True

    def __post_init__(self) -> None:
        # NumPy draws 64-bit integers; above 2^53 a double cannot represent every count
        self._require(0 <= self.rate <= MAX_COUNT, "0 <= rate <= 2^53")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one count."""
        return float(rng.poisson(self.rate))

    def log_prob(self, x: float) -> float:
        """Return the log probability of count `x`."""
        if x < 0 or not _integer(x):
            return -math.inf
        if self.rate == 0:
            return 0.0 if x == 0 else -math.inf
        return x * math.log(self.rate) - self.rate - math.lgamma(x + 1)


@dataclass(frozen=True)
class Bernoulli(Distribution):
    """Bernoulli distribution: 1 with probability `probs`."""

    probs: float
    code = 5
    discrete = True

    def __post_init__(self) -> None:
        self._require(0 <= self.probs <= 1, "0 <= probs <= 1")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw 0 or 1."""
        return float(rng.random() < self.probs)

    def log_prob(self, x: float) -> float:
        """Return the log probability of `x`."""
        p = self.probs if x == 1 else 1 - self.probs if x == 0 else 0.0
        return math.log(p) if p > 0 else -math.inf


@dataclass(frozen=True)
class Binomial(Distribution):
    """Number of successes in `total_count` trials of probability `probs`."""

    total_count: float
    probs: float
    code = 10
    discrete = True

    def __post_init__(self) -> None:
        self._require(
            _integer(self.total_count) and 0 <= self.total_count <= 2.0**53, "a whole 0 <= total_count <= 2^53"
        )
        self._require(0 <= self.probs <= 1, "0 <= probs <= 1")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one count."""
        return float(rng.binomial(int(self.total_count), self.probs))

    def log_prob(self, x: float) -> float:
        """Return the log probability of count `x`."""
        n = self.total_count
        if not _integer(x) or not 0 <= x <= n:
            return -math.inf
        log_choose = math.lgamma(n + 1) - math.lgamma(x + 1) - math.lgamma(n - x + 1)
        return log_choose + float(scipy.special.xlogy(x, self.probs) + scipy.special.xlog1py(n - x, -self.probs))


@dataclass(frozen=True)
class NegativeBinomial(Distribution):
    """Number of successes of probability `probs` before `total_count` failures; `total_count` need not be whole.

    It is a Poisson whose rate is drawn from ``Gamma(total_count, (1 - probs) / probs)``. The mean is
    m = total_count probs / (1 - probs), the variance m + m^2 / total_count.
    """

    total_count: float
    probs: float
    code = 12
    discrete = True

    def __post_init__(self) -> None:
        self._require(0 < self.total_count < math.inf and 0 <= self.probs < 1, "total_count > 0, 0 <= probs < 1")
        # as for Poisson: a double cannot represent every count above 2^53
        self._require(self.total_count * self.odds <= MAX_COUNT, "a mean of at most 2^53")

    @property
    def odds(self) -> float:
        """Mean for a `total_count` of 1."""
        return self.probs / (1 - self.probs)

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one count."""
        return float(rng.poisson(min(float(rng.standard_gamma(self.total_count)) * self.odds, MAX_COUNT)))

    def log_prob(self, x: float) -> float:
        """Return the log probability of count `x`."""
        if x < 0 or not _integer(x):
            return -math.inf
        r = self.total_count
        log_choose = math.lgamma(x + r) - math.lgamma(r) - math.lgamma(x + 1)
        return log_choose + r * math.log1p(-self.probs) + float(scipy.special.xlogy(x, self.probs))


def _integer(x: float) -> bool:
    return math.isfinite(x) and x == math.floor(x)
