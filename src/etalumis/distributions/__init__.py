# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The eleven distributions of PPX, scalar (sample statements) and array-valued (observe statements).

Parameters have the same names as in PPX messages. Densities are log densities in float64. The log density of a value
outside the support is -inf, never NaN.
"""

from etalumis.distributions.arrays import ArrayDistribution, SparseNormal
from etalumis.distributions.scalar import (
    BY_CODE,
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Distribution,
    Exponential,
    Gamma,
    LogNormal,
    Normal,
    Poisson,
    Uniform,
    Weibull,
    from_code,
)

__all__ = [
    "BY_CODE",
    "ArrayDistribution",
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Distribution",
    "Exponential",
    "Gamma",
    "LogNormal",
    "Normal",
    "Poisson",
    "SparseNormal",
    "Uniform",
    "Weibull",
    "from_code",
]
