# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The controlled entries that a posterior keeps of each trace, selected by patterns of their addresses."""

from collections.abc import Hashable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, Self

import numpy as np

from etalumis.address import split
from etalumis.trace import CONTROLLED, Trace
from etalumis.typing import Array, FloatArray

ALL = "all"
"""The pattern that selects every controlled entry."""


class EntryAddress(NamedTuple):
    """An address, and what it stands for.

    Attributes
    ----------
    address
        `<stack>__<suffix>__<instance>`.
    name
        Name of the sample statement; "" if it has none.
    kind
        Kind of the prior ("Uniform", "Categorical", ...).
    """

    address: str
    name: str
    kind: str

    @property
    def stack(self) -> str:
        """Call stack of the sample statement: for Python models, functions with the positions in their source."""
        return split(self.address)[0].rpartition("__")[0]

    @property
    def instance(self) -> int:
        """Which execution of the sample statement in the trace, from 1."""
        return split(self.address)[1]


class EntryLayout(NamedTuple):
    """The addresses of the kept entries of a trace, in trace order, and the patterns that selected them."""

    addresses: tuple[EntryAddress, ...]
    patterns: tuple[str, ...]


class DrawEntries(NamedTuple):
    """The entries kept of one trace: their layout, and float64 (entry,) their values."""

    layout: EntryLayout
    value: FloatArray


class _Selected(NamedTuple):
    """What is kept of traces with the same addresses: positions of the entries, and their layout."""

    positions: Array
    layout: EntryLayout


def matches(entry: EntryAddress, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches the address or the name, as in `fnmatch`, or is `all` or the address itself."""
    return any(
        pattern in (ALL, entry.address)
        or fnmatchcase(entry.address, pattern)
        or bool(entry.name and fnmatchcase(entry.name, pattern))
        for pattern in patterns
    )


def unmatched(addresses: Iterable[EntryAddress], patterns: Iterable[str]) -> list[str]:
    """Return the patterns that match none of the addresses."""
    known = list(addresses)
    return [pattern for pattern in patterns if not any(matches(entry, [pattern]) for entry in known)]


class EntrySelection:
    """Selects the controlled entries of traces whose address or name matches a pattern.

    Traces with the same addresses are matched once.

    Parameters
    ----------
    patterns
        Patterns as in `fnmatch`, with case; `all` selects every controlled entry.
    """

    _MAX_CACHED = 4096

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._known: dict[Hashable, _Selected] = {}

    @classmethod
    def of(cls, patterns: Sequence[str]) -> Self | None:
        """Return the selection of `patterns`; None if there are none."""
        return cls(patterns) if patterns else None

    def entries(self, trace: Trace) -> DrawEntries:
        """Return the selected entries of a trace; of entries in rejection scopes, the accepted ones."""
        rows = trace.rows
        found = self._known.get(rows.structure)
        if found is None:
            found = self._select(trace, rows.structure)
        return DrawEntries(found.layout, rows.values[found.positions])

    def _select(self, trace: Trace, structure: Hashable) -> _Selected:
        if len(self._known) >= self._MAX_CACHED:
            self._known.clear()
        text, name, prior, flags = trace.addresses.name, trace.name, trace.distribution, trace.flags
        kept = [
            (position, entry)
            for position, address in enumerate(trace.address)
            if flags[position] & CONTROLLED
            and matches(entry := EntryAddress(text(address), name[position], prior[position].kind), self.patterns)
        ]
        positions = np.array([position for position, _ in kept], dtype=np.intp)
        found = _Selected(positions, EntryLayout(tuple(entry for _, entry in kept), self.patterns))
        self._known[structure] = found
        return found
