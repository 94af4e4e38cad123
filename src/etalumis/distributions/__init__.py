# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The distributions of PPX, scalar and array-valued.

Parameters have the same names as in PPX messages. Densities are log densities in float64. The log density of a value
outside the support is -inf, never NaN.
"""

from etalumis.distributions.arrays import ArrayDistribution, SparseNormal
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
from etalumis.distributions.scalar import BY_CODE, IN_PPX_1_0, from_code

__all__ = [
    "BY_CODE",
    "IN_PPX_1_0",
    "ArrayDistribution",
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Distribution",
    "Exponential",
    "Gamma",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "SparseNormal",
    "StudentT",
    "Uniform",
    "Weibull",
    "from_code",
]
