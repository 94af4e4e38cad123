# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is kept of a trace. Everything else is dropped during recording and never written."""

from dataclasses import dataclass

from etalumis.delegation import RunPlan
from etalumis.distributions import ArrayDistribution, Normal, SparseNormal
from etalumis.traces.block import EXPECTED, NOISY
from etalumis.traces.format import ACCEPTED, ALL

MIN_EXPECTED_ELEMENTS = 64
"""Observations with fewer elements are stored noisy, since omitting zeros would save nothing."""
_ANY_SIZE = 2**31 - 1


@dataclass(frozen=True)
class Recording:
    """What is kept of each trace.

    Attributes
    ----------
    entries
        "accepted": the latents; "all": also those of rejected repetitions, stored separately; "controlled": only those
        that inference controls (the log prior density of the trace still includes all accepted entries).
    observation
        "expected": without noise, if `storage_of` allows it; "noisy": one draw from every likelihood.
    tags
        Names of the tags that are kept; None keeps all.
    """

    entries: str = ACCEPTED
    observation: str = "expected"
    tags: tuple[str, ...] | None = None

    @property
    def plan(self) -> RunPlan:
        """The request for a simulator that executes whole runs."""
        rejected = self.entries == ALL
        draw_below = MIN_EXPECTED_ELEMENTS if self.observation == "expected" else _ANY_SIZE
        return RunPlan(
            parameters=self.observation == "expected", draw_below=draw_below, details=rejected, rejected=rejected
        )

    def storage(self, distribution: ArrayDistribution | None) -> str:
        """Return how an observation is stored; None stands for a statement without a known distribution."""
        return NOISY if self.observation == "noisy" or distribution is None else storage_of(distribution)


def storage_of(distribution: ArrayDistribution) -> str:
    """Return how an observation can be stored; it depends on the statement only, not on the values of a trace.

    A normal with one standard deviation is "sparse-expected": y = mean + stddev * noise is an exact draw from p(y | x)
    each time it is read. Everything else is "noisy".
    """
    one_stddev = isinstance(distribution, SparseNormal) or (
        distribution.code == Normal.code and distribution.arrays[1].size == 1
    )
    size = 1
    for extent in distribution.shape:
        size *= extent
    return EXPECTED if one_stddev and size >= MIN_EXPECTED_ELEMENTS else NOISY
