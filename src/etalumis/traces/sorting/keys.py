# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sort keys of traces: frequency of the type, type, length, seed.

Traces of the same type and length form a *group*. All ranks hold the table of all groups. Of the traces, a rank holds
only the seeds of its own share: 8 bytes per trace (20 during sorting), which is the only memory of sorting that grows
with the number of traces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from etalumis.traces.format import TYPE_BYTES
from etalumis.traces.ragged import offsets
from etalumis.traces.sorting.input_reader import InputReader
from etalumis.traces.sorting.inputs import Portion

KEY_WINDOW = 1 << 15
"""Number of traces whose keys are read at a time."""
_NAME_BYTES = TYPE_BYTES + 8


def group_names(types: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the groups of traces as 24-byte scalars that sort like (type, length)."""
    names = np.empty((len(types), _NAME_BYTES), np.uint8)
    names[:, :TYPE_BYTES] = types
    names[:, TYPE_BYTES:] = lengths.astype(">u8").view(np.uint8).reshape(-1, 8)
    return names.view(f"V{_NAME_BYTES}").reshape(-1)


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Groups of traces: `names` in ascending order, with the number of traces and the bytes of each."""

    names: np.ndarray
    traces: np.ndarray
    nbytes: np.ndarray

    @classmethod
    def of(cls, names: np.ndarray, traces: np.ndarray, nbytes: np.ndarray) -> Self:
        """Return the counts of rows with possibly repeated names."""
        distinct, place = np.unique(names, return_inverse=True)
        sums = [np.zeros(len(distinct), np.int64) for _ in range(2)]
        np.add.at(sums[0], place, traces)
        np.add.at(sums[1], place, nbytes)
        return cls(distinct, *sums)

    @classmethod
    def combined(cls, parts: Sequence[Self]) -> Self:
        """Return the sum of several counts."""
        return cls.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in GroupCounts.__slots__))


class Groups:
    """All groups of the dataset in sorted order: most frequent type first, then type, then length.

    Attributes
    ----------
    types
        u1 (group, 16).
    lengths, traces, nbytes
        int64 (group,): accepted entries per trace, number of traces, and their total bytes.
    first
        int64 (group + 1,): position of the first trace in the sorted set.
    """

    def __init__(self, group_counts: GroupCounts) -> None:
        fields = np.ascontiguousarray(group_counts.names).view(np.uint8).reshape(-1, _NAME_BYTES)
        types = fields[:, :TYPE_BYTES]
        lengths = np.ascontiguousarray(fields[:, TYPE_BYTES:]).view(">u8").reshape(-1).astype(np.int64)
        begins = np.ones(len(types), bool)
        begins[1:] = np.any(types[1:] != types[:-1], axis=1)
        kind = np.cumsum(begins) - 1
        of_type = np.zeros(int(begins.sum()), np.int64)
        np.add.at(of_type, kind, group_counts.traces)
        # names are ascending, so ties keep the order of (type, length)
        order = np.argsort(-of_type[kind], kind="stable")
        self.types, self.lengths = types[order], lengths[order]
        self.traces, self.nbytes = group_counts.traces[order], group_counts.nbytes[order]
        self.first = offsets(self.traces)
        self._names = group_counts.names
        self._rank = np.empty(len(order), np.uint32)
        self._rank[order] = np.arange(len(order), dtype=np.uint32)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.traces)

    def by_type(self) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Return (hexadecimal types in sorted order, traces, minimum, maximum length of each)."""
        begins = np.ones(len(self), bool)
        begins[1:] = np.any(self.types[1:] != self.types[:-1], axis=1)
        first = np.flatnonzero(begins)
        last = np.append(first[1:], len(self)) - 1
        counts = np.add.reduceat(self.traces, first)
        return [self.types[i].tobytes().hex() for i in first], counts, self.lengths[first], self.lengths[last]

    def ranks(self, names: np.ndarray) -> np.ndarray:
        """Return u4: rank of each of these groups in the order."""
        place = np.searchsorted(self._names, names)
        known = place < len(self._names)
        if not (known.all() and np.array_equal(self._names[place], names)):
            raise ValueError("it has types or lengths that it did not have when sorting started")
        ranks: np.ndarray = self._rank[place]
        return ranks

    def ranks_of(self, types: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return u4 (trace,): rank of the group of each trace."""
        distinct, place = np.unique(group_names(types, lengths), return_inverse=True)
        ranks: np.ndarray = self.ranks(distinct)[place]
        return ranks

    def bytes_before(self, places: np.ndarray) -> np.ndarray:
        """Return float64: bytes before each position of the sorted set, with the mean size of traces in each group."""
        total = np.concatenate([[0.0], np.cumsum(self.nbytes, dtype=np.float64)])
        return np.asarray(np.interp(places, self.first, total))


@dataclass(frozen=True, slots=True)
class KeyWindow:
    """Keys of consecutive traces."""

    names: np.ndarray
    seeds: np.ndarray
    nbytes: np.ndarray


