# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Plans of runs, for models that carry out runs by themselves (delegated runs)."""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from etalumis.address import AddressTable
from etalumis.distributions import Distribution
from etalumis.execution import Site
from etalumis.trace import Observed, Trace

Columns = np.ndarray[Any, Any]


ENTRY = np.dtype([("value", "<f8"), ("address", "<u4"), ("distribution", "<u4")])
"""An entry, as the struct of the PPX schema; `address` and `distribution` are numbers of an `AddressKeys` object."""
DETAIL = np.dtype(
    [
        ("log_prob", "<f8"), ("support", "<u8"), ("scope", "<u4"), ("repetition", "<u4"), ("row", "<i4"),
        ("flags", "<u4"),
    ]
)  # fmt: skip
"""Details of an entry, which only some engines request: log density of the value, digest of the prior's kind and
support, scope and repetition, the row that the value was copied from (-1: none), and flags (`trace.REJECTED`)."""

# the value and the log density are the first fields
_double = struct.Struct("<d").pack
_NAN = _double(math.nan)
_VALUE_AND_PRIOR, _LOG_PROB = struct.Struct("<d4xI").unpack_from, struct.Struct("<d").unpack_from

OWN_PRIOR = 1 << 31
"""Numbers in the column `distribution` from here on belong to the trace alone; lower ones belong to its `keys`."""

AddressKey = tuple[str, int, str, int]
"""Identity of an entry: base address, instance number in the trace, name, and flags without `REJECTED`."""


class AddressKeys(Protocol):
    """Maps the numbers in the column `address` to the keys of addresses."""

    def key(self, number: int) -> AddressKey:
        """Return the key of a number."""
        ...


class ReplayRows:
    """Entries of a trace to replay: values, and the information that decides which entry may reuse which value.

    Addresses and priors are numbers of the object that created the rows; a `Delegate` translates them into its own.
    Rows are immutable. They are stored as bytes, because slicing and joining bytes is faster than creating numpy views
    of structs.

    Parameters
    ----------
    entries, details
        Arrays of dtype `ENTRY` and `DETAIL`, one row per entry, or their bytes.
    keys
        Maps the numbers of the addresses.
    addresses
        Bytes of the column `address`, if the caller has them already.
    """

    __slots__ = ("_addresses", "detail_bytes", "entry_bytes", "keys")

    def __init__(
        self, entries: Columns | bytes, details: Columns | bytes, keys: AddressKeys, addresses: bytes | None = None
    ) -> None:
        self.entry_bytes = entries if isinstance(entries, bytes) else entries.tobytes()
        self.detail_bytes = details if isinstance(details, bytes) else details.tobytes()
        self.keys = keys
        self._addresses = addresses

    @property
    def entries(self) -> Columns:
        """The rows as an array of dtype `ENTRY`."""
        return np.frombuffer(self.entry_bytes, ENTRY)

    @property
    def details(self) -> Columns:
        """The details as an array of dtype `DETAIL`."""
        return np.frombuffer(self.detail_bytes, DETAIL)

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.entry_bytes) // ENTRY.itemsize

    @property
    def structure(self) -> tuple[AddressKeys, bytes, bytes]:
        """Addresses and scopes: equal for rows that differ in values and priors only."""
        if self._addresses is None:
            self._addresses = self.entries["address"].tobytes()
        return self.keys, self._addresses, self.details["scope"].tobytes()

    def row(self, position: int) -> tuple[float, int, float]:
        """Return the value, the number of the prior and the log density of one row."""
        value, number = _VALUE_AND_PRIOR(self.entry_bytes, position * ENTRY.itemsize)
        return value, number, _LOG_PROB(self.detail_bytes, position * DETAIL.itemsize)[0]

    def first(self, count: int) -> "ReplayRows":
        """Return the first rows."""
        return ReplayRows(
            self.entry_bytes[: count * ENTRY.itemsize], self.detail_bytes[: count * DETAIL.itemsize], self.keys
        )

    def with_value(self, position: int, value: float) -> "ReplayRows":
        """Return a copy with another value, of unknown log density, at `position`."""
        entries, details = self.entry_bytes, self.detail_bytes
        at, detail_at = position * ENTRY.itemsize, position * DETAIL.itemsize
        return ReplayRows(
            b"".join((entries[:at], _double(value), entries[at + 8 :])),
            b"".join((details[:detail_at], _NAN, details[detail_at + 8 :])),
            self.keys,
        )

    def with_values(self, values: Mapping[int, float], unknown: slice) -> "ReplayRows":
        """Return a copy with other values at some positions, and unknown log densities in the range `unknown`."""
        entries, details = self.entries.copy(), self.details.copy()
        entries["value"][list(values)] = list(values.values())
        details["log_prob"][unknown] = np.nan
        return ReplayRows(entries, details, self.keys, self._addresses)


