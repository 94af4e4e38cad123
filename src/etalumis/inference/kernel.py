# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The collapsed Metropolis-Hastings kernel: one step over the accepted entries of a trace.

The target over the accepted entries x, with E the entries outside rejection scopes and S the scopes, is proportional to

    pi(x)  ∝  prod_{i in E} p(x_i | past)  prod_{s in S} p(x_s | c_s) 1{x_s accepted} / Z(c_s)  prod_n p(y_n | x)

where Z(c_s) is the acceptance probability of the loop in its context c_s, which is everything drawn before it. No step
needs Z. Either the entries of a scope change while its context stays the same, and so does Z; or the model's own loop
redraws the whole scope, and its density p(x_s | c_s) / Z(c_s) cancels against the target. See
docs/explain-collapsed-rmh.md for the derivation and Section 4.2 of the paper for RMH without scopes. A tempered replica
raises the likelihood to a power beta <= 1. The C++ front end has the same kernel (src/cpp/src/chain.cpp): change both.
"""

import math
from typing import NamedTuple

import numpy as np

from etalumis.delegation import PlannedTrace, RunPlan
from etalumis.execution import Site
from etalumis.inference.controllers import PriorController, check_complete_replay, check_replayed
from etalumis.inference.entry_proposals import propose, same_support
from etalumis.inference.observations import Observations
from etalumis.inference.state import ChainState
from etalumis.trace import Trace

WHOLE_TRACE = -1
"""Position of a move that redraws all entries from the prior."""


class Settings(NamedTuple):
    """How moves are chosen. This does not depend on the state, so it does not enter the acceptance ratio.

    Attributes
    ----------
    focus_share
        Fraction of the single-entry moves that choose among the focused (named) entries.
    fresh_share
        Fraction of the single-entry moves that draw the entry from its prior.
    tail_share
        Fraction of the moves that redraw an entry and everything after it from the prior.
    redraw_share
        Fraction of the moves that redraw the whole trace from the prior. No other move changes the uncontrolled entries
        before the first controlled one.
    """

    focus_share: float = 0.2
    fresh_share: float = 0.3
    tail_share: float = 0.05
    redraw_share: float = 0.02


class Move(NamedTuple):
    """A proposed change: entry `position` gets `value`; with `keep`, later entries keep their values if possible.

    `log_ratio` is log [p(x') k(x | x')] - log [p(x) k(x' | x)] of the changed entry alone.
    """

    position: int
    value: float
    log_ratio: float
    keep: bool


def choose_move(state: ChainState, rng: np.random.Generator, settings: Settings) -> Move | None:
    """Choose the entry to change and its new value; return None if the trace has no controlled entry."""
    kind = rng.random()
    if kind < settings.redraw_share:
        return Move(WHOLE_TRACE, 0.0, 0.0, keep=False)
    if not state.candidates:
        return None
    if kind < settings.redraw_share + settings.tail_share:
        position = state.candidates[int(rng.random() * len(state.candidates))]
        return Move(position, state.prior(position).sample(rng), 0.0, keep=False)
    position = state.choose(rng, settings.focus_share)
    value, log_ratio = propose(rng, *state.entry(position), settings.fresh_share)
    return Move(position, value, log_ratio, keep=True)


class MoveController(PriorController):
    """Controller of a proposal run: replay up to the changed entry, then keep or redraw.

    Call a scope open if it began at or before the changed entry j. After j:

    - Outside scopes, or in an open one, a controlled entry keeps its value if the old trace has an entry of the same
      address after j, in the same situation, with the same kind of distribution and support. All others are drawn from
      their priors.
    - In a scope that begins after j, the model's loop draws the entries.
    - If an open scope asks for another repetition, the proposal is `lost`: the move cannot propose such a trace, so its
      acceptance probability is 0, and the run is finished from the prior.
    """

    def __init__(self, state: ChainState, move: Move, rng: np.random.Generator, observations: Observations) -> None:
        super().__init__(rng, observations, details=True)
        self._state, self._move = state, move
        self._length = max(move.position, 0)  # 0 for WHOLE_TRACE
        self._open_in_old = state.scopes_begun[move.position] if move.position != WHOLE_TRACE else 0
        self._open_in_new = 0
        self._planned = False
        self._kept: list[tuple[int, int]] = []  # (position in the new record, position in the old state)
        self.lost = False

    def sample(self, site: Site) -> float:
        """Return the replayed, changed, kept or newly drawn value."""
        position, state = site.position, self._state
        if position >= self._length:
            return self.continued(site)
        self._open_in_new = max(self._open_in_new, site.scope)
        check_replayed(site, state.address[position], state.distribution[position])
        return state.value[position]

    def continued(self, site: Site) -> float:
        """Return the value of the changed entry or of a later one."""
        if self.lost:
            return site.distribution.sample(self.rng)
        move, state = self._move, self._state
        if site.position == move.position:
            check_replayed(site, state.address[move.position], state.distribution[move.position])
            self._open_in_new = max(self._open_in_new, site.scope)
            return move.value
        is_open = 0 < site.scope <= self._open_in_new
        if is_open and site.repetition:
            self.lost = True
        elif move.keep and site.control and (is_open or site.scope == 0):
            old = state.index.get(site.address)
            if old is not None and self._may_keep(site, old, is_open):
                self._kept.append((site.position, old))
                return state.value[old]
        return site.distribution.sample(self.rng)

    def kept_log_ratio(self, trace: Trace) -> float:
        """Return sum [log p'(x_i) - log p(x_i)] over the entries that kept their values."""
        if not self._planned:
            return sum(trace.log_prob[now] - self._state.log_prob[old] for now, old in self._kept)
        assert isinstance(trace, PlannedTrace)
        return trace.log_ratio

    def plan(self) -> RunPlan:
        """Return the plan of the proposal run."""
        move = self._move
        if move.position == WHOLE_TRACE:
            return super().plan()
        self._planned = True
        rows = self._state.rows
        if not move.keep:
            rows = rows.first(move.position + 1)
        rows = rows.with_value(move.position, move.value)
        return RunPlan(rows, move.position + 1, self._observed, details=True)

    def receive(self, trace: PlannedTrace) -> None:
        """Note whether the proposal was lost, and check the replay."""
        self.lost = trace.lost
        check_complete_replay(trace)

    def _may_keep(self, site: Site, old: int, is_open: bool) -> bool:
        # Symmetric in the old and the new entry: the reverse move keeps exactly the same entries.
        state = self._state
        scope = state.scope[old]
        return (
            old > self._move.position
            and state.control[old]
            and (0 < scope <= self._open_in_old if is_open else scope == 0)
            and same_support(site.distribution, state.distribution[old])
        )


def log_acceptance(
    state: ChainState,
    move: Move,
    controller: MoveController,
    trace: Trace,
    new: ChainState,
    settings: Settings,
    beta: float = 1.0,
) -> float:
    """Return the log acceptance ratio of a proposal that was not lost and has a likelihood greater than zero.

    Let beta be the inverse temperature, K the kept entries, j the changed entry, k its kernel, and rho the probability
    of choosing j::

        log a =  beta [sum_n log p(y_n | x') - sum_n log p(y_n | x)]
               + log [p(x'_j) k(x_j | x'_j)] - log [p(x_j) k(x'_j | x_j)]
               + sum_{i in K} [log p'(x_i) - log p(x_i)]
               + log rho(j | x') - log rho(j | x)

    Newly drawn entries of x' and discarded entries of x cancel against the target, and so do scopes that are redrawn as
    a whole. For moves that redraw a tail, rho = 1 / n with n candidates. A move that redraws everything has rho = 1.
    """
    log_ratio = beta * (new.log_likelihood - state.log_likelihood) + move.log_ratio
    if move.position == WHOLE_TRACE:
        return log_ratio
    log_ratio += controller.kept_log_ratio(trace)
    if new.structure is state.structure:
        return log_ratio  # rho is the same
    if move.keep:
        share = settings.focus_share
        return log_ratio + new.log_choice(move.position, share) - state.log_choice(move.position, share)
    return log_ratio + math.log(len(state.candidates) / len(new.candidates))
