# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whether ranks are uniform, and in which way they are not."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from etalumis.diagnostics.arviz_calls import ecdf_band
from etalumis.typing import FloatArray

MIN_RANKS = 20
"""With fewer ranks, the confidence band is so wide that hardly any error could be seen."""
NOTABLE_SIGMAS = 2.0
"""Deviation of a mean from its expectation, in standard errors, that is named as the kind of an error."""


class Uniformity(NamedTuple):
    """The empirical distribution function of ranks, with its band.

    Attributes
    ----------
    ranks
        Number of ranks n.
    points, ecdf, low, high
        array (n - 1,): places, distribution function, and the simultaneous confidence band; empty if there are
        fewer than two ranks.
    mean
        Mean rank; 0.5 is expected.
    width
        Mean distance of the ranks from 0.5, as a fraction of the expected one: more than 1 if the posterior is too
        narrow.
    """

    ranks: int
    points: FloatArray
    ecdf: FloatArray
    low: FloatArray
    high: FloatArray
    mean: float
    width: float

    @property
    def inside(self) -> bool:
        """Whether the distribution function is within its band everywhere."""
        error = 1e-9  # of quotients of whole numbers
        return bool(((self.ecdf >= self.low - error) & (self.ecdf <= self.high + error)).all())

    @property
    def enough(self) -> bool:
        """Whether there are enough ranks for a verdict."""
        return self.ranks >= MIN_RANKS

    @property
    def mean_error(self) -> float:
        """Standard error of the mean of uniform ranks, 1 / sqrt(12 n)."""
        return 1.0 / math.sqrt(12.0 * self.ranks) if self.ranks else math.nan

    @property
    def width_error(self) -> float:
        """Standard error of the width of uniform ranks, 1 / sqrt(3 n)."""
        return 1.0 / math.sqrt(3.0 * self.ranks) if self.ranks else math.nan


def uniformity(ranks: FloatArray, probability: float) -> Uniformity:
    """Compare ranks with the uniform distribution.

    Parameters
    ----------
    ranks : array (case,)
        Ranks from 0 to 1; nan is left out.
    probability : float
        Probability that the ranks of a right posterior stay within the band everywhere.
    """
    known = np.sort(ranks[~np.isnan(ranks)])
    count = len(known)
    if count < 2:
        nothing = np.zeros(0)
        return Uniformity(count, nothing, nothing, nothing, nothing, math.nan, math.nan)
    points, low, high = _band(count, probability)
    ecdf = np.searchsorted(known, points, side="right") / count
    mean, width = float(known.mean()), float(4.0 * np.abs(known - 0.5).mean())
    return Uniformity(count, points, ecdf, low, high, mean, width)


_band = functools.lru_cache(maxsize=64)(ecdf_band)


def describe(found: Uniformity, *, categorical: bool = False) -> str:
    """Return, as a clause, in which way the ranks are not uniform."""
    shift = (found.mean - 0.5) / found.mean_error
    spread = (found.width - 1.0) / found.width_error
    if categorical:
        if abs(shift) <= NOTABLE_SIGMAS:
            return "no simple pattern: look at the figure"
        kind = "too certain" if shift > 0 else "not certain enough"
        return f"the engine is {kind}: mean rank {found.mean:.2f}, expected 0.50 ± {found.mean_error:.2f}"
    parts = []
    if abs(shift) > NOTABLE_SIGMAS:
        kind = "low" if shift > 0 else "high"
        parts.append(f"biased {kind}: mean rank {found.mean:.2f}, expected 0.50 ± {found.mean_error:.2f}")
    if spread < -NOTABLE_SIGMAS or (spread > NOTABLE_SIGMAS and not parts):  # a bias makes the ranks spread, too
        kind = "too narrow" if spread > 0 else "too wide"
        parts.append(
            f"{kind}: mean distance of the ranks from the middle {found.width:.2f} of the expected one, ± "
            f"{found.width_error:.2f}"
        )
    return "the posterior is " + " and ".join(parts) if parts else "no simple pattern: look at the figure"
