# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Plans of runs, and the models that carry them out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple, Protocol, TypeGuard

import numpy as np

from etalumis.address import AddressTable
from etalumis.execution import Site
from etalumis.rows import Rows
from etalumis.trace import Trace


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
        Accepted entries of an earlier trace of the model, or saved ones (`rows.SavedKeys`).
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

    rows: Rows | None = None
    prefix: int = 0
    observed: Mapping[str, np.ndarray] | None = None
    parameters: bool = False
    draw_below: int = 0
    details: bool = False
    rejected: bool = False
    proposed: bool = False


MAX_BATCH_RUNS = 1024
"""Largest number of runs in one request."""


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

    rows: Rows
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


class Stepper(Protocol):
    """A model that makes the steps of a chain by itself."""

    def take_steps(self, steps: Steps, addresses: AddressTable) -> tuple[Sequence[tuple[int, int]], Sequence[Trace]]:
        """Return (position of the changed entry or -1, `StepFlag`) of each step, and the traces of the steps.

        There is one trace per accepted step, in order, and one for a step that was `BROKEN`, at the end. If the initial
        trace could not be replayed, there are no steps and one trace, that of the failed replay.
        """
        ...


class Concurrent(Protocol):
    """A model in several processes, which repeats by itself the runs of a process that failed."""

    def carry_out_each(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> Sequence[Trace]:
        """Run each plan once with its seed, in parallel; return the traces in the order of the requests."""
        ...

    def stream(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Iterator[Trace]:
        """Yield the trace of each seed, in order."""
        ...


class PlannedModel(Protocol):
    """A model that carries out plans: a simulator by itself, any other model through `draw_by_draw.DrawByDraw`.

    A model that may be able to has the attribute `delegates`, which says whether it is.
    """

    @property
    def batch_runs(self) -> int:
        """Largest number of runs that one call should ask for: they are lost together if one of them fails."""
        ...

    @property
    def takes_proposals(self) -> bool:
        """Whether it carries out plans with proposed rows."""
        ...

    @property
    def concurrent(self) -> Concurrent | None:
        """The model, if it runs in several processes."""
        ...

    @property
    def stepper(self) -> Stepper | None:
        """The model, if it makes the steps of a chain by itself."""
        ...

    def carry_out(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Sequence[Trace]:
        """Run once per seed; the same plan and seed give the same trace, independent of earlier runs."""
        ...

    def carry_out_each(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> Sequence[Trace]:
        """Run each plan once with its seed; return the traces in the order of the requests."""
        ...

    def assist(self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable) -> Trace:
        """Run once; ask `answer` for controlled entries (their `position` is -1), and draw the others from `seed`."""
        ...


def carries_out_plans(model: object) -> TypeGuard[PlannedModel]:
    """Return whether a model carries out plans by itself."""
    return bool(getattr(model, "delegates", False))
