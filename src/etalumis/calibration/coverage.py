# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How often an interval of given posterior probability contains the truth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from etalumis.typing import FloatArray

NOMINAL = (0.5, 0.9)
"""Posterior probabilities of the intervals."""


class Coverage(NamedTuple):
    """Coverage of the intervals of one nominal probability.

    Attributes
    ----------
    nominal
        Posterior probability of the interval.
    cases
        Number of intervals, one per case.
    covered
        Number of intervals that contain the truth.
    low, high
        Smallest and largest number that is compatible with `nominal`.
    """

    nominal: float
    cases: int
    covered: int
    low: int
    high: int

    @property
    def share(self) -> float:
        """Share of the intervals that contain the truth; nan if there are none."""
        return self.covered / self.cases if self.cases else math.nan

    @property
    def error(self) -> float:
        """Binomial standard error of the share, if its expectation is `nominal`."""
        return math.sqrt(self.nominal * (1.0 - self.nominal) / self.cases) if self.cases else math.nan

    @property
    def compatible(self) -> bool:
        """Whether the share is compatible with `nominal`."""
        return self.low <= self.covered <= self.high


def coverage(ranks: FloatArray, nominal: float, *, categorical: bool = False, level: float = 0.95) -> Coverage:
    """Count the intervals of posterior probability `nominal` that contain the truth.

    The central interval contains the truth if its rank is between (1 - nominal) / 2 and (1 + nominal) / 2. For a
    category, the set of the most probable values does if the rank is at most `nominal`. Ranks order ties at random, so
    that the expected coverage is nominal for discrete quantities, too.

    Parameters
    ----------
    ranks : array (case,)
        From `rank_of_truth` or `category_rank`. nan counts as not covered: there is no posterior, hence no interval.
    level : float
        Probability that a right posterior has a coverage from `low` to `high` (binomial).
    """
    inside = ranks <= nominal if categorical else np.abs(ranks - 0.5) <= 0.5 * nominal
    low, high = binom.ppf([(1.0 - level) / 2.0, (1.0 + level) / 2.0], len(ranks), nominal)
    return Coverage(nominal, len(ranks), int(np.count_nonzero(inside)), int(low), int(high))
