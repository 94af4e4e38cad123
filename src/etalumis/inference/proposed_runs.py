# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs whose values a network proposes in advance, for many runs at a time.

The network must know which entry comes next. The model knows, but each question costs a message, and the network is
fastest with many runs at a time. Therefore the next entry is guessed from earlier traces (`ExpectedEntries`), and the
proposed values of a whole run are sent to the model at once. The model takes them for as long as the guesses are right.
If one is wrong, the run is repeated with better guesses, and in the end draw by draw.

A network may see tags (`TagReader`). A run then stops at the first entry whose proposal depends on them: the model
carries it out up to there, and returns its tags. The values go on from this entry, and the run is repeated with them.

This changes no result. Whether the guess for an entry is right depends on the values before it only, so discarding a
value that was proposed for a wrong guess does not select values. All values are functions of the seed of the run and of
the entries before them, so that a repeated run has the same values up to the entry that was guessed wrongly.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from etalumis.delegation import RunPlan
from etalumis.errors import InferenceError
from etalumis.inference.expected_entries import ExpectedEntries, ExpectedEntry, Node
from etalumis.inference.proposal_controller import (
    ProposalController,
    ProposalSource,
    repeated_scopes,
    require_finite,
)
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.scope_choice import ScopeChoice
from etalumis.trace import Trace
from etalumis.typing import Array

logger = logging.getLogger(__name__)

_MAX_GUESSES = 3
"""How often a run is repeated with a better guess before it is made draw by draw."""
_MAX_WASTE = 2.0
"""Guessing stops if more runs than this were wasted per completed run..."""
_FREE_WASTE = 4
"""...apart from this number per lane, for the first guesses."""


class ProposedRun(NamedTuple):
    """A completed run.

    Attributes
    ----------
    trace, log_weight
        The trace, and the sum over its proposed entries of log p(x_i) - log q(x_i); -inf if it is lost.
    lost
        Whether a proposed scope asked for a second repetition.
    proposed_scopes
        Numbers of the proposed scopes, in order.
    asked, unknown
        Number of entries that the network was asked for, and of those whose address it does not know.
    rng
        The random generator of the run, after its draws.
    """

    trace: Trace
    log_weight: float
    lost: bool
    proposed_scopes: list[int]
    asked: int
    unknown: int
    rng: np.random.Generator


class _Lane:
    """One run in progress."""

    def __init__(self, index: int, number: int) -> None:
        self.index, self.number, self.guesses = index, number, 0
        self.tags: Array | None = None
        self.needs_tags = False  # stopped before an entry that depends on tags

    def begin(self, rng: np.random.Generator, expected: ExpectedEntries) -> None:
        """Start the run, or start it again."""
        self.rng, self.seed = rng, draw_seed(rng)
        self.node: Node | None = expected.root
        self.keys = expected.keys
        self.entries: list[tuple[float, int, int]] = []
        self.scopes: list[int] = []
        self.counts: list[tuple[int, int]] = []  # (asked, unknown) up to each entry
        self.proposed_scopes: list[int] = []
        self.log_weight = 0.0
        self.asked = self.unknown = 0
        self.needs_tags = False

    def take(self, entry: ExpectedEntry, value: float | None) -> None:
        """Add a value; None leaves the scope that the entry opens to the model."""
        assert self.node is not None
        self.entries.append((np.nan if value is None else value, entry.number, entry.prior_number))
        self.scopes.append(entry.scope)
        self.counts.append((self.asked, self.unknown))
        self.node = self.node.after(value)


