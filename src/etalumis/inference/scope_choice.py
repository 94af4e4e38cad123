# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which rejection scopes a network proposes, and which ones the model draws with its own loop.

A network that proposes the first repetition of a scope has to be better than the prior by the factor 1/Z, since the
model's loop returns accepted values only (`inference.compilation`). A scope that seldom accepts is better left to the
loop, unless the network has learned it very well. The default, "auto", measures 1/Z in the context of the scope.

The choice depends on the context alone, that is, on the entries before the scope, and not on what is proposed in it;
the weights are therefore exact for any choice.
"""

import math
from typing import Literal

import numpy as np

from etalumis.inference.acceptance import Context, ContextDigests, InverseAcceptance
from etalumis.inference.runner import ModelRunner
from etalumis.trace import CONTROLLED, Trace

Scopes = Literal["auto", "first-shot", "prior"]
"""auto: chosen by context; first-shot: the network proposes all scopes; prior: the model's loops draw them."""

MAX_REPETITIONS = 8.0
"""Largest mean number 1/Z of repetitions of a scope that "auto" lets the network propose."""
_REPLAYS = 8
"""Number of replays from which 1/Z is estimated."""
_MAX_CONTEXTS = 1000
"""Number of contexts for which it is estimated. If a model has more, the network proposes the scopes of the others."""


class ScopeChoice:
    """The choice for each context.

    Parameters
    ----------
    runner, seed, stage
        As in `InverseAcceptance`; replays draw from (seed, "<stage>/scopes/contexts", digest of the context).
    scopes
        How to choose. With "auto", contexts that have a continuous entry before the scope do not repeat, and the
        network proposes the scope.
    drawn
        Whether the model draws the scope, by digest of the context, which this object updates: its state, if it has to
        be continued later.
    """

    def __init__(
        self, runner: ModelRunner, seed: int, stage: str, scopes: Scopes, drawn: dict[str, bool] | None = None
    ) -> None:
        self._scopes = scopes
        self._drawn = {} if drawn is None else drawn
        self._digests = ContextDigests(runner.addresses)
        self._inverse_acceptance = InverseAcceptance(runner, seed, f"{stage}/scopes", _REPLAYS, _REPLAYS)

    @property
    def replay_runs(self) -> int:
        """Number of replays so far."""
        return self._inverse_acceptance.replay_runs

    def is_drawn(self, context: Context | None) -> bool:
        """Return whether the model draws a scope; a context of None does not repeat."""
        if self._scopes == "auto":
            return context is not None and self._drawn.get(self._digests.of(context), False)
        return self._scopes == "prior"

    def learn(self, trace: Trace) -> bool:
        """Choose for the contexts of a trace that are new; return whether the model shall draw one of these."""
        if self._scopes != "auto":
            return False
        contexts, scope, found = ContextTracker(), 0, False
        flags, scopes = trace.flags, trace.scope
        address, value, distribution = trace.address, trace.value, trace.distribution
        for i in trace.accepted:
            opens = scopes[i] not in (0, scope)
            scope = scopes[i]
            if not flags[i] & CONTROLLED:
                if opens:  # the model draws this scope
                    contexts.end()
                continue
            if opens and (context := contexts.of_scope(address[i])) is not None:
                found = self._choose(context, trace, scope) or found
                if self.is_drawn(context):
                    contexts.end()
            contexts.add(address[i], value[i], distribution[i].discrete)
        return found

    def _choose(self, context: Context, trace: Trace, scope: int) -> bool:
        """Choose for a context; return whether it is new, and the model shall draw the scope."""
        digest = self._digests.of(context)
        if digest in self._drawn or len(self._drawn) >= _MAX_CONTEXTS:
            return False
        log_mean = self._inverse_acceptance.log_estimate(trace, scope, np.random.default_rng(0))
        self._drawn[digest] = log_mean > math.log(MAX_REPETITIONS)
        return self._drawn[digest]


class ContextTracker:
    """The controlled entries of a run so far, for as long as its contexts repeat."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, float]] | None = []

    def add(self, address: int, value: float, discrete: bool) -> None:
        """Add a controlled entry."""
        if self._entries is not None and discrete:
            self._entries.append((address, value))
        else:
            self.end()

    def end(self) -> None:
        """Note that the later contexts of this run do not repeat."""
        self._entries = None

    def of_scope(self, address: int) -> Context | None:
        """Return the context of a scope whose first entry has this address; None if it does not repeat."""
        return None if self._entries is None else (*self._entries, (address, 0.0))