class SavedKeys:
    """The keys of rows that another process saved: row i has number i."""

    def __init__(self, keys: Sequence[AddressKey]) -> None:
        self._keys = keys

    def key(self, number: int) -> AddressKey:
        """Return the key of a number."""
        return self._keys[number]

    def rows(self, values: Sequence[float], scopes: Sequence[int]) -> ReplayRows:
        """Return rows to replay by position."""
        entries, details = np.zeros(len(values), ENTRY), np.zeros(len(values), DETAIL)
        entries["value"], entries["address"] = values, np.arange(len(values))
        details["scope"], details["log_prob"] = scopes, np.nan
        return ReplayRows(entries, details, self)


class RunPlan(NamedTuple):
    """How a run is to be carried out.

    Without `rows`, every entry is drawn from its prior. With `rows`, the first `prefix` entries are replayed by
    position, as first repetitions of their scopes; their log densities must equal those of the rows, except for rows
    with NaN. A scope that began among these entries is called open. After the prefix:

    - Outside scopes, or in an open one, a controlled entry takes the value of the row with the same address, if that
      row is also controlled, also outside scopes or in an open one, and has the same support. All others are drawn.
    - In a scope that begins later, every entry is drawn.
    - If an open scope begins another repetition, the run ends and the trace is `lost`: it has no other content.

    If the rows are `proposed`, the n-th controlled entry instead takes the value of row n, provided that address, prior
    and scope are those of the row, in repetition 0. A row with NaN leaves its entry to the model, and the whole scope
    if the entry is the first of one. From the first controlled entry that differs from its row on, the model draws
    every entry. The column `row` of the details tells which rows were used.

    Attributes
    ----------
    rows
        Accepted entries of an earlier trace.
    prefix
        Number of rows that are replayed by position.
    observed
        Values to condition on, by the name of the observe statement and of the statement's shape. With an empty mapping
        only values that the model itself supplies are scored; None scores nothing. The same object is sent only once.
    parameters
        Whether to return the parameters of observe statements.
    draw_below
        Observations that are not scored are drawn if they have fewer elements than this.
    details
        Whether to return `DETAIL` of the entries, which a later replay of the trace needs.
    rejected
        Whether to return the entries of rejected repetitions.
    proposed
        Whether the rows are proposed values.
    """

    rows: ReplayRows | None = None
    prefix: int = 0
    observed: Mapping[str, np.ndarray] | None = None
    parameters: bool = False
    draw_below: int = 0
    details: bool = False
    rejected: bool = False
    proposed: bool = False


class StepSettings(NamedTuple):
    """How the steps of a chain are chosen, as in `inference.kernel`.

    Attributes
    ----------
    focus_share, fresh_share, tail_share, redraw_share
        See `inference.kernel.Settings`.
    focus
        Names of the entries that get the focus share; None: all entries with a name.
    beta
        Inverse temperature.
    """

    focus_share: float
    fresh_share: float
    tail_share: float
    redraw_share: float
    focus: tuple[str, ...] | None
    beta: float


class Steps(NamedTuple):
    """Request for steps of a chain that the model itself makes.

    Step n depends on the seed of the chain, on n and on the state only, so the number of steps in a request does not
    change the chain.

    Attributes
    ----------
    rows
        The accepted entries of the trace to start from.
    observed
        See `RunPlan`.
    settings
        How the steps are chosen.
    seed, first, number
        Seed of the chain, number of the first step, and how many steps to make.
    """

    rows: ReplayRows
    observed: Mapping[str, np.ndarray]
    settings: StepSettings
    seed: int
    first: int
    number: int


class StepFlag(IntFlag):
    """Outcome of a step."""

    RUN = 1
    """The model was run."""
    ACCEPTED = 2
    LOST = 4
    TAIL = 8
    """Every entry after the chosen one was redrawn."""
    NOTHING = 16
    """Nothing was proposed: there was no entry to choose."""
    BROKEN = 32
    """The likelihood was NaN, or the run did not match the rows to replay. No step follows."""


