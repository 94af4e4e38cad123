# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Estimates of 1 / Z, where Z is the acceptance probability of a rejection scope in its context.

The number R of repetitions of an independent prior run of the scope, in the same context, is geometric with
E[R] = 1 / Z. The weight of a run stays exact if 1 / Z is replaced by any unbiased estimate that is independent of the
run given the context: the mean of R over some replays of this run, or over replays made once for all runs with an equal
context. The second has far less variance at less cost, since contexts such as the decay channel repeat.

A chain that compares its state with proposed runs needs an estimate for the state too, although the state was selected
by its weight. It is drawn again for each comparison, see `AuxiliaryInverseAcceptance`.

Contexts are equal if the controlled entries before the scope have the same addresses and values, and the scopes begin
at the same address; only discrete entries repeat. Uncontrolled entries before the scope are not compared: sharing
replays is exact only if they do not change Z.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalumis import seeds
from etalumis.address import AddressTable
from etalumis.inference.replays import repetition_plan, repetitions
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.trace import CONTROLLED, Trace

Context = tuple[tuple[int, float], ...]
"""Address and value of the controlled entries before a scope, and the address of its first entry, with value 0."""

_MIN_SHARED_REPLAYS = 32
"""Replays of the first scope with a context: with a single one, a rare context could get the weight of many runs."""
_MAX_CONTEXTS = 100_000
"""Bound on the contexts that share replays: they are kept in memory and in checkpoints."""