class ProposedRuns:
    """Make runs with the values that a session proposes.

    Parameters
    ----------
    runner
        What runs the model, which must take proposals.
    session
        Source of the proposed values; as many runs are in progress as it has lanes.
    make_rng
        Run number -> a new random generator of this run.
    begin
        Called with the numbers of the first and the last of the next runs, for messages.
    choice
        Which rejection scopes the session proposes.
    """

    def __init__(
        self,
        runner: ModelRunner,
        session: ProposalSource,
        make_rng: Callable[[int], np.random.Generator],
        begin: Callable[[int, int], None],
        choice: ScopeChoice,
    ) -> None:
        self._runner, self._session = runner, session
        self._make_rng, self._begin, self._choice = make_rng, begin, choice
        self._expected = ExpectedEntries()
        self._wasted = self._completed = 0
        self._guesses = True

    def runs(self, indices: range) -> Iterator[ProposedRun]:
        """Yield the run of each index, in order."""
        todo, free = iter(indices), list(range(self._session.lanes))
        lanes: list[_Lane] = []
        done: dict[int, ProposedRun] = {}
        for index in indices:
            while index not in done:
                while free and (new := next(todo, None)) is not None:
                    lanes.append(_Lane(new, free.pop()))
                lanes = self._round(lanes, done, free)
            yield done.pop(index)

    def _round(self, lanes: list[_Lane], done: dict[int, ProposedRun], free: list[int]) -> list[_Lane]:
        """Let the model run each lane once; return the lanes that have to be repeated."""
        guessed: list[_Lane] = []
        asked = False
        for lane in lanes:
            if self._guesses and lane.guesses < _MAX_GUESSES:
                guessed.append(lane)
            else:  # before the others begin: these runs use lane 0 of the session, too
                asked = True
                self._finish(lane, self._draw_by_draw(lane.index), done, free)
        if not guessed:
            return []
        for lane in guessed:
            if lane.needs_tags and lane.keys is self._expected.keys and not (lane.number == 0 and asked):
                lane.needs_tags = False
            else:
                lane.begin(self._make_rng(lane.index), self._expected)
                self._session.begin(lane.number)
            if lane.tags is not None:
                self._session.see(lane.tags, lane.number)
        self._propose(guessed)
        keys = self._expected.keys
        self._begin(min(lane.index for lane in guessed), max(lane.index for lane in guessed))
        traces = self._runner.carry_out_each([(self._plan(lane), lane.seed) for lane in guessed])
        again = []
        if traces is None:  # the model failed, perhaps after a wrong guess, in a run that is not needed
            for lane in guessed:
                lane.guesses = _MAX_GUESSES
            return guessed
        for lane, trace in zip(guessed, traces, strict=True):
            not_sent = bool(lane.entries) and trace.keys is not keys
            if lane.needs_tags and not not_sent:
                lane.tags = self._session.visible_tags(trace.tags)
                again.append(lane)
            elif trace.diverged or not_sent:  # its rows were wrong
                self._wasted += bool(lane.entries)
                lane.guesses += 1
                lane.tags, lane.needs_tags = None, False
                self._learn(trace)
                again.append(lane)
            elif not trace.repeated and not self._had_tags(trace, lane.tags):
                lane.guesses = _MAX_GUESSES  # the run that asks for each value says what is wrong
                again.append(lane)
            else:
                self._runner.check(trace)
                self._finish(lane, self._complete(lane, trace), done, free)
        if self._guesses and self._wasted > _MAX_WASTE * self._completed + _FREE_WASTE * self._session.lanes:
            self._guesses = False
            logger.info(
                "%s: its entries cannot be predicted (%d of %d predictions were wrong); it now asks for each value",
                self._runner.model.name, self._wasted, self._wasted + self._completed,
            )  # fmt: skip
        return again

    def _had_tags(self, trace: Trace, tags: Array | None) -> bool:
        """Return whether the run had the tags that the network saw."""
        return tags is None or np.array_equal(tags, self._session.visible_tags(trace.tags), equal_nan=True)

    def _finish(self, lane: _Lane, run: ProposedRun, done: dict[int, ProposedRun], free: list[int]) -> None:
        self._completed += 1
        done[lane.index] = run
        free.append(lane.number)

    def _propose(self, lanes: Sequence[_Lane]) -> None:
        """Propose the values of each run up to its end, or to the first entry that cannot be guessed."""
        while True:
            asking = [(lane, entry) for lane in lanes if (entry := self._next(lane)) is not None]
            if not asking:
                return
            proposals = self._session.propose_all(
                [lane.number for lane, _ in asking],
                [entry.address for _, entry in asking],
                [entry.prior for _, entry in asking],
                [lane.rng for lane, _ in asking],
            )
            for (lane, entry), proposal in zip(asking, proposals, strict=True):
                require_finite(proposal.value, proposal.log_q, entry.address)
                lane.log_weight += proposal.log_prior - proposal.log_q
                if entry.opens:
                    lane.proposed_scopes.append(entry.scope)
                lane.take(entry, proposal.value)

    def _next(self, lane: _Lane) -> ExpectedEntry | None:
        """Advance a lane to the next entry that the network proposes; return None if there is none."""
        while lane.node is not None and (entry := lane.node.entry) is not None:
            if entry.drawn:
                lane.take(entry, None)
                continue
            if lane.tags is None and self._session.needs_tags(entry.address):
                lane.needs_tags = True
                return None
            lane.asked += 1
            if self._session.knows(entry.address):
                return entry
            lane.unknown += 1
            lane.take(entry, None if entry.opens else entry.prior.sample(lane.rng))
        return None

    def _learn(self, trace: Trace) -> None:
        self._choice.learn(trace)
        self._expected.learn(trace, self._session.knows, self._choice.is_drawn)

    def _plan(self, lane: _Lane) -> RunPlan:
        keys = self._expected.keys
        rows = keys.proposed(lane.entries, lane.scopes) if lane.entries and keys is not None else None
        return RunPlan(rows=rows, observed=self._runner.observations.values, details=True, proposed=True)

    def _complete(self, lane: _Lane, trace: Trace) -> ProposedRun:
        asked, unknown, lost = lane.asked, lane.unknown, trace.repeated
        if lane.proposed_scopes:  # a repetition may have no controlled entry
            again = repeated_scopes(trace, lane.proposed_scopes)
            if lost and again:
                # the entries after this scope were not asked for
                last = max(i for i, scope in enumerate(lane.scopes) if scope == again[0])
                asked, unknown = lane.counts[last]
            lost = lost or bool(again)
        log_weight = -np.inf if lost else lane.log_weight
        return ProposedRun(trace, log_weight, lost, lane.proposed_scopes, asked, unknown, lane.rng)

    def _draw_by_draw(self, index: int) -> ProposedRun:
        self._begin(index, index)
        run = draw_by_draw(self._runner, self._session, lambda: self._make_rng(index), self._choice)
        if self._guesses:
            self._learn(run.trace)
        return run


