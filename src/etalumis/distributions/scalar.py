# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The distributions of PPX for scalar draws (sample statements)."""

import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import scipy  # it imports scipy.special, which takes 0.2 s, on first use

from etalumis.typing import Array

LOG_2PI = math.log(2.0 * math.pi)
MAX_COUNT = 2.0**53
"""Largest mean of a distribution of counts."""
LARGE_DF = 1_000.0
"""Degrees of freedom from which on the series in `_log_gamma_ratio` is exact to the last digits."""
_HUGE = 1e150


class _ArrayAware(ABCMeta):
    """Metaclass of the distributions: a call with array parameters returns an `ArrayDistribution`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        for parameter in args:
            if not isinstance(parameter, _NUMBER):
                return cls._of_any(args, kwargs)
        if kwargs:
            return cls._of_any(args, kwargs)
        return super().__call__(*args)

    def _of_any(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rank = 1 if cls.__name__ == "Categorical" else 0  # dimensions of the parameter of a scalar distribution
        if rank == 1 and len(args) == 1 and type(args[0]) is tuple and isinstance(next(iter(args[0]), None), _NUMBER):
            return super().__call__(*args)
        if any(np.ndim(parameter) > rank for parameter in (*args, *kwargs.values())):
            from etalumis.distributions.arrays import ArrayDistribution  # circular import

            names = [field.name for field in fields(cast(Any, cls))]
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            if len(args) + len(kwargs) != len(names) or set(given) != set(names):
                raise TypeError(f"{cls.__name__}: expected the parameters {', '.join(names)}")
            arrays = tuple(np.asarray(given[name], dtype=np.float64) for name in names)
            return ArrayDistribution(cast(Any, cls).code, arrays)
        # NumPy scalars and arrays of shape () become floats: arrays are not hashable
        plain = {key: _plain(value) for key, value in kwargs.items()}
        return super().__call__(*map(_plain, args), **plain)


_NUMBER = (float, int)


def _plain(parameter: Any) -> Any:
    return parameter.tolist() if hasattr(parameter, "tolist") else parameter


@dataclass(frozen=True)
class Distribution(metaclass=_ArrayAware):
    """A scalar prior or proposal, immutable and hashable.

    If parameters are arrays, as in ``Normal(np.zeros(8), 1.0)``, the call returns an `ArrayDistribution`.
    """

    code: ClassVar[int]
    """Number of the distribution in the PPX union."""
    discrete: ClassVar[bool] = False
    """Whether the values are integers."""

    @property
    def kind(self) -> str:
        """Name of the distribution in PPX."""
        return type(self).__name__

    @property
    def suffix(self) -> str:
        """Suffix of addresses."""
        return type(self).__name__

    @property
    def parameters(self) -> tuple[float, ...]:
        """Parameters in PPX order."""
        return tuple(vars(self).values())  # `dataclasses.astuple` is twenty times slower

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""

    @abstractmethod
    def log_prob(self, x: float) -> float:
        """Return the log density (or log probability) at `x`; -inf outside the support."""

    def _require(self, held: bool, what: str) -> None:
        if not held:
            raise ValueError(f"{self.kind}{self.parameters}: expected {what}")


def _integer(x: float) -> bool:
    return math.isfinite(x) and x == math.floor(x)


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


BY_CODE: dict[int, type[Distribution]] = {
    cls.code: cls
    for cls in (
        Normal, Uniform, Categorical, Poisson, Bernoulli, Beta, Exponential, Gamma, LogNormal, Binomial, Weibull,
        NegativeBinomial, StudentT,
    )
}  # fmt: skip
"""Scalar distributions by their number in the PPX union."""
IN_PPX_1_0 = 11
"""Number of distributions in PPX 1.0; those after them are appended, and older peers do not know them."""


def from_code(code: int, parameters: tuple[float, ...]) -> Distribution:
    """Return the scalar distribution with this number in the PPX union, given its parameters in PPX order.

    Raises
    ------
    ValueError
        If the number is unknown or a parameter is out of range.
    """
    if code not in BY_CODE:
        raise ValueError(f"distribution {code}: expected a number from 1 to {max(BY_CODE)}")
    cls = BY_CODE[code]
    # not cls(...): the parameters are known to be scalars, and this is faster
    distribution: Distribution = type.__call__(cls, *((parameters,) if cls is Categorical else parameters))
    return distribution
