# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The scalar distributions by their number in the PPX union."""

from etalumis.distributions.base import Distribution
from etalumis.distributions.continuous import (
    Beta,
    Exponential,
    Gamma,
    LogNormal,
    Normal,
    StudentT,
    Uniform,
    Weibull,
)
from etalumis.distributions.discrete import Bernoulli, Binomial, Categorical, NegativeBinomial, Poisson

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
