# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Translation of ids from the session of a simulator to a trace file: one table lookup per column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from etalumis.address import join
from etalumis.names import require_storable
from etalumis.ppx.delegated import DelegatedBatch, DelegatedTrace
from etalumis.rows import OWN_PRIOR, AddressKeys
from etalumis.trace import CONTROLLED, REJECTED, REPLACED
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import ALL, CONTROLLED_ONLY

KEPT_FLAGS = CONTROLLED | REPLACED
"""Flags that are stored in a trace file."""
MAX_CACHED_TYPES = 65_536


class View(NamedTuple):
    """Consecutive traces of a message as record arrays. `arrays` covers the whole message, the others these traces.

    Reading records by column takes a few calls per message, while tuples take several per trace.
    """

    traces: np.ndarray
    observes: np.ndarray
    tags: np.ndarray
    arrays: np.ndarray
    extents: np.ndarray
    positions: np.ndarray
    data: np.ndarray
    texts: list[str]

    @classmethod
    def of(cls, batch: DelegatedBatch, traces: Sequence[DelegatedTrace]) -> "View":
        """Return the view of consecutive traces of a message; raise ValueError if they are not consecutive."""
        first, last, message = traces[0], traces[-1], batch.message
        if last.number - first.number != len(traces) - 1:
            raise ValueError("the traces are not consecutive in their message")
        frame = message.frame
        _, observes, tags = (slice(a.start, b.stop) for a, b in zip(first.spans, last.spans, strict=True))
        return cls(
            message.records[first.number : last.number + 1], frame.observes[observes], frame.tag_records[tags],
            frame.array_records, frame.extents, frame.positions, message.data, batch.vocabulary.texts,
        )  # fmt: skip

    def shapes(self, arrays: np.ndarray) -> list[tuple[int, ...]] | None:
        """Return the shape of each column of arrays (trace, column) in the first trace.

        None if an array is sparse, or if arrays of a column differ in more than the first of several axes.
        """
        rank, count = arrays["rank"], arrays["count"]
        plain = rank[0] <= 1
        if arrays["sparse"].any() or (rank != rank[0]).any() or (count != count[0])[:, plain].any():
            return None
        # the shape of a vector may be omitted
        pairs = zip(rank[0].tolist(), count[0].tolist(), strict=True)
        found: list[tuple[int, ...]] = [() if rank == 0 and count == 1 else (count,) for rank, count in pairs]
        for at in np.flatnonzero(~plain).tolist():
            extents = self.extents_of(arrays[:, at], int(rank[0, at]))
            if (extents[:, 1:] != extents[0, 1:]).any():
                return None
            found[at] = tuple(extents[0].tolist())
        return found

    def extents_of(self, arrays: np.ndarray, rank: int) -> np.ndarray:
        """Return the shapes (array, axis) of arrays of one rank."""
        return np.asarray(self.extents[arrays["shape_start"][:, None] + np.arange(rank)])


