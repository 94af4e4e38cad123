# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Plans: what a run is to do, said beforehand, for models that carry it out themselves (delegated runs)."""

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
"""An entry: `address` and `distribution` are numbers that somebody keeps. The struct of the PPX schema."""
DETAIL = np.dtype(
    [
        ("log_prob", "<f8"), ("support", "<u8"), ("scope", "<u4"), ("repetition", "<u4"), ("row", "<i4"),
        ("flags", "<u4"),
    ]
)  # fmt: skip
"""What only some engines ask for: log density of the value, digest of kind and support of its prior, place in a scope,
the row whose value it took (-1 none), and whether it was rejected (`trace.REJECTED`)."""

# the value and the log density come first
_double = struct.Struct("<d").pack
_NAN = _double(math.nan)
_VALUE_AND_PRIOR, _LOG_PROB = struct.Struct("<d4xI").unpack_from, struct.Struct("<d").unpack_from

OWN_PRIOR = 1 << 31
"""Numbers in the column `distribution` from here on are the trace's own; the others are those of its `keys`."""

AddressKey = tuple[str, int, str, int]
"""What an entry is called: base address, its running number in the trace, name, and flags without `REJECTED`."""


class AddressKeys(Protocol):
    """Knows what the numbers in the column `address` stand for."""

    def key(self, number: int) -> AddressKey:
        """Return what a number stands for."""
        ...


class ReplayRows:
    """Entries of a trace to replay: its values, and what tells which entry may take which.

    They are in the numbers of whoever made them; `Delegate` turns them into its own. Never changed in place. Kept as
    bytes, which are sliced and joined faster than numpy makes views of structs.

    Parameters
    ----------
    entries, details
        Columns of dtype `ENTRY` and `DETAIL`, one row for each entry, or their bytes.
    keys
        Knows the numbers of the addresses.
    addresses
        Bytes of the column `address`, where somebody has them already.
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
        """Column of dtype `ENTRY`."""
        return np.frombuffer(self.entry_bytes, ENTRY)

    @property
    def details(self) -> Columns:
        """Column of dtype `DETAIL`."""
        return np.frombuffer(self.detail_bytes, DETAIL)

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.entry_bytes) // ENTRY.itemsize

    @property
    def structure(self) -> tuple[AddressKeys, bytes, bytes]:
        """What rows have in common that differ in values and priors alone: equal addresses and scopes."""
        if self._addresses is None:
            self._addresses = self.entries["address"].tobytes()
        return self.keys, self._addresses, self.details["scope"].tobytes()

    def row(self, position: int) -> tuple[float, int, float]:
        """Return value, number of the prior and log density of one row."""
        value, number = _VALUE_AND_PRIOR(self.entry_bytes, position * ENTRY.itemsize)
        return value, number, _LOG_PROB(self.detail_bytes, position * DETAIL.itemsize)[0]

    def first(self, count: int) -> "ReplayRows":
        """Return the first rows."""
        return ReplayRows(
            self.entry_bytes[: count * ENTRY.itemsize], self.detail_bytes[: count * DETAIL.itemsize], self.keys
        )

    def with_value(self, position: int, value: float) -> "ReplayRows":
        """Return the rows with another value, of unknown density, at `position`."""
        entries, details = self.entry_bytes, self.detail_bytes
        at, detail_at = position * ENTRY.itemsize, position * DETAIL.itemsize
        return ReplayRows(
            b"".join((entries[:at], _double(value), entries[at + 8 :])),
            b"".join((details[:detail_at], _NAN, details[detail_at + 8 :])),
            self.keys,
        )


class SavedKeys:
    """The keys of rows that another process wrote down: row i has number i."""

    def __init__(self, keys: Sequence[AddressKey]) -> None:
        self._keys = keys

    def key(self, number: int) -> AddressKey:
        """Return what a number stands for."""
        return self._keys[number]

    def rows(self, values: Sequence[float], scopes: Sequence[int]) -> ReplayRows:
        """Return rows to replay by position."""
        entries, details = np.zeros(len(values), ENTRY), np.zeros(len(values), DETAIL)
        entries["value"], entries["address"] = values, np.arange(len(values))
        details["scope"], details["log_prob"] = scopes, np.nan
        return ReplayRows(entries, details, self)


class RunPlan(NamedTuple):
    """What a run is to do.

    Without `rows` every entry is drawn from its prior. With them the first `prefix` are replayed by position, as first
    repetitions of their scopes; their log densities must be those of the rows, unless a row says NaN. Call a scope open
    if it began among them. After them

    - outside scopes, or in an open one, a controlled entry takes the value of the row with its address, if that row is
      controlled too, in the same situation, and of the same support; every other entry is drawn;
    - in a scope that begins later every entry is drawn;
    - if an open scope asks for another repetition the trace is `lost`: it says nothing but that.

    Attributes
    ----------
    rows
        Accepted entries of an earlier trace.
    prefix
        How many of them are replayed by position.
    observed
        Values to condition on by the name of the observe statement, shapes as the statements'; an empty mapping scores
        what the model itself supplies; None scores nothing. The same object is handed over once.
    parameters
        Whether the parameters of observe statements are wanted.
    draw_below
        Observations that are not scored are drawn where they have fewer elements.
    details
        Whether log densities, scopes and repetitions of the entries are wanted: to go on from the trace.
    rejected
        Whether entries of rejected repetitions are wanted.
    """

    rows: ReplayRows | None = None
    prefix: int = 0
    observed: Mapping[str, np.ndarray] | None = None
    parameters: bool = False
    draw_below: int = 0
    details: bool = False
    rejected: bool = False


class Moves(NamedTuple):
    """How the steps of a chain are chosen, as in `inference.kernel`.

    Attributes
    ----------
    focus_share, fresh_share, tail_share, redraw_share
        As of `inference.kernel.Settings`.
    focus
        Names of the entries that get the focus share; None: all that have a name.
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
    """Steps of a chain that a model is to make by itself.

    Step n does what is drawn from the chain's seed and n alone: how many are asked for at a time makes no difference.

    Attributes
    ----------
    rows
        The accepted entries of the trace to start from.
    observed
        As of `RunPlan`.
    moves
        How the steps are chosen.
    seed, first, number
        Seed of the chain, number of the first step that is wanted, and how many are.
    """

    rows: ReplayRows
    observed: Mapping[str, np.ndarray]
    moves: Moves
    seed: int
    first: int
    number: int


