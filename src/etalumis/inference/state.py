# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""State of a Metropolis-Hastings chain: the accepted entries of a trace, and the choice of the entry to change."""

import math
from collections.abc import Collection, Hashable, Sequence
from functools import cached_property

import numpy as np

from etalumis.distributions import Distribution
from etalumis.inference.draws import Draw, draw_of
from etalumis.inference.entry_selection import EntrySelection
from etalumis.rows import Rows
from etalumis.trace import CONTROLLED, Trace


class TraceStructure:
    """What the states with the same addresses and scopes have in common: everything except values and priors.

    Attributes
    ----------
    name, scope, control
        Of each accepted entry: name, scope number, and whether it is controlled.
    scopes_begun
        Largest scope number up to and including each entry: scopes with numbers up to it have begun.
    candidates
        Positions that a step may choose, in ascending order.
    focused
        Candidates that are focused.
    named
        (position, name) of the entries with a name.
    names
        Name -> position of its first entry.
    """

    def __init__(
        self, name: Sequence[str], scope: Sequence[int], control: Sequence[bool], focus: Collection[str] | None
    ) -> None:
        self.name, self.scope, self.control = name, scope, control
        self.named = [(i, text) for i, text in enumerate(name) if text]
        self.names = {text: i for i, text in reversed(self.named)}
        self.scopes_begun = _running_maximum(scope)
        self.candidates = [i for i, controlled in enumerate(control) if controlled]
        self.focused = [i for i in self.candidates if name[i] and (focus is None or name[i] in focus)]
        self.focused_set = frozenset(self.focused)
        self.trace_type: str | None = None
        self.key: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self.labels: dict[int, str] = {}
        """Kind of move by position, for the acceptance table; an address always has the same kind of prior."""


class StructureCache:
    """Builds states, and shares the `TraceStructure` between them."""

    _MAX_STRUCTURES = 4096

    def __init__(self, focus: Collection[str] | None) -> None:
        self._focus = focus
        self._known: dict[Hashable, TraceStructure] = {}

    def state(self, trace: Trace) -> "ChainState":
        """Return the chain state of a trace, whose plan has `details` and no `rejected` repetitions."""
        rows = trace.rows
        key = rows.structure
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._MAX_STRUCTURES:
                self._known.clear()
            controlled = [bool(flags & CONTROLLED) for flags in trace.flags]
            found = self._known[key] = TraceStructure(trace.name, trace.scope, controlled, self._focus)
        return ChainState(trace, found, rows)


class ChainState:
    """Accepted entries of a trace as columns, in trace order.

    Never changed in place, so chains may share and exchange states. Lists are built on first use, since most proposals
    are rejected and do not need them.
    """

    def __init__(self, trace: Trace, structure: TraceStructure, rows: Rows) -> None:
        self.trace, self.structure, self.rows = trace, structure, rows
        self.log_likelihood = trace.log_likelihood
        self.candidates, self.focused = structure.candidates, structure.focused

    def draw(self, selection: EntrySelection | None = None) -> Draw:
        """Return the values that a posterior keeps of the state, with the entries that `selection` selects."""
        structure = self.structure
        if structure.trace_type is None:
            structure.trace_type = self.trace.type.hex()
        return draw_of(self.trace, structure.named, structure.trace_type, selection)

    @cached_property
    def address(self) -> Sequence[int]:
        """Addresses, as integers."""
        return self.trace.address

    @cached_property
    def value(self) -> Sequence[float]:
        """Values."""
        return self.trace.value

    @cached_property
    def distribution(self) -> Sequence[Distribution]:
        """Priors."""
        return self.trace.distribution

    @cached_property
    def log_prob(self) -> Sequence[float]:
        """Log densities of the values under their priors."""
        return self.trace.log_prob

    def prior(self, position: int) -> Distribution:
        """Return the prior of one entry."""
        return self.entry(position)[0]

    def entry(self, position: int) -> tuple[Distribution, float, float]:
        """Return prior, value and log density of one entry, without building lists."""
        value, number, log_prob = self.rows.row(position)
        return self.trace.prior(number), value, log_prob

    @property
    def scope(self) -> Sequence[int]:
        """Scope numbers."""
        return self.structure.scope

    @property
    def scopes_begun(self) -> Sequence[int]:
        """Largest scope number up to and including each entry."""
        return self.structure.scopes_begun

    @property
    def control(self) -> Sequence[bool]:
        """Whether each entry is controlled."""
        return self.structure.control

    @property
    def name(self) -> Sequence[str]:
        """Names."""
        return self.structure.name

    def choose(self, rng: np.random.Generator, focus_share: float) -> int:
        """Choose a candidate: with probability `focus_share` a focused one, else any."""
        choices = self.focused if self.focused and rng.random() < focus_share else self.candidates
        return choices[int(rng.random() * len(choices))]

    def log_choice(self, position: int, focus_share: float) -> float:
        """Return the log probability that `choose` returns `position`.

        rho(j | x) = (1 - f) / n + f 1{j focused} / m, with n candidates and m > 0 focused ones; 1 / n if m = 0.
        """
        if not self.focused:
            return -math.log(len(self.candidates))
        probability = (1.0 - focus_share) / len(self.candidates)
        if position in self.structure.focused_set:
            probability += focus_share / len(self.focused)
        return math.log(probability)


def _running_maximum(scopes: Sequence[int]) -> list[int]:
    found, largest = [], 0
    for scope in scopes:
        largest = max(largest, scope)
        found.append(largest)
    return found