class PlannedTrace(Trace):
    """A trace of a run that followed a plan."""

    __slots__ = ()

    @property
    def keys(self) -> AddressKeys:
        """Maps the numbers in the column `address` to the keys of addresses."""
        raise NotImplementedError

    @property
    def accepted_entries(self) -> Columns:
        """The entries, of dtype `ENTRY`, without those of rejected repetitions."""
        raise NotImplementedError

    @property
    def rows(self) -> ReplayRows:
        """The accepted entries as rows to replay; only for plans with `details`."""
        raise NotImplementedError

    def prior(self, number: int) -> Distribution:
        """Return the prior of a number in the column `distribution` of its rows."""
        raise NotImplementedError

    @property
    def lost(self) -> bool:
        """Whether an open scope began another repetition."""
        raise NotImplementedError

    @property
    def mismatch(self) -> bool:
        """Whether the run did not reach the entries to replay by position, or their priors differed."""
        raise NotImplementedError

    @property
    def diverged(self) -> bool:
        """Whether a controlled entry differed from its proposed row, or a proposed row was not used."""
        raise NotImplementedError

    @property
    def repeated(self) -> bool:
        """Whether a scope whose proposed rows were all used, like those before it, began another repetition."""
        raise NotImplementedError

    @property
    def log_ratio(self) -> float:
        """Sum of log p'(x_i) - log p(x_i) over the entries that reused the value of a row."""
        raise NotImplementedError

    def misfits(self) -> Sequence[Observed]:
        """Return the observe entries whose observed value does not have the shape of the statement."""
        raise NotImplementedError

    def unscored(self) -> Sequence[Observed]:
        """Return the observe entries without an observed value; for plans that score."""
        raise NotImplementedError


class HandOver(IntEnum):
    """What the model draws by itself after an answer in an assisted run."""

    NOTHING = 0
    SCOPE = 1
    """The rest of the rejection scope, including its further repetitions."""
    REST = 2
    """The rest of the run."""


class Answer(NamedTuple):
    """The answer to a controlled draw of an assisted run.

    If the value is None, the model draws it; that requires a hand-over.
    """

    value: float | None
    hand_over: HandOver = HandOver.NOTHING


@runtime_checkable
class Delegate(Protocol):
    """A model that may be able to carry out plans by itself."""

    @property
    def delegates(self) -> bool:
        """Whether the model can carry out plans by itself."""
        ...

    def carry_out(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Sequence[PlannedTrace]:
        """Run once per seed; the same plan and seed give the same trace, independent of earlier runs."""
        ...

    def assist(
        self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable
    ) -> PlannedTrace:
        """Run once; ask `answer` for controlled entries (their `position` is -1), and draw the others from `seed`."""
        ...


@runtime_checkable
class Stepper(Delegate, Protocol):
    """A model that may be able to make the steps of a chain by itself."""

    @property
    def can_step(self) -> bool:
        """Whether the model can make steps by itself."""
        ...

    def take_steps(
        self, steps: Steps, addresses: AddressTable
    ) -> tuple[Sequence[tuple[int, int]], Sequence[PlannedTrace]]:
        """Return (position of the changed entry or -1, `StepFlag`) of each step, and the traces of the steps.

        There is one trace per accepted step, in order, and one for a step that was `BROKEN`, at the end. If the initial
        trace could not be replayed, there are no steps and one trace, that of the failed replay.
        """
        ...


@runtime_checkable
class Proposable(Delegate, Protocol):
    """A model that may be able to carry out plans with proposed rows."""

    @property
    def takes_proposals(self) -> bool:
        """Whether the model can carry out plans with proposed rows."""
        ...

    def carry_out_each(
        self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable
    ) -> Sequence[PlannedTrace]:
        """Run each plan once with its seed; return the traces in the order of the requests."""
        ...


@runtime_checkable
class Concurrent(Delegate, Protocol):
    """A model in several processes, which repeats by itself the runs of a process that failed."""

    def carry_out_all(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> Sequence[PlannedTrace]:
        """Run each plan once with its seed, in parallel; return the traces in the order of the requests."""
        ...

    def stream(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Iterator[PlannedTrace]:
        """Yield the trace of each seed, in order, as `carry_out` returns it."""
        ...
