# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The distributions of PPX for arrays of independent elements."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy  # it imports scipy.special, which takes 0.2 s, on first use

from etalumis.distributions.base import Distribution
from etalumis.distributions.continuous import (
    LARGE_DF,
    LOG_2PI,
    Beta,
    Exponential,
    Gamma,
    LogNormal,
    Normal,
    StudentT,
    Uniform,
    Weibull,
)
from etalumis.distributions.discrete import (
    MAX_COUNT,
    Bernoulli,
    Binomial,
    Categorical,
    NegativeBinomial,
    Poisson,
)
from etalumis.distributions.scalar import BY_CODE, from_code
from etalumis.typing import Array


@dataclass(frozen=True, eq=False)
class ArrayDistribution:
    """Array of independent elements with distributions of the same kind.

    Attributes
    ----------
    code
        Number of the distribution in the PPX union.
    arrays
        Parameter arrays in PPX order, which broadcast to `shape`. For Categorical the last axis holds the K
        probabilities and is not part of `shape`.
    shape
        Shape of a value.
    """

    code: int
    arrays: tuple[Array, ...]
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.code not in BY_CODE:
            raise ValueError(f"distribution {self.code}: expected a number from 1 to {max(BY_CODE)}")
        shapes = [array.shape for array in self.arrays]
        try:
            full = np.broadcast_shapes(*shapes)
        except ValueError:
            raise ValueError(f"{self.kind}: parameters of shapes {shapes} do not broadcast to one shape") from None
        object.__setattr__(self, "shape", full[:-1] if self.code == Categorical.code else full)

    @classmethod
    def of(cls, distribution: Distribution) -> "ArrayDistribution":
        """Return a scalar distribution as an array distribution of shape ()."""
        if isinstance(distribution, Categorical):
            return cls(distribution.code, (np.asarray(distribution.probs),))
        return cls(distribution.code, tuple(np.asarray(p, dtype=np.float64) for p in distribution.parameters))

    @property
    def kind(self) -> str:
        """Name of the distribution in PPX."""
        return BY_CODE[self.code].__name__

    def log_prob(self, value: Array) -> float:
        """Return the sum over elements of the log density at `value`.

        Raises
        ------
        ValueError
            If `value` does not have the shape `shape`.
        """
        value = np.asarray(value, dtype=np.float64)
        if value.shape != self.shape:
            raise ValueError(f"{self.kind}: expected a value of shape {self.shape}, found {value.shape}")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.code == Normal.code:
                return _normal_sum(value, *self.arrays)
            return float(np.sum(_LOG_PROB[self.code](value, *self.arrays)))

    def elements(self) -> Iterator[tuple[str, Distribution]]:
        """Yield the index of each element ("[1,2]"; "" for the shape ()) and its scalar distribution, row-major.

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        rows = (
            np.reshape(self.arrays[0], (math.prod(self.shape), -1))
            if self.code == Categorical.code
            else np.stack([np.broadcast_to(array, self.shape).ravel() for array in self.arrays], axis=1)
        )
        for index, parameters in zip(np.ndindex(self.shape), rows.tolist(), strict=True):
            yield f"[{','.join(map(str, index))}]" if index else "", from_code(self.code, tuple(parameters))

    def sample(self, rng: np.random.Generator) -> Array:
        """Draw one value of shape `shape`."""
        return np.asarray(_SAMPLE[self.code](rng, self.shape, *self.arrays), dtype=np.float64)


class SparseNormal(ArrayDistribution):
    """Normal distributions with one standard deviation and mostly zero means, such as a detector image with noise.

    Parameters
    ----------
    shape
        Shape of a value.
    positions
        (K,) ascending flat indices of the nonzero means.
    means
        (K,) nonzero means.
    stddev
        Standard deviation of every element.
    """

    def __init__(self, shape: tuple[int, ...], positions: Array, means: Array, stddev: float) -> None:
        for name, value in (
            ("code", Normal.code), ("shape", shape), ("positions", positions), ("means", means), ("stddev", stddev),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    positions: Array
    means: Array
    stddev: float

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """Means and standard deviation as arrays."""
        mean = np.zeros(math.prod(self.shape))
        mean[self.positions] = self.means
        return mean.reshape(self.shape), np.asarray(self.stddev)


def _normal_sum(value: Array, mean: Array, stddev: Array) -> float:
    # Called for 24,500 voxels in every run. Not a BLAS dot product, whose threads cost more time than they save here.
    residual = np.subtract(value, mean)
    size = residual.size
    if stddev.size == 1:
        sd = float(stddev.reshape(()))
        return -0.5 * float(np.square(residual).sum()) / (sd * sd) - size * (math.log(sd) + 0.5 * LOG_2PI)
    wide = np.broadcast_to(stddev, value.shape)
    residual = residual / wide
    return -0.5 * float(np.square(residual).sum()) - float(np.log(wide).sum()) - 0.5 * size * LOG_2PI


def _where(inside: Array, log_prob: Array) -> Array:
    masked: Array = np.where(inside, log_prob, -np.inf)
    return masked


def _whole(x: Array) -> Array:
    whole: Array = x == np.floor(x)
    return whole


def _categorical(x: Array, probs: Array) -> Array:
    count = probs.shape[-1]
    inside = _whole(x) & (x >= 0) & (x < count)
    index = np.where(inside, x, 0).astype(np.int64)
    shares = probs / probs.sum(axis=-1, keepdims=True)
    wide = np.broadcast_to(shares, (*x.shape, count))
    chosen: Array = np.take_along_axis(wide, index[..., None], axis=-1)[..., 0]
    return _where(inside, np.log(chosen))


def _binomial(x: Array, n: Array, p: Array) -> Array:
    log_choose = scipy.special.gammaln(n + 1) - scipy.special.gammaln(x + 1) - scipy.special.gammaln(n - x + 1)
    return _where(
        _whole(x) & (x >= 0) & (x <= n), log_choose + scipy.special.xlogy(x, p) + scipy.special.xlog1py(n - x, -p)
    )


def _beta(x: Array, a: Array, b: Array) -> Array:
    inside = (x >= 0) & (x <= 1)
    return _where(inside, scipy.special.xlogy(a - 1, x) + scipy.special.xlog1py(b - 1, -x) - scipy.special.betaln(a, b))


def _gamma(x: Array, a: Array, rate: Array) -> Array:
    return _where(x >= 0, a * np.log(rate) + scipy.special.xlogy(a - 1, x) - rate * x - scipy.special.gammaln(a))


def _log_normal(x: Array, loc: Array, scale: Array) -> Array:
    z = (np.log(x) - loc) / scale
    return _where((x > 0) & np.isfinite(x), -0.5 * (z * z + LOG_2PI) - np.log(scale) - np.log(x))


def _weibull(x: Array, scale: Array, k: Array) -> Array:
    z = x / scale
    return _where(x >= 0, np.log(k / scale) + scipy.special.xlogy(k - 1, z) - z**k)


def _negative_binomial(x: Array, r: Array, p: Array) -> Array:
    log_choose = scipy.special.gammaln(x + r) - scipy.special.gammaln(r) - scipy.special.gammaln(x + 1)
    return _where(_whole(x) & (x >= 0), log_choose + r * np.log1p(-p) + scipy.special.xlogy(x, p))


def _student_t(x: Array, df: Array, loc: Array, scale: Array) -> Array:
    z = np.abs(x - loc) / scale
    # log(1 + z^2 / df), where the square may overflow
    log_tail = np.where(z < 1e150, np.log1p(z * z / df), 2 * np.log(z) - np.log(df))
    series = 0.5 * np.log(0.5 * df) - 1 / (4 * df) + 1 / (24 * df**3)
    difference = scipy.special.gammaln(0.5 * (df + 1)) - scipy.special.gammaln(0.5 * df)
    log_norm = np.where(df < LARGE_DF, difference, series) - 0.5 * np.log(df * math.pi) - np.log(scale)
    density: Array = log_norm - 0.5 * (df + 1) * log_tail
    return density


_LOG_PROB: dict[int, Callable[..., Any]] = {
    Uniform.code: lambda x, low, high: _where((x >= low) & (x <= high), -np.log(high - low)),
    Categorical.code: _categorical,
    Poisson.code: lambda x, rate: _where(
        _whole(x) & (x >= 0), scipy.special.xlogy(x, rate) - rate - scipy.special.gammaln(x + 1)
    ),
    Bernoulli.code: lambda x, p: np.log(np.where(x == 1, p, np.where(x == 0, 1 - p, 0.0))),
    Beta.code: _beta,
    Exponential.code: lambda x, rate: _where(x >= 0, np.log(rate) - rate * x),
    Gamma.code: _gamma,
    LogNormal.code: _log_normal,
    Binomial.code: _binomial,
    Weibull.code: _weibull,
    NegativeBinomial.code: _negative_binomial,
    StudentT.code: _student_t,
}

Shape = tuple[int, ...]


def _sample_negative_binomial(rng: np.random.Generator, shape: Shape, r: Array, p: Array) -> Array:
    return np.asarray(rng.poisson(np.minimum(rng.standard_gamma(r, shape) * (p / (1 - p)), MAX_COUNT)))


def _sample_categorical(rng: np.random.Generator, shape: Shape, probs: Array) -> Array:
    cumulative = np.broadcast_to(np.cumsum(probs, axis=-1), (*shape, probs.shape[-1]))
    u = rng.random(shape) * cumulative[..., -1]
    return np.asarray((cumulative <= u[..., None]).sum(axis=-1))


_SAMPLE: dict[int, Callable[..., Any]] = {
    Normal.code: lambda rng, shape, mean, sd: mean + sd * rng.standard_normal(shape),
    Uniform.code: lambda rng, shape, low, high: low + (high - low) * rng.random(shape),
    Categorical.code: _sample_categorical,
    Poisson.code: lambda rng, shape, rate: rng.poisson(rate, shape),
    Bernoulli.code: lambda rng, shape, p: rng.random(shape) < p,
    Beta.code: lambda rng, shape, a, b: rng.beta(a, b, shape),
    Exponential.code: lambda rng, shape, rate: rng.standard_exponential(shape) / rate,
    Gamma.code: lambda rng, shape, a, rate: rng.standard_gamma(a, shape) / rate,
    LogNormal.code: lambda rng, shape, loc, scale: np.exp(loc + scale * rng.standard_normal(shape)),
    Binomial.code: lambda rng, shape, n, p: rng.binomial(n.astype(np.int64), p, shape),
    Weibull.code: lambda rng, shape, scale, k: scale * rng.weibull(k, shape),
    NegativeBinomial.code: _sample_negative_binomial,
    StudentT.code: lambda rng, shape, df, loc, scale: loc + scale * rng.standard_t(df, shape),
}
