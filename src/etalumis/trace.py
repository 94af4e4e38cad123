# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces: what happened in one run of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from etalumis.address import AddressTable
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

    `value` is None and `log_prob` 0 where it was not scored (prior runs keep the distribution only); `distribution` is
    None where a simulator scored it itself and was not asked for the parameters.
    """

    name: str
    address: str
    distribution: ArrayDistribution | None
    value: np.ndarray | None
    log_prob: float

    @property
    def stated(self) -> ArrayDistribution:
        """The distribution; raises ValueError where it was not asked for."""
        if self.distribution is None:
            raise ValueError(
                f"observe {self.name!r}: its parameters were not asked for; run with Plan(parameters=True)"
            )
        return self.distribution


class Trace:
    """One run of a model: entries as parallel columns, observe entries and tags.

    `address[i]` is an integer of `addresses`, whose string is `base__instance`; `log_prob[i]` is the log density of
    `value[i]` under the prior `distribution[i]`; `scope[i]` is 0 or the running number of a rejection scope and
    `repetition[i]` counts its passes from 0. Entries of rejected repetitions may be there, flagged `REJECTED`, or be
    left out. A `RecordedTrace` was kept while the run went on here, a `ppx.DelegatedTrace` came from a simulator whole.
    """

    __slots__ = ()

    @property
    def addresses(self) -> AddressTable:
        """What the integers of `address` stand for."""
        raise NotImplementedError

    @property
    def address(self) -> Sequence[int]:
        """Integer of each entry's address."""
        raise NotImplementedError

    @property
    def value(self) -> Sequence[float]:
        """Value of each entry."""
        raise NotImplementedError

    @property
    def distribution(self) -> Sequence[Distribution]:
        """Prior of each entry."""
        raise NotImplementedError

    @property
    def log_prob(self) -> Sequence[float]:
        """Log density of each value under its prior."""
        raise NotImplementedError

    @property
    def flags(self) -> Sequence[int]:
        """`CONTROLLED`, `REPLACED`, `REJECTED` or their sums."""
        raise NotImplementedError

    @property
    def scope(self) -> Sequence[int]:
        """Running number of each entry's rejection scope; 0 outside scopes."""
        raise NotImplementedError

    @property
    def repetition(self) -> Sequence[int]:
        """Repetition of the scope, from 0."""
        raise NotImplementedError

    @property
    def name(self) -> Sequence[str]:
        """Name of each entry; "" where it has none."""
        raise NotImplementedError

    @property
    def observes(self) -> Sequence[Observed]:
        """The observe entries, in order."""
        raise NotImplementedError

    @property
    def tags(self) -> dict[str, np.ndarray]:
        """What the model wanted remembered, by name."""
        raise NotImplementedError

    @property
    def result(self) -> float | None:
        """What the model returned."""
        raise NotImplementedError

    @property
    def draws(self) -> int:
        """Number of draws of the run, those of rejected repetitions included."""
        raise NotImplementedError

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
        log_prob = self.log_prob
        return float(sum(log_prob[i] for i in self.accepted))

    @property
    def log_likelihood(self) -> float:
        """Sum of log p(y_n | x) over the observe entries."""
        return float(sum(observed.log_prob for observed in self.observes))

    @property
    def type(self) -> bytes:
        """128-bit digest of the sequence of controlled addresses."""
        address = self.address
        return self.addresses.type_of(tuple(address[i] for i in self.controlled))


@dataclass(slots=True)
class RecordedTrace(Trace):
    """A trace whose entries were recorded one by one."""

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

    @property
    def draws(self) -> int:
        """Number of draws of the run, those of rejected repetitions included."""
        return len(self.address)
