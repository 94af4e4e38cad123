# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces that are recorded entry by entry, and their rows."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from etalumis.address import AddressTable, split
from etalumis.distributions import Distribution
from etalumis.rows import AddressKey, Columns
from etalumis.trace import REJECTED, Observed, Trace

T = TypeVar("T")


@dataclass(slots=True)
class RecordedTrace(Trace):
    """A trace that was recorded entry by entry.

    Attributes
    ----------
    row
        Of each entry, the row of the plan that its value was copied from; -1: none.
    dropped
        Number of draws of rejected repetitions that the trace does not contain.
    scored
        Whether its plan has observed values.
    numbering
        What `accepted_numbers` belong to; None if the run had no plan.
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
    row: list[int] = field(default_factory=list)
    dropped: int = 0
    scored: bool = False
    lost: bool = False
    mismatch: bool = False
    diverged: bool = False
    repeated: bool = False
    log_ratio: float = 0.0
    numbering: "SiteNumbers | None" = None
    _positions: dict[int, int] | None = None

    @property
    def draws(self) -> int:
        """Number of draws in the run, including rejected repetitions."""
        return len(self.address) + self.dropped

    @property
    def keys(self) -> "SiteNumbers":
        """What the numbers in `accepted_numbers` belong to."""
        if self.numbering is None:
            raise ValueError("this trace has no numbers: its run had no plan")
        return self.numbering

    @property
    def accepted_numbers(self) -> list[tuple[int, int]]:
        """Numbers of address and prior of each accepted entry."""
        return self.keys.of(self)

    @property
    def rows(self) -> "RecordedRows":
        """The accepted entries as rows to replay."""
        if any(flags & REJECTED for flags in self.flags):
            raise ValueError("this trace has entries of rejected repetitions; run with RunPlan(rejected=False)")
        return RecordedRows(self, self.value, self.log_prob)

    @property
    def positions(self) -> dict[int, int]:
        """Address -> position of the entry; for traces without rejected repetitions."""
        if self._positions is None:
            self._positions = {address: position for position, address in enumerate(self.address)}
        return self._positions

    def truncate(self, count: int) -> None:
        """Drop all entries but the first ones."""
        for column in (
            self.address, self.value, self.distribution, self.log_prob, self.flags, self.scope, self.repetition,
            self.name, self.row,
        ):  # fmt: skip
            del column[count:]

    def prior(self, number: int) -> Distribution:
        """Return the prior of the entry at a position: `RecordedRows.row` returns positions as numbers."""
        return self.distribution[number]

    def misfits(self) -> Sequence[Observed]:
        """Return the observe entries whose observed value does not have the shape of the statement."""
        return [o for o in self.observes if o.value is not None and o.value.shape != o.likelihood.shape]

    def unscored(self) -> Sequence[Observed]:
        """Return the observe entries without an observed value, of a plan that scores."""
        return [observed for observed in self.observes if observed.value is None] if self.scored else ()


class RecordedRows:
    """Rows of a recorded trace, perhaps with other values.

    Parameters
    ----------
    trace
        The trace, without entries of rejected repetitions.
    value, log_prob
        Values and log densities of the first entries, as many as there are rows.
    """

    __slots__ = ("log_prob", "trace", "value")

    def __init__(self, trace: RecordedTrace, value: list[float], log_prob: list[float]) -> None:
        self.trace, self.value, self.log_prob = trace, value, log_prob

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.value)

    @property
    def structure(self) -> Hashable:
        """Addresses and scopes, with names and flags: equal for rows that differ in values and priors only."""
        trace = self.trace
        return trace.addresses, tuple(trace.address), tuple(trace.scope), tuple(trace.name), tuple(trace.flags)

    @property
    def values(self) -> Columns:
        """Array (row,) of the values."""
        return np.array(self.value, dtype=np.float64)

    def row(self, position: int) -> tuple[float, int, float]:
        """Return the value, the number of the prior and the log density of one row."""
        return self.value[position], position, self.log_prob[position]

    def first(self, count: int) -> "RecordedRows":
        """Return the first rows."""
        return RecordedRows(self.trace, self.value[:count], self.log_prob[:count])

    def with_value(self, position: int, value: float) -> "RecordedRows":
        """Return a copy with another value, of unknown log density, at `position`."""
        return self.with_values({position: value}, slice(position, position + 1))

    def with_values(self, values: Mapping[int, float], unknown: slice) -> "RecordedRows":
        """Return a copy with other values at some positions, and unknown log densities in the range `unknown`."""
        value, log_prob = self.value.copy(), self.log_prob.copy()
        for position, new in values.items():
            value[position] = new
        for position in range(*unknown.indices(len(value))):
            log_prob[position] = math.nan
        return RecordedRows(self.trace, value, log_prob)


class _Interned(Generic[T]):
    """Values with numbers from 0, in order of first use."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        """Return the number of a value; a new one gets the next number."""
        found = self._numbers.setdefault(value, len(self.values))
        if found == len(self.values):
            self.values.append(value)
        return found


class SiteNumbers:
    """Numbers of addresses, with names and flags, and of priors, for proposed rows.

    Parameters
    ----------
    addresses
        Table of the addresses.
    """

    def __init__(self, addresses: AddressTable) -> None:
        self.addresses = addresses
        self._sites: _Interned[tuple[int, str, int]] = _Interned()
        self._priors: _Interned[Distribution] = _Interned()

    def of(self, trace: RecordedTrace) -> list[tuple[int, int]]:
        """Return the numbers of address and prior of each accepted entry of a trace."""
        return [
            (
                self._sites.number((trace.address[i], trace.name[i], trace.flags[i])),
                self._priors.number(trace.distribution[i]),
            )
            for i in trace.accepted
        ]

    def key(self, number: int) -> AddressKey:
        """Return the key of an address number."""
        address, name, flags = self._sites.values[number]
        return (*split(self.addresses.name(address)), name, flags)

    def proposed(self, entries: Sequence[tuple[float, int, int]], scopes: Sequence[int]) -> RecordedRows:
        """Return proposed rows, as `rows.Numbering`."""
        trace = RecordedTrace(self.addresses, scope=list(scopes))
        for value, number, prior in entries:
            address, name, flags = self._sites.values[number]
            trace.address.append(address)
            trace.value.append(value)
            trace.distribution.append(self._priors.values[prior])
            trace.name.append(name)
            trace.flags.append(flags)
        return RecordedRows(trace, trace.value, [math.nan] * len(entries))