class StepFlag(IntFlag):
    """What a step did."""

    RUN = 1
    """The model was run."""
    ACCEPTED = 2
    LOST = 4
    TAIL = 8
    """Everything behind the entry was redrawn."""
    NOTHING = 16
    """Nothing was proposed, as there was no entry to choose."""
    BROKEN = 32
    """The run gave no number as likelihood, or was not the one to replay: the last step."""


class PlannedTrace(Trace):
    """A trace that a plan gave."""

    __slots__ = ()

    @property
    def keys(self) -> AddressKeys:
        """Knows what the numbers in the column `address` stand for."""
        raise NotImplementedError

    @property
    def accepted_entries(self) -> Columns:
        """The entries without those of rejected repetitions, of dtype `ENTRY`."""
        raise NotImplementedError

    @property
    def rows(self) -> ReplayRows:
        """The accepted entries as rows to replay; asked for with `details`."""
        raise NotImplementedError

    def prior(self, number: int) -> Distribution:
        """Return what a number in the column `distribution` of its rows stands for."""
        raise NotImplementedError

    @property
    def lost(self) -> bool:
        """Whether an open scope asked for another repetition."""
        raise NotImplementedError

    @property
    def mismatch(self) -> bool:
        """Whether the run did not come to the entries that it was to replay by position, or their priors changed."""
        raise NotImplementedError

    @property
    def log_ratio(self) -> float:
        """Sum of log p'(x_i) - log p(x_i) over the entries that took over the value of a row."""
        raise NotImplementedError

    def misfits(self) -> Sequence[Observed]:
        """Return the observe entries whose observed value has another shape than the statement."""
        raise NotImplementedError

    def unscored(self) -> Sequence[Observed]:
        """Return the observe entries that have no observed value, of a plan that scores."""
        raise NotImplementedError


class HandOver(IntEnum):
    """What a model that is assisted is to draw by itself from here on."""

    NOTHING = 0
    SCOPE = 1
    """The rest of the rejection scope, its further repetitions included."""
    REST = 2
    """The rest of the run."""


class Answer(NamedTuple):
    """The answer to a controlled draw of an assisted run.

    Without a value, which goes with a hand-over alone, the model draws it by itself.
    """

    value: float | None
    hand_over: HandOver = HandOver.NOTHING


@runtime_checkable
class Delegate(Protocol):
    """A model that may carry out plans by itself."""

    @property
    def delegates(self) -> bool:
        """Whether it does."""
        ...

    def carry_out(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Sequence[PlannedTrace]:
        """Run once for each seed; the same plan and seed give the same trace, whatever ran before."""
        ...

    def assist(
        self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable
    ) -> PlannedTrace:
        """Run once; ask for controlled entries alone (their `position` is -1), and draw the others from `seed`."""
        ...


@runtime_checkable
class Stepper(Delegate, Protocol):
    """A model that may make the steps of a chain by itself."""

    @property
    def steps(self) -> bool:
        """Whether it does."""
        ...

    def take_steps(
        self, steps: Steps, addresses: AddressTable
    ) -> tuple[Sequence[tuple[int, int]], Sequence[PlannedTrace]]:
        """Return (position of the entry to change or -1, `StepFlag`) of each step, and the traces that it led to.

        Those are the accepted ones in order, and at the end the one of a step that was `BROKEN`; that one alone, and
        no steps, where the trace to start from could not be replayed.
        """
        ...


@runtime_checkable
class Concurrent(Delegate, Protocol):
    """A model of several processes, which repeats by itself what fails with one of them."""

    def carry_out_all(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> Sequence[PlannedTrace]:
        """Run each plan once, with its seed, all at the same time; return the traces in that order."""
        ...

    def stream(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Iterator[PlannedTrace]:
        """Yield the trace of each seed, in order, as `carry_out` gives it."""
        ...