def read_keys(reader: InputReader, portion: Portion, sizes: bool = True) -> Iterator[KeyWindow]:
    """Yield the keys of a portion in windows; without `sizes`, the bytes of the traces are not read (all zero)."""
    schema, columns = reader.schema, reader.inputs.files[portion.file].columns
    shard = reader.shard(portion.file)
    for start in range(portion.start, portion.stop, KEY_WINDOW):
        stop = min(start + KEY_WINDOW, portion.stop)
        types, seeds = shard.slice("traces/type", start, stop), shard.slice("traces/seed", start, stop)
        lengths = np.diff(shard.slice(schema.lists["entries"].offset, start, stop + 1))
        nbytes = np.zeros(stop - start, np.int64)
        if sizes:
            nbytes += schema.trace_bytes + lengths * schema.lists["entries"].row_bytes
            for name, lists in schema.lists.items():
                if name != "entries" and lists.offset in columns:
                    nbytes += np.diff(shard.slice(lists.offset, start, stop + 1)) * lists.row_bytes
        yield KeyWindow(group_names(types, lengths), seeds, nbytes)


class RankKeys:
    """Keys of the portions of one rank: local group numbers first, then the seeds by group, in ascending order.

    Attributes
    ----------
    counts
        Groups of the share, with their numbers of traces and bytes.
    nearly_sorted
        Indices of the portions whose traces form few runs of one group with ascending seeds, as in a sorted file.
    """

    def __init__(self, reader: InputReader, portions: Sequence[Portion]) -> None:
        traces = sum(len(portion) for portion in portions)
        self._numbers, self._seeds = np.empty(traces, np.uint32), np.empty(traces, np.int64)
        known: dict[bytes, int] = {}
        parts: list[GroupCounts] = []
        self.nearly_sorted: list[int] = []
        at = 0
        for number, portion in enumerate(portions):
            begin = at
            for window in read_keys(reader, portion):
                distinct, place = np.unique(window.names, return_inverse=True)
                numbers = [known.setdefault(name.tobytes(), len(known)) for name in distinct]
                stop = at + len(window.seeds)
                self._numbers[at:stop] = np.array(numbers, np.uint32)[place]
                self._seeds[at:stop] = window.seeds
                parts.append(GroupCounts.of(window.names, np.ones(len(place), np.int64), window.nbytes))
                at = stop
            if _is_nearly_sorted(self._numbers[begin:at], self._seeds[begin:at]):
                self.nearly_sorted.append(number)
            parts = [GroupCounts.combined(parts)] if parts else []
        self._known = np.frombuffer(b"".join(known), np.uint8).reshape(-1, _NAME_BYTES).view(f"V{_NAME_BYTES}").ravel()
        empty = np.empty(0, np.int64)
        self.counts = parts[0] if parts else GroupCounts(np.empty(0, f"V{_NAME_BYTES}"), empty, empty)

    def seeds(self, groups: Groups) -> "GroupedSeeds":
        """Return the seeds by group; this discards the keys."""
        ranks = groups.ranks(self._known)
        counts = np.zeros(len(groups), np.int64)
        for start in range(0, len(self._numbers), KEY_WINDOW):  # bincount converts them to int64
            counts[ranks] += np.bincount(self._numbers[start : start + KEY_WINDOW], minlength=len(ranks))
        offset = offsets(counts)
        grouped, cursor = np.empty_like(self._seeds), offset[:-1].copy()
        for start in range(0, len(grouped), KEY_WINDOW):
            rank = ranks[self._numbers[start : start + KEY_WINDOW]]
            order = np.argsort(rank, kind="stable")
            present, first, traces = np.unique(rank[order], return_index=True, return_counts=True)
            place = np.arange(len(rank)) + np.repeat(cursor[present] - first, traces)
            grouped[place] = self._seeds[start : start + KEY_WINDOW][order]
            cursor[present] += traces
        self._numbers, self._seeds = self._numbers[:0].copy(), self._seeds[:0].copy()
        for group in np.flatnonzero(counts > 1).tolist():
            grouped[offset[group] : offset[group + 1]].sort()
        return GroupedSeeds(offset, grouped)


def _is_nearly_sorted(groups: np.ndarray, seeds: np.ndarray) -> bool:
    changes = groups[1:] != groups[:-1]
    breaks = int(np.count_nonzero(changes | (seeds[1:] < seeds[:-1])))
    return breaks <= len(np.unique(groups)) + len(groups) // 128


@dataclass(frozen=True, slots=True)
class GroupedSeeds:
    """Seeds of the share of one rank: those of group `g`, ascending, are `seeds[offset[g]:offset[g + 1]]`."""

    offset: np.ndarray
    seeds: np.ndarray

    def before(self, groups: np.ndarray, seeds: np.ndarray, side: Literal["left", "right"] = "left") -> np.ndarray:
        """Return int64: insertion point of each key (group, seed); `side` as in `np.searchsorted`."""
        found = np.empty(len(groups), np.int64)
        for i, (group, seed) in enumerate(zip(groups.tolist(), seeds.tolist(), strict=True)):
            start, stop = int(self.offset[group]), int(self.offset[group + 1])
            found[i] = start + int(np.searchsorted(self.seeds[start:stop], seed, side))
        return found