class _Replays:
    """Replays of scopes, and the contexts of these."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self.replay_runs = 0

    def _repetitions(self, trace: Trace, scope: int, rng: np.random.Generator, count: int) -> int:
        """Return the total number of repetitions of a scope in `count` replays."""
        self.replay_runs += count
        plan, origins = repetition_plan(trace, scope), [draw_seed(rng) for _ in range(count)]
        return sum(repetitions(found, plan) for found in self._runner.repeat(plan, origins))

    def _context(self, trace: Trace, scope: int) -> Context | None:
        """Return addresses and values of the controlled entries before a scope; None if one is continuous."""
        scopes, flags = trace.scope, trace.flags
        address, value, distribution = trace.address, trace.value, trace.distribution
        found = []
        for i in trace.accepted:
            if scopes[i] == scope:
                found.append((address[i], 0.0))
                break
            if flags[i] & CONTROLLED:
                if not distribution[i].discrete:
                    return None
                found.append((address[i], value[i]))
        return tuple(found)


class InverseAcceptance(_Replays):
    """Estimates 1 / Z of the rejection scopes of traces.

    Parameters
    ----------
    runner
        What runs the model.
    seed, stage
        Shared replays draw from (seed, "<stage>/contexts", digest of the context).
    replays
        Number of replays of each scope of each run whose context is not shared.
    shared_replays
        Maximum number of replays for a context that has discrete controlled entries only; 0 shares none. The k-th scope
        with this context uses the first 2^ceil(log2 k) of them, but at least `replays` and 32, so that rare contexts
        with long loops cost little. Only the first 100,000 contexts share replays.
    uses
        Number of scopes per context so far, which this object updates: its state, if it has to be continued later.

    Attributes
    ----------
    replay_runs
        Number of replays so far.
    """

    def __init__(
        self,
        runner: ModelRunner,
        seed: int,
        stage: str,
        replays: int,
        shared_replays: int,
        uses: dict[str, int] | None = None,
    ) -> None:
        super().__init__(runner)
        self._seed, self._stage = seed, f"{stage}/contexts"
        self._replays, self._shared_replays = replays, shared_replays
        self._uses = {} if uses is None else uses
        self._shared: dict[str, _SharedReplays] = {}
        self._digests = ContextDigests(runner.addresses)

    def log_estimate(self, trace: Trace, scope: int, rng: np.random.Generator) -> float:
        """Return the log of an unbiased estimate of 1 / Z of a scope; replays of this run alone draw from `rng`."""
        context = self._context(trace, scope) if self._shared_replays else None
        if context is None:
            return math.log(self._repetitions(trace, scope, rng, self._replays) / self._replays)
        digest = self._digests.of(context)
        if digest not in self._uses and len(self._uses) >= _MAX_CONTEXTS:
            return math.log(self._repetitions(trace, scope, rng, self._replays) / self._replays)
        uses = self._uses[digest] = self._uses.get(digest, 0) + 1
        shared = self._shared.get(digest)
        if shared is None:
            shared = self._shared[digest] = _SharedReplays(seeds.generator(self._seed, self._stage, int(digest, 16)))
        wanted = max(self._replays, _MIN_SHARED_REPLAYS, 1 << (uses - 1).bit_length())
        missing = min(self._shared_replays, wanted) - shared.count
        if missing > 0:
            shared.repetitions += self._repetitions(trace, scope, shared.rng, missing)
            shared.count += missing
        return math.log(shared.repetitions / shared.count)


class AuxiliaryInverseAcceptance(_Replays):
    """Estimates of 1 / Z as auxiliary variables of a chain, for one comparison of its state with proposed runs.

    Extend the target by an independent mean R_c of m numbers of repetitions for every context c. Given a state x, the
    R_c of its own contexts then have the density R_c Z_c g(R_c), and all others g(R_c), which is that of m replays:
    `state` and `proposed` draw from these. Given all R_c, the target is proportional to the product of the R_c of x, in
    place of its 1 / Z_c (pseudo-marginal: Andrieu and Roberts 2009). The first density is that of a sum with one more
    replay, less 1: the number of repetitions n is geometric, and n Z (1 - Z)^(n - 1) Z is the distribution of the sum
    of two of them, less 1.

    Parameters
    ----------
    runner
        What runs the model.
    rng
        Random generator of the replays.
    replays, shared_replays
        Number of replays m of each scope whose context is not shared, and of each context that has discrete controlled
        entries only; with 0 shared replays, none is shared. Sharing is exact only if uncontrolled entries before the
        scope do not change Z.
    """

    def __init__(self, runner: ModelRunner, rng: np.random.Generator, replays: int, shared_replays: int) -> None:
        super().__init__(runner)
        self._rng, self._replays, self._shared_replays = rng, replays, shared_replays
        self._shared: dict[Context, float] = {}

    def state(self, trace: Trace, scopes: Sequence[int]) -> float:
        """Return the log of the product of R_c over scopes of the state; to call first, and once."""
        return sum(self._log_mean(trace, scope, 1) for scope in scopes)

    def proposed(self, trace: Trace, scopes: Sequence[int]) -> float:
        """Return the log of the product of R_c over scopes of a proposed run."""
        return sum(self._log_mean(trace, scope, 0) for scope in scopes)

    def _log_mean(self, trace: Trace, scope: int, more: int) -> float:
        context = self._context(trace, scope) if self._shared_replays else None
        if context is not None and context in self._shared:
            return self._shared[context]
        count = self._replays if context is None else self._shared_replays
        found = math.log((self._repetitions(trace, scope, self._rng, count + more) - more) / count)
        if context is not None:
            self._shared[context] = found
        return found


class ContextDigests:
    """Names contexts independently of the numbers that a process gave to addresses.

    Parameters
    ----------
    addresses
        Table of the addresses.
    """

    def __init__(self, addresses: AddressTable) -> None:
        self._addresses = addresses
        self._known: dict[Context, str] = {}

    def of(self, context: Context) -> str:
        """Return the digest of a context, hexadecimal."""
        found = self._known.get(context)
        if found is None:
            text = repr([(self._addresses.name(address), value) for address, value in context])
            found = hashlib.blake2b(text.encode(), digest_size=7).hexdigest()
            if len(self._known) < _MAX_CONTEXTS:
                self._known[context] = found
        return found


@dataclass
class _SharedReplays:
    """Replays of one context: their random generator, their number, and the sum of their repetitions."""

    rng: np.random.Generator
    count: int = 0
    repetitions: int = 0
