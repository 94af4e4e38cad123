# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces: what happened in one run of a model, as columns."""

from dataclasses import dataclass, field

import numpy as np

from etalumis.address import AddressTable, trace_type
from etalumis.distributions import ArrayDistribution, Distribution

CONTROLLED = 1
"""Flag of an entry that inference may steer."""
REPLACED = 2
"""Flag of an entry inside a rejection scope marked `replaced`."""
REJECTED = 4
"""Flag of an entry of a repetition that was not the last one of its scope: kept for replay, but no latent."""


@dataclass(slots=True)
class Observed:
    """One execution of an observe statement.

    `value` is None and `log_prob` 0 where the controller chose not to score it (prior runs keep the distribution only).
    """

    name: str
    address: str
    distribution: ArrayDistribution
    value: np.ndarray | None
    log_prob: float


@dataclass(slots=True)
class Trace:
    """One run of a model: entries as parallel lists, observe entries and tags.

    `address[i]` is an integer of `addresses`, whose string is `base__instance`; `log_prob[i]` is the log density of
    `value[i]` under the prior `distribution[i]`; `scope[i]` is 0 or the running number of a rejection scope and
    `repetition[i]` counts its passes from 0.
    """

    addresses: AddressTable
    address: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    distribution: list[Distribution] = field(default_factory=list)
    log_prob: list[float] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    scope: list[int] = field(default_factory=list)
    repetition: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    observes: list[Observed] = field(default_factory=list)
    tags: dict[str, np.ndarray] = field(default_factory=dict)
    result: float | None = None

    def __len__(self) -> int:
        return len(self.address)

    @property
    def accepted(self) -> list[int]:
        """Positions of the entries that count: all but those of rejected repetitions."""
        return [i for i, flags in enumerate(self.flags) if not flags & REJECTED]

    @property
    def controlled(self) -> list[int]:
        """Positions of the accepted entries that inference may steer."""
        return [i for i, flags in enumerate(self.flags) if flags & (CONTROLLED | REJECTED) == CONTROLLED]

    @property
    def log_prior(self) -> float:
        """Sum of log p(x_i) over the accepted entries.

        Without rejection scopes that is the log prior density of the trace; with them each scope's factor -log Z
        (its acceptance probability in its context) is missing, since a single run does not know it.
        """
        return float(sum(self.log_prob[i] for i in self.accepted))

    @property
    def log_likelihood(self) -> float:
        """Sum of log p(y_n | x) over the observe entries."""
        return float(sum(observed.log_prob for observed in self.observes))

    @property
    def type(self) -> bytes:
        """128-bit digest of the sequence of controlled addresses."""
        return trace_type(self.addresses.name(self.address[i]) for i in self.controlled)