def slices(content: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Return the slices of `content`, as a single one if they are contiguous."""
    ends = starts + counts
    if (starts[1:] == ends[:-1]).all():
        return [content[int(starts[0]) : int(ends[-1])]]
    return [content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


@dataclass(slots=True)
class EntryColumns:
    """Columns of the entries of traces, with ids of a dictionary; `rejected` only if they are kept."""

    entries: dict[str, np.ndarray]
    lengths: list[int]
    types: list[bytes]
    rejected: dict[str, np.ndarray] | None
    rejected_lengths: list[int]


class IdTranslator:
    """Translates the columns of traces of one session to ids of `dictionary`."""

    def __init__(self, keys: AddressKeys, dictionary: Dictionary) -> None:
        self.keys, self._dictionary = keys, dictionary
        self._address = np.empty(0, np.int64)  # by id in the session; -1 = not seen yet
        self._flags = np.empty(0, np.uint8)
        self._prior = np.empty(0, np.int64)
        self._types: dict[bytes, bytes] = {}

    def columns(self, batch: DelegatedBatch, traces: Sequence[DelegatedTrace], view: View, kept: str) -> EntryColumns:
        """Return the columns of consecutive traces of a message, given their `view`."""
        first, last = traces[0].spans[0].start, traces[-1].spans[0].stop
        entries = batch.message.entries[first:last]
        lengths: list[int] = view.traces["entries"].tolist()
        rejected: dict[str, np.ndarray] | None = None
        rejected_lengths: list[int] = []
        if batch.plan.rejected:  # rejected entries are not latents, even if they are not kept
            details = batch.message.details[first:last]
            out = details["flags"] & REJECTED != 0
            gone = _counted(out, lengths)
            if kept == ALL:
                rejected, rejected_lengths = self._rejected(batch, entries, details, out, lengths), gone
            entries = entries[~out]
            lengths = [whole - left_out for whole, left_out in zip(lengths, gone, strict=True)]
        types = self._types_of(traces, entries["address"], lengths)
        if kept == CONTROLLED_ONLY:
            self._addresses(entries["address"])
            controlled = self._flags[entries["address"]] & CONTROLLED != 0
            lengths = _counted(controlled, lengths)
            entries = entries[controlled]
        return EntryColumns(self._columns(batch, entries), lengths, types, rejected, rejected_lengths)

    def _columns(self, batch: DelegatedBatch, entries: np.ndarray) -> dict[str, np.ndarray]:
        address = entries["address"]
        numbers = self._addresses(address)
        return {
            "address": numbers,
            "distribution": self._priors(batch, entries["distribution"]),
            "value": entries["value"],
            "flags": self._flags[address],
        }

    def _rejected(
        self, batch: DelegatedBatch, entries: np.ndarray, details: np.ndarray, out: np.ndarray, lengths: list[int]
    ) -> dict[str, np.ndarray]:
        columns = self._columns(batch, entries[out])
        starts = np.cumsum([0, *lengths[:-1]])
        before = np.cumsum(~out) - ~out  # accepted entries of the message before each entry
        of_trace = np.repeat(before[np.minimum(starts, len(before) - 1)] if len(before) else starts, lengths)
        columns["position"] = (before - of_trace)[out]
        columns["repetition"] = details["repetition"][out]
        columns["flags"] = columns["flags"] | REJECTED
        return columns

    def _types_of(self, traces: Sequence[DelegatedTrace], address: np.ndarray, lengths: list[int]) -> list[bytes]:
        found, start, content, width = [], 0, address.tobytes(), address.itemsize
        for trace, length in zip(traces, lengths, strict=True):
            key = content[start : start + width * length]
            start += width * length
            kind = self._types.get(key)
            if kind is None:
                if len(self._types) >= MAX_CACHED_TYPES:
                    self._types.clear()
                kind = self._types[key] = trace.type
            found.append(kind)
        return found

    def _addresses(self, address: np.ndarray) -> np.ndarray:
        self._address = _grown(self._address, address, -1)
        self._flags = _grown(self._flags, address, 0)
        numbers = self._address[address]
        if len(numbers) and int(numbers.min()) < 0:
            for number in dict.fromkeys(address[numbers < 0].tolist()):
                base, instance, name, flags = self.keys.key(number)
                if name:
                    require_storable(name, "a draw")
                self._address[number] = self._dictionary.address(join(base, instance), name)
                self._flags[number] = flags & KEPT_FLAGS
            numbers = self._address[address]
        return np.asarray(numbers)

    def _priors(self, batch: DelegatedBatch, distribution: np.ndarray) -> np.ndarray:
        if len(distribution) and int(distribution.max()) >= OWN_PRIOR:
            distinct, inverse = np.unique(distribution, return_inverse=True)
            return np.array([self._number(batch, n) for n in distinct.tolist()], np.int64)[inverse]
        self._prior = _grown(self._prior, distribution, -1)
        numbers = self._prior[distribution]
        if len(numbers) and int(numbers.min()) < 0:
            for number in dict.fromkeys(distribution[numbers < 0].tolist()):
                self._prior[number] = self._number(batch, number)
            numbers = self._prior[distribution]
        return np.asarray(numbers)

    def _number(self, batch: DelegatedBatch, number: int) -> int:
        prior = batch.priors[number]
        return self._dictionary.distribution((prior.code, prior.parameters))


def _counted(mask: np.ndarray, lengths: list[int]) -> list[int]:
    """Return the number of true elements in each list of `mask`."""
    sums = np.concatenate([[0], np.cumsum(mask)])
    ends = np.cumsum([0, *lengths])
    counts: list[int] = np.diff(sums[ends]).tolist()
    return counts


def _grown(table: np.ndarray, numbers: np.ndarray, fill: int) -> np.ndarray:
    """Return a table that has a row for each id, enlarged if necessary."""
    size = int(numbers.max(initial=0)) + 1
    if size <= len(table):
        return table
    return np.concatenate([table, np.full(max(size, 2 * len(table)) - len(table), fill, table.dtype)])
