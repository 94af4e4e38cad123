# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What of a trace is kept: pruned while it is recorded, so that nothing else is ever written."""

from dataclasses import dataclass

from etalumis.delegation import RunPlan
from etalumis.distributions import ArrayDistribution, Normal, SparseNormal
from etalumis.traces.block import EXPECTED, NOISY
from etalumis.traces.format import ACCEPTED, ALL

SMALLEST_EXPECTED = 64
"""Observations of fewer elements are stored noisy: there is nothing to gain from leaving zeros out."""
_ANY_SIZE = 2**31 - 1


@dataclass(frozen=True)
class Recording:
    """What is kept of each trace.

    Attributes
    ----------
    entries
        "accepted": what is a latent; "all": those of rejected repetitions too, apart; "controlled": only what
        inference may steer (the trace's log prior density still counts all accepted entries).
    observation
        "expected": before noise, wherever `storage_of` allows it; "noisy": one draw of every likelihood.
    tags
        Names of the tags that are kept; None keeps all.
    """

    entries: str = ACCEPTED
    observation: str = "expected"
    tags: tuple[str, ...] | None = None

    @property
    def plan(self) -> RunPlan:
        """What a simulator that carries out whole runs is asked for."""
        rejected = self.entries == ALL
        draw_below = SMALLEST_EXPECTED if self.observation == "expected" else _ANY_SIZE
        return RunPlan(
            parameters=self.observation == "expected", draw_below=draw_below, details=rejected, rejected=rejected
        )

    def storage(self, distribution: ArrayDistribution | None) -> str:
        """Return how an observation is stored; None stands for a statement of which there is a draw alone."""
        return NOISY if self.observation == "noisy" or distribution is None else storage_of(distribution)


def storage_of(distribution: ArrayDistribution) -> str:
    """Return how an observation can be stored; it depends on the statement only, never on what one trace gave.

    A normal with one standard deviation is "sparse-expected": y = mean + stddev * noise is an exact draw of p(y | x)
    at every reading. Everything else is "noisy".
    """
    one_stddev = isinstance(distribution, SparseNormal) or (
        distribution.code == Normal.code and distribution.arrays[1].size == 1
    )
    size = 1
    for extent in distribution.shape:
        size *= extent
    return EXPECTED if one_stddev and size >= SMALLEST_EXPECTED else NOISY
