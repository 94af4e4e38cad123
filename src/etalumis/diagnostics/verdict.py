# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Thresholds, and what a check returns."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

MIN_EFFECTIVE_DRAWS = 20.0
"""With fewer, a mean or a 95 % interval says more about the sampler than about the posterior."""
ENGINE_NAMES = {
    "rmh": "RMH",
    "network_rmh": "RMH with network moves",
    "ic": "IC",
    "importance": "Importance sampling",
    "smc": "SMC",
    "prior": "Prior",
}


@dataclass(frozen=True)
class Thresholds:
    """Limits within which a posterior can be trusted.

    Attributes
    ----------
    rhat : float
        Largest rank-normalised R-hat of any quantity (Vehtari et al. 2021).
    ess : float
        Smallest effective sample size of any quantity, for chains and for weights.
    khat : float
        Largest PSIS k-hat; for n draws the stricter min(1 - 1 / log10 n, khat) applies (Vehtari et al. 2024).
    mean_difference : float
        Largest difference between the means of two engines, in standard deviations, beyond their Monte Carlo errors.
    total_variation : float
        Largest total variation distance between the channel probabilities of two engines, beyond what their Monte Carlo
        errors explain.
    predictive_p : float
        Smallest posterior predictive p-value, and smallest distance to one.
    """

    rhat: float = 1.01
    ess: float = 400.0
    khat: float = 0.7
    mean_difference: float = 0.1
    total_variation: float = 0.1
    predictive_p: float = 0.005

    def as_dict(self) -> dict[str, float]:
        """Plain dict for JSON."""
        return asdict(self)

    def khat_for(self, draws: int) -> float:
        """Threshold of k-hat for this number of draws."""
        return min(1.0 - 1.0 / math.log10(draws), self.khat) if draws > 10 else 0.0


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes
    ----------
    subject : str
        ``convergence``, ``weights``, ``prediction``, ``agreement``, ``truth``.
    engine : str
        Engine, or pair of engines.
    passed : bool
        False also if the check cannot be made.
    sentence : str
    """

    subject: str
    engine: str
    passed: bool
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return asdict(self)
