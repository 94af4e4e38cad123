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
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from etalumis.delegation import RunPlan
from etalumis.inference.entry_proposals import propose
from etalumis.inference.replays import check_complete_replay
from etalumis.inference.state import ChainState
from etalumis.trace import Trace
from etalumis.typing import Array

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

    def plan(self, state: ChainState, observed: Mapping[str, Array]) -> RunPlan:
        """Return the plan of the proposal run: replay up to the changed entry, then keep or redraw.

        If an open scope asks for another repetition, the proposal is lost: the move cannot propose such a trace, so its
        acceptance probability is 0.
        """
        if self.position == WHOLE_TRACE:
            return RunPlan(observed=observed, details=True)
        rows = state.rows if self.keep else state.rows.first(self.position + 1)
        return RunPlan(rows.with_value(self.position, self.value), self.position + 1, observed, details=True)

    def fits(self, trace: Trace) -> bool:
        """Return True, since every run reaches the changed entry; raise InferenceError if this one did not."""
        check_complete_replay(trace)
        return True

    def log_acceptance(self, state: ChainState, new: ChainState, settings: Settings, beta: float) -> float:
        """Return the log acceptance ratio of a proposal that was not lost and has a likelihood greater than zero.

        Let beta be the inverse temperature, K the kept entries, j the changed entry, k its kernel, and rho the
        probability of choosing j::

            log a =  beta [sum_n log p(y_n | x') - sum_n log p(y_n | x)]
                   + log [p(x'_j) k(x_j | x'_j)] - log [p(x_j) k(x'_j | x_j)]
                   + sum_{i in K} [log p'(x_i) - log p(x_i)]
                   + log rho(j | x') - log rho(j | x)

        Newly drawn entries of x' and discarded entries of x cancel against the target, and so do scopes that are
        redrawn as a whole. For moves that redraw a tail, rho = 1 / n with n candidates. A move that redraws everything
        has rho = 1.
        """
        log_ratio = beta * (new.log_likelihood - state.log_likelihood) + self.log_ratio
        if self.position == WHOLE_TRACE:
            return log_ratio
        log_ratio += new.trace.log_ratio
        if new.structure is state.structure:
            return log_ratio  # rho is the same
        if self.keep:
            share = settings.focus_share
            return log_ratio + new.log_choice(self.position, share) - state.log_choice(self.position, share)
        return log_ratio + math.log(len(state.candidates) / len(new.candidates))


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