def draw_by_draw(
    runner: ModelRunner, session: ProposalSource, make_rng: Callable[[], np.random.Generator], choice: ScopeChoice
) -> ProposedRun:
    """Make one run in which the model asks for every controlled value.

    It is repeated if it meets a scope that the model shall draw, or if a proposal depends on tags, as only the
    completed run shows.

    Raises
    ------
    InferenceError
        If the tags on which a proposal depends are not the same in both runs, because they depend on the draw.
    """
    tags: Array | None = None
    while True:
        rng = make_rng()
        controller = partial(ProposalController, session, runner.addresses, rng, runner.observations, choice, tags)
        trace, run = runner.assist(rng, controller)
        if choice.learn(trace):
            tags = None
            continue
        if run.blind:
            tags = session.visible_tags(trace.tags)
            continue
        if tags is not None and not run.lost:
            _require_same(runner.model.name, tags, session.visible_tags(trace.tags))
        return ProposedRun(trace, run.log_weight, run.lost, run.proposed_scopes, run.asked, run.unknown, rng)


def _require_same(model: str, tags: Array, found: Array) -> None:
    """Raise if a run did not have the tags that the network saw, which an earlier run with other values had."""
    if not np.array_equal(tags, found, equal_nan=True):
        raise InferenceError(
            f"{model}: the tags that the network sees (network.tags) were {tags.tolist()}, and {found.tolist()} after "
            "the draws that see them were proposed; expected tags that the model emits before these draws, outside "
            "rejection loops, and that depend on no draw that sees a tag. Train a network without these tags."
        )


def run_proposer(
    runner: ModelRunner,
    session: ProposalSource,
    make_rng: Callable[[int], np.random.Generator],
    begin: Callable[[int, int], None],
    choice: ScopeChoice,
) -> Callable[[range], Iterator[ProposedRun]]:
    """Return a function that yields the runs of a range in order; the parameters are those of `ProposedRuns`.

    Many runs are made at a time, if the model takes proposals and the session has several lanes.
    """
    if session.lanes > 1:
        if runner.planned.takes_proposals:
            return ProposedRuns(runner, session, make_rng, begin, choice).runs
        logger.info("%s asks for each value: one run in flight", runner.model.name)
    return lambda indices: (draw_by_draw(runner, session, partial(make_rng, index), choice) for index in indices)
