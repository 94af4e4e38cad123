# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Carry out run plans draw by draw, for models that do not carry them out by themselves.

These are Python functions, and simulators behind PPX 1.0. The C++ front end carries out the same plans
(src/cpp/src/delegate.cpp): change both. Only the random numbers differ.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from etalumis.address import AddressTable, join
from etalumis.delegation import Answer, HandOver, PlannedModel, RunPlan, carries_out_plans
from etalumis.distributions import ArrayDistribution, Distribution
from etalumis.distributions.support import same_support
from etalumis.execution import BaseTable, Model, Recorder, Site
from etalumis.recorded_trace import RecordedRows, RecordedTrace, SiteNumbers
from etalumis.rows import ReplayRows, Rows
from etalumis.trace import CONTROLLED, Observed

Ask = Callable[[Site], Answer]


def planned(model: Model) -> PlannedModel:
    """Return a model that carries out plans: the model itself if it is able to, else one that runs it draw by draw."""
    return model if carries_out_plans(model) else DrawByDraw(model)


class DrawByDraw:
    """A model that carries out plans by running another one draw by draw.

    New draws of a run come from ``np.random.PCG64(seed)``. A run that is lost, or does not match its rows, is completed
    with draws from the prior that the trace does not contain.

    Parameters
    ----------
    model
        The model to run.
    """

    batch_runs = 1
    takes_proposals = True
    concurrent = None
    stepper = None

    def __init__(self, model: Model) -> None:
        self._model = model
        self._bases = BaseTable(AddressTable())
        self._numbers = SiteNumbers(self._bases.addresses)

    def carry_out(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> list[RecordedTrace]:
        """Run once per seed; the same plan and seed give the same trace."""
        return [self._run(plan, seed, addresses) for seed in seeds]

    def carry_out_each(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> list[RecordedTrace]:
        """Run each plan once with its seed; return the traces in the order of the requests."""
        return [self._run(plan, seed, addresses) for plan, seed in requests]

    def assist(self, plan: RunPlan, seed: int, answer: Ask, addresses: AddressTable) -> RecordedTrace:
        """Run once; ask `answer` for controlled entries (their `position` is -1), and draw the others from `seed`."""
        return self._run(plan, seed, addresses, answer)

    def _run(self, plan: RunPlan, seed: int, addresses: AddressTable, answer: Ask | None = None) -> RecordedTrace:
        if self._bases.addresses is not addresses:
            self._bases, self._numbers = BaseTable(addresses), SiteNumbers(addresses)
        trace = RecordedTrace(addresses, scored=plan.observed is not None, numbering=self._numbers)
        run = PlannedRun(plan, seed, trace, self._bases, answer)
        run.end(self._model.run(run))
        return trace


class PlannedRun(Recorder):
    """One run that follows a plan, see `RunPlan`.

    Parameters
    ----------
    plan
        The plan.
    seed
        Seed of the new draws.
    trace
        The trace to fill.
    bases
        Cache of address strings.
    answer
        Asked for controlled entries of an assisted run.
    """

    def __init__(
        self, plan: RunPlan, seed: int, trace: RecordedTrace, bases: BaseTable, answer: Ask | None = None
    ) -> None:
        super().__init__(trace, bases, rejected=plan.rejected)
        self._plan, self._seed, self._answer = plan, seed, answer
        self._prefix = plan.prefix
        self._rows = None if plan.rows is None else _recorded(plan.rows, trace.addresses)
        if self._rows is None and plan.proposed:
            self._rows = RecordedRows(RecordedTrace(trace.addresses), [], [])
        self._rng: np.random.Generator | None = None
        self._over = False
        self._replayed = 0
        self._open = 0  # scopes up to this number began among the first `prefix` entries
        self._handed_scope = 0  # scope that is drawn here as a whole
        self._rest_handed_over = False
        self._next_row = 0  # of proposed rows

    def draw(self, distribution: Distribution) -> float:
        """Return a new draw."""
        return distribution.sample(self._generator)

    @property
    def _generator(self) -> np.random.Generator:
        if self._rng is None:  # many replays draw nothing, and a generator takes as long as a small run
            self._rng = np.random.Generator(np.random.PCG64(self._seed))
        return self._rng

    def sample(
        self,
        stack: str,
        distribution: Distribution,
        *,
        name: str = "",
        control: bool = True,
        replace: bool = False,
        scope: int = 0,
        repetition: int = 0,
    ) -> float:
        """Choose the value of an entry, record it, and return it."""
        if self._over:
            return self.draw(distribution)
        if scope != self._scope or repetition != self._repetition:
            if scope != self._scope and not control:
                self._handed_scope = scope
            self._move(scope, repetition)
        address = self._address(stack, distribution.suffix)
        rows, row, value = self._rows, -1, None
        if self._replayed < self._prefix:
            row = self._replayed
            if rows is None or row >= rows.size or rows.trace.address[row] != address or repetition:
                return self._end_early("mismatch", distribution)
            self._open = max(self._open, scope)
            self._replayed += 1
        elif scope and scope <= self._open and repetition:
            return self._end_early("lost", distribution)
        elif rows is not None and control:
            if self._plan.proposed:
                row = self._proposed_row(address, distribution, name, scope, repetition)
            else:
                row = self._kept_row(address, distribution, scope, rows)
        if row >= 0:
            assert rows is not None
            value = rows.value[row]
        elif control and self._answer is not None:
            value = self._asked(Site(address, distribution, name, control, scope, repetition, -1), self._answer)
        if value is None:
            value = self.draw(distribution)
        log_prob = self._add(stack, address, value, distribution, name, control, replace, scope, repetition)
        self.trace.row.append(row)
        if row >= 0 and not self._plan.proposed:
            assert rows is not None
            if row >= self._prefix:
                self.trace.log_ratio += log_prob - rows.log_prob[row]
            elif log_prob != rows.log_prob[row] and not math.isnan(rows.log_prob[row]):
                self.trace.truncate(len(self.trace) - 1)
                self._end_early("mismatch", distribution)
        return value

    def observe(
        self, stack: str, distribution: ArrayDistribution, *, name: str = "", value: np.ndarray | None = None
    ) -> None:
        """Record an observe statement, scored if its plan scores and there is a value."""
        if self._over:
            return
        observed = self._plan.observed
        if observed is None:
            chosen = None
        else:
            chosen = observed.get(name, value)
            if chosen is not None and chosen.shape != distribution.shape:
                if chosen.size != 1 or math.prod(distribution.shape) != 1:
                    self._misfit(stack, distribution, name, chosen)
                    return
                chosen = chosen.reshape(distribution.shape)  # peers send scalars with shape () or (1,)
        self._observe(stack, distribution, name, chosen)
        below = self._plan.draw_below
        if chosen is None and below and math.prod(distribution.shape) < below:
            self.trace.observes[-1].value = distribution.sample(self._generator)

    def tag(self, name: str, value: np.ndarray) -> None:
        """Record a tag; a second tag of the same name replaces the first."""
        if not self._over:
            super().tag(name, value)

    def end(self, result: float | None) -> None:
        """Complete the trace."""
        trace = self.trace
        if not self._over:
            trace.result = result
            trace.mismatch = self._replayed < self._prefix  # the run may end before the prefix is complete
            if self._plan.proposed and self._rows is not None and not (trace.diverged or trace.repeated):
                trace.diverged = self._next_row < self._rows.size
        if trace.lost:
            trace.dropped += len(trace)
            trace.truncate(0)
            trace.observes.clear()
            trace.tags.clear()

    def _end_early(self, reason: str, distribution: Distribution) -> float:
        self._over = True
        setattr(self.trace, reason, True)
        return self.draw(distribution)

    def _kept_row(self, address: int, distribution: Distribution, scope: int, rows: RecordedRows) -> int:
        """Return the row whose value an entry after the prefix keeps; -1: none."""
        if scope > self._open:
            return -1
        trace = rows.trace
        row = trace.positions.get(address, -1)
        if not self._prefix <= row < rows.size or not trace.flags[row] & CONTROLLED:
            return -1
        row_scope = trace.scope[row]
        if (row_scope == 0) != (scope == 0) or (row_scope and row_scope > max(trace.scope[: self._prefix])):
            return -1
        return row if same_support(distribution, trace.distribution[row]) else -1

    def _proposed_row(self, address: int, distribution: Distribution, name: str, scope: int, repetition: int) -> int:
        """Return the row with the proposed value of a controlled entry; -1: none."""
        rows, row, trace = self._rows, self._next_row, self.trace
        if (scope and scope == self._handed_scope) or trace.diverged or trace.repeated:
            return -1
        assert rows is not None
        expected = rows.trace
        if (
            row == rows.size
            or repetition
            or (address, name, scope) != (expected.address[row], expected.name[row], expected.scope[row])
            or not expected.flags[row] & CONTROLLED
            or distribution != expected.distribution[row]
        ):
            trace.repeated, trace.diverged = bool(repetition), not repetition
            return -1
        self._next_row += 1
        if not math.isnan(rows.value[row]):
            return row
        if scope and len(trace) == self._scope_start:  # it is the first of its scope
            self._handed_scope = scope
        return -1

    def _asked(self, site: Site, answer: Ask) -> float | None:
        """Return the answer for an entry; None if it is to be drawn."""
        if self._rest_handed_over or (site.scope and site.scope == self._handed_scope):
            return None
        value, hand_over = answer(site)
        if hand_over is HandOver.REST:
            self._rest_handed_over = True
        elif hand_over is HandOver.SCOPE:
            self._handed_scope = site.scope
        return value

    def _misfit(self, stack: str, distribution: ArrayDistribution, name: str, value: np.ndarray) -> None:
        self.trace.observes.append(Observed(name, stack, distribution, value, math.nan))


def _recorded(rows: Rows, addresses: AddressTable) -> RecordedRows:
    """Return rows as those of a recorded trace; saved ones have no priors, so all of them have to be replayed."""
    if isinstance(rows, RecordedRows):
        return rows
    assert isinstance(rows, ReplayRows)
    keys = [rows.keys.key(number) for number in rows.entries["address"].tolist()]
    trace = RecordedTrace(addresses, [addresses.intern(join(base, instance)) for base, instance, _, _ in keys])
    return RecordedRows(trace, rows.values.tolist(), rows.details["log_prob"].tolist())
