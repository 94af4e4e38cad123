# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which controlled entry a run will ask for next, given the values so far: learnt from earlier traces.

A guess: the model checks it when it carries out the run. A wrong guess costs a run, but never changes a result.
"""

from collections.abc import Callable
from typing import NamedTuple

from etalumis.distributions import Distribution
from etalumis.inference.acceptance import Context
from etalumis.inference.scope_choice import ContextTracker
from etalumis.rows import Numbering
from etalumis.trace import CONTROLLED, Trace

_MAX_NODES = 200_000
"""Number of entries after which the tree is built from the beginning; traces of some models never repeat."""


class ExpectedEntry(NamedTuple):
    """A controlled entry. `number` and `prior_number` are the numbers of address and prior in the trace's keys.

    `opens` says whether it is the first entry of its rejection scope, and `drawn` whether the model then draws the
    scope although the network might know the address.
    """

    number: int
    prior_number: int
    scope: int
    opens: bool
    address: str
    prior: Distribution
    drawn: bool


class Node:
    """A point in a run: after the same addresses and the same values of discrete entries.

    Attributes
    ----------
    entry
        The entry expected next; None if it is unknown, or if none is expected.
    """

    __slots__ = ("_after", "entry")

    def __init__(self) -> None:
        self.entry: ExpectedEntry | None = None
        self._after: dict[float, Node] = {}

    def after(self, value: float | None) -> "Node | None":
        """Return the point after the expected entry with a value; None stands for a scope that the model draws."""
        assert self.entry is not None
        return self._after.get(_branch(self.entry, value))

    def expect(self, entry: ExpectedEntry | None) -> None:
        """Expect an entry, or the end of the run, from now on."""
        if entry != self.entry:
            self._after = {}
        self.entry = entry

    def grow(self, value: float | None) -> "tuple[Node, bool]":
        """Return the point after the expected entry with a value, and whether it is new."""
        assert self.entry is not None
        key = _branch(self.entry, value)
        known = self._after.get(key)
        if known is None:
            known = self._after[key] = Node()
            return known, True
        return known, False


def _branch(entry: ExpectedEntry, value: float | None) -> float:
    return value if value is not None and entry.prior.discrete else 0.0


class ExpectedEntries:
    """The tree of points that earlier traces went through.

    Attributes
    ----------
    root
        The beginning of a run.
    keys
        What maps the numbers of its entries; None before the first trace.
    """

    def __init__(self) -> None:
        self.root = Node()
        self.keys: Numbering | None = None
        self._nodes = 0

    def learn(self, trace: Trace, knows: Callable[[str], bool], is_drawn: Callable[[Context | None], bool]) -> None:
        """Expect the controlled entries of a trace in runs with the same discrete values.

        `knows` says whether the network knows an address, and `is_drawn` whether the model draws the scope with a
        context. The entries of a scope that the model draws are no points.
        """
        if trace.keys is not self.keys or self._nodes > _MAX_NODES:
            self.root, self.keys, self._nodes = Node(), trace.keys, 0
        node, scope, scope_drawn, contexts = self.root, 0, False, ContextTracker()
        addresses, flags, values, priors = trace.address, trace.flags, trace.value, trace.distribution
        # a scope is drawn by the model if its first draw is not controlled
        for position, ((number, prior_number), in_scope) in enumerate(
            zip(trace.accepted_numbers, trace.scope, strict=True)
        ):
            opens = in_scope != scope and in_scope != 0
            controlled = bool(flags[position] & CONTROLLED)
            if in_scope != scope:
                scope, scope_drawn = in_scope, opens and not controlled
                if scope_drawn:
                    contexts.end()
            if not controlled or scope_drawn:
                continue
            address, prior = trace.addresses.name(addresses[position]), priors[position]
            drawn = opens and is_drawn(contexts.of_scope(addresses[position]))
            entry = ExpectedEntry(number, prior_number, in_scope, opens, address, prior, drawn)
            node.expect(entry)
            scope_drawn = opens and (drawn or not knows(address))
            if scope_drawn:
                contexts.end()
            else:
                contexts.add(addresses[position], values[position], prior.discrete)
            node, new = node.grow(None if scope_drawn else values[position])
            self._nodes += new
            if self._nodes > _MAX_NODES:
                return
        node.expect(None)
