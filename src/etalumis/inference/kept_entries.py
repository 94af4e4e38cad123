# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The latent state of the draws of a posterior: controlled entries by address, in ragged columns."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from etalumis.inference.entry_selection import DrawEntries, EntryAddress, matches
from etalumis.typing import Array, FloatArray


@dataclass
class KeptEntries:
    """Values of the kept entries of all draws.

    Draws of different trace types have different addresses, so there is no array (draw, address). Each draw refers to a
    layout, the list of its addresses, which all draws with the same addresses share, and to its values, which the
    repeated states of a Markov chain share. The entries of draw i are::

        address = layout_address[layout_offset[layout[i]] : layout_offset[layout[i] + 1]]  # indices in `addresses`
        value[start[i] : start[i] + len(address)]

    Attributes
    ----------
    patterns
        The patterns that selected the entries (config key `posteriors.entries`).
    addresses
        The addresses.
    layout_offset, layout_address
        Integers (layout + 1,) and (.,): the addresses of each layout.
    layout
        Integers (draw,): number of each draw's layout.
    start
        Integers (draw,): index of each draw's first value.
    value
        float64 (.,): the values.
    """

    patterns: tuple[str, ...]
    addresses: list[EntryAddress]
    layout_offset: Array
    layout_address: Array
    layout: Array
    start: Array
    value: FloatArray

    def __len__(self) -> int:
        return len(self.layout)

    @classmethod
    def from_draws(cls, draws: Sequence[DrawEntries]) -> Self:
        """Return the entries of `draws`, of which there is at least one."""
        table, layouts = _AddressTable(), _LayoutTable()
        layout_of: dict[int, int] = {}
        start_of: dict[int, int] = {}
        numbers, starts, values, end = [], [], [], 0
        for layout, value in draws:
            number = layout_of.get(id(layout))
            if number is None:
                number = layout_of[id(layout)] = layouts.number(tuple(map(table.number, layout.addresses)))
            start = start_of.get(id(value))
            if start is None:
                start = start_of[id(value)] = end
                values.append(value)
                end += len(value)
            numbers.append(number)
            starts.append(start)
        return cls(
            draws[0].layout.patterns, table.addresses, *layouts.columns(),
            np.array(numbers, dtype=np.int64), np.array(starts, dtype=np.int64), np.concatenate(values),
        )  # fmt: skip

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the entries of several sets of draws, which were selected by the same patterns."""
        table, layouts = _AddressTable(), _LayoutTable()
        numbers, starts, end = [], [], 0
        for part in parts:
            renumbered = np.array([table.number(entry) for entry in part.addresses], dtype=np.int64)
            joined = [layouts.number(tuple(renumbered[addresses].tolist())) for addresses in part._layouts()]
            numbers.append(np.array(joined, dtype=np.int64)[part.layout])
            starts.append(part.start + end)
            end += len(part.value)
        return cls(
            parts[0].patterns, table.addresses, *layouts.columns(),
            np.concatenate(numbers), np.concatenate(starts), np.concatenate([part.value for part in parts]),
        )  # fmt: skip

    def select(self, rows: Array) -> Self:
        """Return the entries of the draws `rows` (integers); the values are shared."""
        return type(self)(
            self.patterns, self.addresses, self.layout_offset, self.layout_address,
            self.layout[rows], self.start[rows], self.value,
        )  # fmt: skip

    @property
    def sizes(self) -> Array:
        """Integers (draw,): number of entries of each draw."""
        sizes: Array = np.diff(self.layout_offset)[self.layout]
        return sizes

    def of(self, draw: int) -> dict[str, float]:
        """Return the entries of one draw in the order of its trace: address -> value."""
        addresses = self._layouts()[int(self.layout[draw])].tolist()
        values = self.value[int(self.start[draw]) :][: len(addresses)].tolist()
        return {self.addresses[i].address: value for i, value in zip(addresses, values, strict=True)}

    def matching(self, patterns: Iterable[str]) -> list[EntryAddress]:
        """Return the addresses that match any of `patterns`; see `entry_selection.matches`."""
        requested = tuple(patterns)
        return [entry for entry in self.addresses if matches(entry, requested)]

    def column(self, address: str) -> FloatArray:
        """Return float64 (draw,): the values at an address; NaN for draws without it.

        Raises
        ------
        KeyError
            If no draw has the address.
        """
        number = next((i for i, entry in enumerate(self.addresses) if entry.address == address), None)
        if number is None:
            raise KeyError(address)
        return self.columns([self.addresses[number]])[address]

    def columns(self, entries: Iterable[EntryAddress]) -> dict[str, FloatArray]:
        """Return the column of each of several addresses, as `column` does."""
        number_of = {entry.address: number for number, entry in enumerate(self.addresses)}
        order = np.argsort(self.layout_address, kind="stable")
        ends = np.searchsorted(self.layout_address[order], np.arange(len(self.addresses) + 1))
        layout_of_row = np.repeat(np.arange(len(self.layout_offset) - 1), np.diff(self.layout_offset))
        found = {}
        for entry in entries:
            number = number_of[entry.address]
            rows = order[ends[number] : ends[number + 1]]
            position = np.full(len(self.layout_offset) - 1, -1, dtype=np.int64)  # of the address in each layout
            position[layout_of_row[rows]] = rows - self.layout_offset[layout_of_row[rows]]
            at = position[self.layout]
            column = np.full(len(self), np.nan)
            column[at >= 0] = self.value[(self.start + at)[at >= 0]]
            found[entry.address] = column
        return found

    def _layouts(self) -> list[Array]:
        return np.split(self.layout_address, self.layout_offset[1:-1])

    def as_columns(self) -> dict[str, Array]:
        """Return the datasets of a posterior file by name; `from_columns` is the inverse."""
        dictionary = {
            "patterns": self.patterns,
            "address": [entry.address for entry in self.addresses],
            "name": [entry.name for entry in self.addresses],
            "kind": [entry.kind for entry in self.addresses],
        }
        return {
            "dictionary": np.frombuffer(json.dumps(dictionary).encode(), dtype=np.uint8),
            "layout_offset": self.layout_offset.astype(np.int64),
            "layout_address": self.layout_address.astype(np.uint32),
            "layout": self.layout.astype(np.uint32),
            "start": self.start.astype(np.int64),
            "value": self.value,
        }

    @classmethod
    def from_columns(cls, columns: Mapping[str, Array], draws: int) -> Self:
        """Return the entries of `draws` draws from the datasets of a posterior file.

        Raises
        ------
        ValueError
            If the datasets contradict each other.
        """
        dictionary = json.loads(columns["dictionary"].tobytes())
        texts = (dictionary["address"], dictionary["name"], dictionary["kind"])
        found = cls(
            patterns=tuple(dictionary["patterns"]),
            addresses=[EntryAddress(*row) for row in zip(*texts, strict=True)],
            layout_offset=columns["layout_offset"],
            layout_address=columns["layout_address"].astype(np.int64),
            layout=columns["layout"].astype(np.int64),
            start=columns["start"],
            value=columns["value"],
        )
        found._check(draws)
        return found

    def _check(self, draws: int) -> None:
        offset = self.layout_offset
        right = (
            len(self.layout) == len(self.start) == draws
            and len(offset) > 0
            and offset[0] == 0
            and offset[-1] == len(self.layout_address)
            and bool((np.diff(offset) >= 0).all())
            and _within(self.layout_address, len(self.addresses))
            and _within(self.layout, len(offset) - 1)
        )
        if not right or np.min(self.start, initial=0) < 0 or np.any(self.start + self.sizes > len(self.value)):
            raise ValueError("the columns of its group 'entries' contradict each other")


def _within(numbers: Array, count: int) -> bool:
    return bool(np.min(numbers, initial=0) >= 0 and np.max(numbers, initial=-1) < count)


class _AddressTable:
    """Numbers addresses in the order of first use; the first nonempty name of an address is kept."""

    def __init__(self) -> None:
        self.addresses: list[EntryAddress] = []
        self._numbers: dict[str, int] = {}

    def number(self, entry: EntryAddress) -> int:
        """Return the number of an address."""
        number = self._numbers.get(entry.address)
        if number is None:
            number = self._numbers[entry.address] = len(self.addresses)
            self.addresses.append(entry)
        elif entry.name and not self.addresses[number].name:
            self.addresses[number] = entry
        return number


class _LayoutTable:
    """Numbers layouts in the order of first use."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}

    def number(self, addresses: tuple[int, ...]) -> int:
        """Return the number of a layout, given the numbers of its addresses."""
        return self._numbers.setdefault(addresses, len(self._numbers))

    def columns(self) -> tuple[Array, Array]:
        """Return the columns `layout_offset` and `layout_address`."""
        offset = np.cumsum([0, *map(len, self._numbers)], dtype=np.int64)
        return offset, np.array([number for addresses in self._numbers for number in addresses], dtype=np.int64)
