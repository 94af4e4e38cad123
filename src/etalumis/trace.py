# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces: the record of one run of a model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution, Distribution
from etalumis.rows import Numbering, Rows

CONTROLLED = 1
"""Flag of an entry that inference may control."""
REPLACED = 2
"""Flag of an entry inside a rejection scope marked `replaced`."""
REJECTED = 4
"""Flag of an entry of a rejected repetition: kept for replay, but not a latent."""


@dataclass(slots=True)
class Observed:
    """One execution of an observe statement.

    If the statement was not scored, as in prior runs, `value` is None and `log_prob` is 0. `distribution` is None if a
    simulator scored the statement itself and its parameters were not requested.
    """

    name: str
    address: str
    distribution: ArrayDistribution | None
    value: np.ndarray | None
    log_prob: float

    @property
    def likelihood(self) -> ArrayDistribution:
        """The distribution. Raises ValueError if it was not requested."""
        if self.distribution is None:
            raise ValueError(
                f"observe {self.name!r}: its parameters were not requested; run with Plan(parameters=True)"
            )
        return self.distribution


class Trace(ABC):
    """One run of a model: entries as parallel columns, observe entries and tags.

    `address[i]` is an integer of `addresses`, which stands for the string `base__instance`. `log_prob[i]` is the log
    density of `value[i]` under the prior `distribution[i]`. `scope[i]` is the number of a rejection scope, or 0, and
    `repetition[i]` counts the repetitions of the scope from 0. Entries of rejected repetitions are either flagged
    `REJECTED` or absent. A `RecordedTrace` is recorded entry by entry; a `ppx.DelegatedTrace` is received as a whole.
    Whether the run could follow its plan is part of the trace (`delegation.RunPlan`).
    """

    __slots__ = ()

    @property
    @abstractmethod
    def addresses(self) -> AddressTable:
        """Table of the addresses that the integers in `address` stand for."""

    @property
    @abstractmethod
    def address(self) -> Sequence[int]:
        """Integer of the address of each entry."""

    @property
    @abstractmethod
    def value(self) -> Sequence[float]:
        """Value of each entry."""

    @property
    @abstractmethod
    def distribution(self) -> Sequence[Distribution]:
        """Prior of each entry."""

    @property
    @abstractmethod
    def log_prob(self) -> Sequence[float]:
        """Log density of each value under its prior."""

    @property
    @abstractmethod
    def flags(self) -> Sequence[int]:
        """Sums of `CONTROLLED`, `REPLACED` and `REJECTED`."""

    @property
    @abstractmethod
    def scope(self) -> Sequence[int]:
        """Number of the rejection scope of each entry, from 1; 0 outside scopes."""

    @property
    @abstractmethod
    def repetition(self) -> Sequence[int]:
        """Repetition of the scope, from 0."""

    @property
    @abstractmethod
    def name(self) -> Sequence[str]:
        """Name of each entry, or ""."""

    @property
    @abstractmethod
    def observes(self) -> Sequence[Observed]:
        """The observe entries, in order."""

    @property
    @abstractmethod
    def tags(self) -> dict[str, np.ndarray]:
        """Values recorded by the model, by name."""

    @property
    @abstractmethod
    def result(self) -> float | None:
        """Return value of the model."""

    @property
    @abstractmethod
    def draws(self) -> int:
        """Number of draws in the run, including rejected repetitions."""

    @property
    @abstractmethod
    def keys(self) -> Numbering:
        """What the numbers in `accepted_numbers` belong to."""

    @property
    @abstractmethod
    def accepted_numbers(self) -> list[tuple[int, int]]:
        """Numbers of address and prior of each accepted entry."""

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """The accepted entries as rows to replay; only for plans with `details`."""

    @abstractmethod
    def prior(self, number: int) -> Distribution:
        """Return the prior of a number that `rows.row` returned."""

    @property
    @abstractmethod
    def lost(self) -> bool:
        """Whether an open scope began another repetition."""

    @property
    @abstractmethod
    def mismatch(self) -> bool:
        """Whether the run did not reach the entries to replay by position, or their densities differed."""

    @property
    @abstractmethod
    def diverged(self) -> bool:
        """Whether a controlled entry differed from its proposed row, or a proposed row was not used."""

    @property
    @abstractmethod
    def repeated(self) -> bool:
        """Whether a scope whose proposed rows were all used, like those before it, began another repetition."""

    @property
    @abstractmethod
    def log_ratio(self) -> float:
        """Sum of log p'(x_i) - log p(x_i) over the entries that reused the value of a row."""

    @abstractmethod
    def misfits(self) -> Sequence[Observed]:
        """Return the observe entries whose observed value does not have the shape of the statement."""

    @abstractmethod
    def unscored(self) -> Sequence[Observed]:
        """Return the observe entries without an observed value, of a plan that scores."""

    def __len__(self) -> int:
        return len(self.address)

    @property
    def accepted(self) -> list[int]:
        """Positions of the accepted entries: all except those of rejected repetitions."""
        return [i for i, flags in enumerate(self.flags) if not flags & REJECTED]

    @property
    def controlled(self) -> list[int]:
        """Positions of the accepted entries that inference may control."""
        return [i for i, flags in enumerate(self.flags) if flags & (CONTROLLED | REJECTED) == CONTROLLED]

    @property
    def log_prior(self) -> float:
        """Sum of log p(x_i) over the accepted entries.

        Without rejection scopes this is the log prior density of the trace. With them, the term -log Z of each scope is
        missing: its acceptance probability Z in its context is not known from a single run.
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
