# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The eleven distributions of PPX, scalar (sample statements) and array-valued (observe statements).

Parameters are named as on the wire. Densities are in log space and float64; a value outside the support has log
density -inf, never NaN.
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
