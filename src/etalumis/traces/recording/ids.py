# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""From the numbers of a simulator's session to those of a trace file: a table look-up a column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from etalumis.address import join
from etalumis.delegation import OWN_PRIOR, AddressKeys
from etalumis.names import require_storable
from etalumis.ppx.delegated import DelegatedBatch, DelegatedTrace
from etalumis.trace import CONTROLLED, REJECTED, REPLACED
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import ALL, CONTROLLED_ONLY

KEPT_FLAGS = CONTROLLED | REPLACED
"""Flags that a trace file keeps."""
_KEPT_TYPES = 65_536


class View(NamedTuple):
    """Traces that are neighbours in a message, as records of it: those of all arrays, and of these traces the others.

    Reading records column by column costs a few calls a message where tuples cost some a trace.
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
        """Return the view of some traces of a message; raises ValueError where they are no neighbours."""
        first, last, message = traces[0], traces[-1], batch.message
        if last.number - first.number != len(traces) - 1:
            raise ValueError("traces that are no neighbours in their message")
        frame = message.frame
        _, observes, tags = (slice(a.start, b.stop) for a, b in zip(first.spans, last.spans, strict=True))
        return cls(
            message.records[first.number : last.number + 1], frame.observes[observes], frame.tag_records[tags],
            frame.array_records, frame.extents, frame.positions, message.data, batch.vocabulary.texts,
        )  # fmt: skip

    def shapes(self, arrays: np.ndarray) -> list[tuple[int, ...]] | None:
        """Return the shape of each column of arrays (trace, column), that of the first trace.

        None where the arrays of a column differ, but in the first of several axes, or any is sparse.
        """
        rank, count = arrays["rank"], arrays["count"]
        plain = rank[0] <= 1
        if arrays["sparse"].any() or (rank != rank[0]).any() or (count != count[0])[:, plain].any():
            return None
        # a vector may come without its shape
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
    """Return the parts of `content`, those that follow each other as one."""
    ends = starts + counts
    if (starts[1:] == ends[:-1]).all():
        return [content[int(starts[0]) : int(ends[-1])]]
    return [content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


@dataclass(slots=True)
class EntryColumns:
    """Columns of the entries of some traces in the numbers of a dictionary; `rejected` where these were asked for."""

    entries: dict[str, np.ndarray]
    lengths: list[int]
    types: list[bytes]
    rejected: dict[str, np.ndarray] | None
    rejected_lengths: list[int]


class IdTranslator:
    """The columns of traces of one session, in the numbers of `dictionary`."""

    def __init__(self, keys: AddressKeys, dictionary: Dictionary) -> None:
        self.keys, self._dictionary = keys, dictionary
        self._address = np.empty(0, np.int64)  # by number of the session; -1 = not met yet
        self._flags = np.empty(0, np.uint8)
        self._prior = np.empty(0, np.int64)
        self._types: dict[bytes, bytes] = {}

    def columns(self, batch: DelegatedBatch, traces: Sequence[DelegatedTrace], view: View, kept: str) -> EntryColumns:
        """Return the columns of some traces that are neighbours in a message; `view` is theirs."""
        first, last = traces[0].spans[0].start, traces[-1].spans[0].stop
        entries = batch.message.entries[first:last]
        lengths: list[int] = view.traces["entries"].tolist()
        rejected: dict[str, np.ndarray] | None = None
        rejected_lengths: list[int] = []
        if batch.plan.rejected:  # whatever was asked for, what was rejected is no latent
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
            steered = self._flags[entries["address"]] & CONTROLLED != 0
            lengths = _counted(steered, lengths)
            entries = entries[steered]
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
                if len(self._types) >= _KEPT_TYPES:
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
    """Return how many elements of each list of `mask` are true."""
    sums = np.concatenate([[0], np.cumsum(mask)])
    ends = np.cumsum([0, *lengths])
    counts: list[int] = np.diff(sums[ends]).tolist()
    return counts


def _grown(table: np.ndarray, numbers: np.ndarray, fill: int) -> np.ndarray:
    """Return a table that has a row for each number."""
    wanted = int(numbers.max(initial=0)) + 1
    if wanted <= len(table):
        return table
    return np.concatenate([table, np.full(max(wanted, 2 * len(table)) - len(table), fill, table.dtype)])
