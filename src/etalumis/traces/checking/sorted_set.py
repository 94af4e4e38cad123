# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verification of a sorted set: the order of its traces through all shards, and its index."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.format import TYPE_BYTES
from etalumis.traces.index import length_histogram
from etalumis.traces.lengths import add_lengths
from etalumis.traces.reading.shard import Shard

_ROWS = 1 << 18
_REMEDY = "sort the traces again"


class SetCheck:
    """Checks the shards of an index in order; keeps only the last trace, and one row per trace type.

    In a sorted set, traces of equal type, length and seed are adjacent, so duplicates are found without keeping all
    seeds.

    Parameters
    ----------
    index
        Path of the index, for messages.
    content
        Content returned by `read_index`.

    Raises
    ------
    DatasetError
        From all methods, for the first problem.
    """

    def __init__(self, index: Path, content: dict[str, Any]) -> None:
        self._index, self._content = index, content
        self._types = [str(row["type"]) for row in content["types"]]
        self._ranks = {kind: rank for rank, kind in enumerate(self._types)}
        order = [(-int(row["traces"]), row["type"]) for row in content["types"]]
        if order != sorted(order) or len(self._ranks) != len(self._types):
            raise self._fail("types", "expected every type once, ordered by frequency, then by type")
        self._count = np.zeros(len(self._types), np.int64)
        self._shortest = np.full(len(self._types), np.iinfo(np.int64).max)
        self._longest = np.zeros(len(self._types), np.int64)
        self._shards = np.full((len(self._types), 2), -1)
        self._lengths: Counter[int] = Counter()
        self._addresses: set[str] = set()
        self._number = 0
        self._traces = 0
        self._entries = 0
        self._last: tuple[int, int, int] | None = None
        self._last_place = ""

    def _fail(self, key: str, what: str) -> DatasetError:
        return DatasetError(f"{self._index}: {key!r} is wrong: {what}; {_REMEDY}")

    def shard(self, shard: Shard, number: int, quick: bool = False) -> None:
        """Check shard `number`, the next good one, whose own content has already been checked."""
        self._number = number
        entry = self._content["shards"][number]
        size = shard.path.stat().st_size
        for key, found in (("traces", len(shard)), ("entries", shard.entries), ("bytes", size)):
            if entry[key] != found:
                raise self._fail(f"shards[{self._number}].{key}", f"found {entry[key]}, but {shard.path} has {found}")
        self._check_provenance(shard)
        self._traces += len(shard)
        self._entries += shard.entries
        self._addresses.update(shard.dictionary.addresses.names())
        if not quick:
            for start in range(0, len(shard), _ROWS):
                self._window(shard, start, min(start + _ROWS, len(shard)))

    def _check_provenance(self, shard: Shard) -> None:
        for key, found in shard.provenance.as_dict().items():
            # another version of the program may have completed an interrupted sort
            if key != "producer" and self._content.get(key) != found:
                raise self._fail(key, f"found {self._content.get(key)!r}, but that of {shard.path} is {found!r}")

    def _window(self, shard: Shard, start: int, stop: int) -> None:
        kinds = np.ascontiguousarray(shard.slice("traces/type", start, stop)).view(f"V{TYPE_BYTES}").reshape(-1)
        distinct, first, inverse = np.unique(kinds, return_index=True, return_inverse=True)
        names = [bytes(kind).hex() for kind in distinct]
        for name, row in zip(names, first.tolist(), strict=True):
            if name not in self._ranks:
                raise self._fail("types", f"it lacks {name}, which trace {start + row} of {shard.path} has")
        rank = np.array([self._ranks[name] for name in names])[inverse]
        offset = shard.slice("traces/offset", start, stop + 1)
        length = np.diff(offset)
        seed = shard.slice("traces/seed", start, stop)
        self._check_order(shard, start, np.stack([rank, length, seed]))
        np.add.at(self._count, rank, 1)
        np.minimum.at(self._shortest, rank, length)
        np.maximum.at(self._longest, rank, length)
        found = np.unique(rank)
        self._shards[found, 1] = self._number
        self._shards[found[self._shards[found, 0] < 0], 0] = self._number
        add_lengths(self._lengths, offset)

    def _check_order(self, shard: Shard, start: int, keys: np.ndarray) -> None:
        """Check that the rows of `keys` (rank, length, seed) increase, starting from the last trace before them."""
        if self._last is not None:
            keys = np.concatenate([np.array(self._last)[:, None], keys], axis=1)
            start -= 1
        before, after = keys[:, :-1], keys[:, 1:]
        rises = after[2] > before[2]
        for row in (1, 0):
            rises = (after[row] > before[row]) | ((after[row] == before[row]) & rises)
        bad = np.flatnonzero(~rises)
        if len(bad):
            place = start + int(bad[0])
            earlier = self._last_place if place < 0 else f"trace {place}"
            what = _key(before[:, bad[0]]), _key(after[:, bad[0]])
            problem = "duplicate trace" if what[0] == what[1] else "expected the sorted order"
            raise DatasetError(
                f"{shard.path}: column 'traces/seed' of trace {place + 1} is wrong: {problem}: {earlier} has "
                f"{what[0]}, it has {what[1]}; {_REMEDY}"
            )
        last = keys[:, -1].tolist()
        self._last = (last[0], last[1], last[2])
        self._last_place = f"the last trace of {shard.path}"

    def close(self, quick: bool = False) -> None:
        """Compare the totals of all shards with the index."""
        for key, found in (("traces", self._traces), ("entries", self._entries)):
            if self._content[key] != found:
                raise self._fail(key, f"found {self._content[key]}, but the shards contain {found}")
        first = 0
        for rank, row in enumerate(self._content["types"]):
            expected: dict[str, Any] = {"first": first}
            if not quick:
                expected["traces"] = int(self._count[rank])
                expected["shards"] = self._shards[rank].tolist()
                expected["lengths"] = [int(self._shortest[rank]), int(self._longest[rank])]
            for key, value in expected.items():
                if row[key] != value:
                    raise self._fail(f"types[{rank}].{key}", f"expected {value}, found {row[key]}")
            first += int(row["traces"])
        if not quick:
            self._check_summaries()
        if first != self._traces:
            raise self._fail("types", f"they have {first} traces in total, but the shards contain {self._traces}")

    def _check_summaries(self) -> None:
        lengths = np.array(sorted(self._lengths.items()), np.int64).reshape(-1, 2)
        found = length_histogram(lengths[:, 0], lengths[:, 1])
        if self._content["lengths"] != found:
            raise self._fail("lengths", "it is not the histogram of the lengths of the traces")
        if self._content["addresses"] != len(self._addresses):
            raise self._fail(
                "addresses", f"found {self._content['addresses']}, but the shards use {len(self._addresses)}"
            )


def _key(column: np.ndarray) -> str:
    rank, length, seed = column.tolist()
    return f"type number {rank}, {length} entries, seed {seed}"
