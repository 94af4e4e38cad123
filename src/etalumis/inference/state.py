# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""State of a Metropolis-Hastings chain: the accepted entries of a trace, and the choice of the entry to change."""

import math
from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np

from etalumis.delegation import AddressKeys, PlannedTrace, ReplayRows
from etalumis.distributions import Distribution
from etalumis.errors import InferenceError
from etalumis.inference.draws import Draw, draw_of
from etalumis.inference.entry_selection import EntrySelection
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
        self._known: dict[tuple[AddressKeys, bytes, bytes], TraceStructure] = {}

    def state(self, trace: Trace) -> "ChainState":
        """Return the chain state of a trace."""
        if not isinstance(trace, PlannedTrace):
            return ChainState(trace, self._of(trace))
        rows = trace.rows
        key = rows.structure
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._MAX_STRUCTURES:
                self._known.clear()
            found = self._known[key] = self._of(trace)
        return ChainState(trace, found, rows)

    def _of(self, trace: Trace) -> TraceStructure:
        accepted, name, scope, flags = trace.accepted, trace.name, trace.scope, trace.flags
        return TraceStructure(
            [name[i] for i in accepted],
            [scope[i] for i in accepted],
            [bool(flags[i] & CONTROLLED) for i in accepted],
            self._focus,
        )


class ChainState:
    """Accepted entries of a trace as columns, in trace order, without rejected repetitions.

    Never changed in place, so chains may share and exchange states. Lists are built on first use, since most proposals
    are rejected and do not need them.
    """

    def __init__(self, trace: Trace, structure: TraceStructure, rows: ReplayRows | None = None) -> None:
        self.trace, self.structure, self._rows = trace, structure, rows
        self.log_likelihood = trace.log_likelihood
        self.candidates, self.focused = structure.candidates, structure.focused

    def draw(self, selection: EntrySelection | None = None) -> Draw:
        """Return the values that a posterior keeps of the state, with the entries that `selection` selects."""
        structure = self.structure
        if self._rows is None:
            return draw_of(self.trace, selection=selection)
        if structure.trace_type is None:
            structure.trace_type = self.trace.type.hex()
        return draw_of(self.trace, structure.named, structure.trace_type, selection)

    @property
    def rows(self) -> ReplayRows:
        """The entries as rows to replay, for a model that carries out plans."""
        if self._rows is None:
            raise InferenceError("the trace of this state was recorded draw by draw and has no rows")
        return self._rows

    @cached_property
    def _accepted(self) -> list[int]:
        return self.trace.accepted

    @cached_property
    def address(self) -> list[int]:
        """Addresses, as integers."""
        address = self.trace.address
        return [address[i] for i in self._accepted]

    @cached_property
    def value(self) -> list[float]:
        """Values."""
        if self._rows is not None:
            values: list[float] = self._rows.entries["value"].tolist()
            return values
        value = self.trace.value
        return [value[i] for i in self._accepted]

    @cached_property
    def distribution(self) -> list[Distribution]:
        """Priors."""
        distribution = self.trace.distribution
        return [distribution[i] for i in self._accepted]

    @cached_property
    def log_prob(self) -> list[float]:
        """Log densities of the values under their priors."""
        if self._rows is not None:
            log_prob: list[float] = self._rows.details["log_prob"].tolist()
            return log_prob
        densities = self.trace.log_prob
        return [densities[i] for i in self._accepted]

    @cached_property
    def index(self) -> dict[int, int]:
        """Address -> position among the accepted entries."""
        return {address: position for position, address in enumerate(self.address)}

    def prior(self, position: int) -> Distribution:
        """Return the prior of one entry."""
        return self.entry(position)[0]

    def entry(self, position: int) -> tuple[Distribution, float, float]:
        """Return prior, value and log density of one entry, without building lists."""
        rows, trace = self._rows, self.trace
        if rows is None or not isinstance(trace, PlannedTrace):
            return self.distribution[position], self.value[position], self.log_prob[position]
        value, number, log_prob = rows.row(position)
        return trace.prior(number), value, log_prob

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
