# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How sorting is divided into work units: portions of the inputs, buckets and shards of the sorted set."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from etalumis.traces.sorting.inputs import InputFile, Portion
from etalumis.traces.sorting.keys import Groups
from etalumis.traces.writer import ROW_GROUP

SLICE_TRACES = ROW_GROUP
"""Number of traces appended to a shard at a time: the row group of its writer."""
PORTION_TRACES = 1 << 18
"""Maximum number of traces of a portion: what an interruption may lose."""
_BASE_BYTES = 150_000_000
_SHARE_OF_SEGMENT = 0.7
_KEY_BYTES = 20


def segment_bytes(memory_mb: int, traces: int) -> int:
    """Return the maximum bytes of a segment of a rank with `memory_mb` in total and `traces` in its share.

    The interpreter and its libraries take 150 MB and the keys 20 bytes per trace. The rest holds one segment and
    temporary copies of a slice or a piece during sorting.
    """
    left = memory_mb * 1_000_000 - _BASE_BYTES - _KEY_BYTES * traces
    return int(_SHARE_OF_SEGMENT * max(left, memory_mb * 1_000_000 // 4))


def portions(files: Sequence[InputFile], ranks: int) -> list[Portion]:
    """Divide the inputs into portions: whole files, or equal parts of large files."""
    size = max(1, min(PORTION_TRACES, -(-sum(file.traces for file in files) // ranks)))
    found = []
    for number, file in enumerate(files):
        parts = -(-file.traces // size)
        ends = [file.traces * part // parts for part in range(parts + 1)] if parts else []
        found += [Portion(number, start, stop) for start, stop in pairwise(ends)]
    return found


def share(sizes: Sequence[int], rank: int, ranks: int) -> range:
    """Return the range of consecutive work units of these sizes that a rank processes."""
    middle = np.cumsum(sizes) - np.asarray(sizes) / 2
    owner = np.minimum(ranks - 1, middle * ranks // max(1, sum(sizes))).astype(np.int64)
    start, stop = np.searchsorted(owner, [rank, rank + 1])
    return range(int(start), int(stop))


@dataclass(frozen=True, slots=True)
class Unit:
    """Work of one rank, independent of the others: one shard of several buckets, or several shards of one bucket."""

    shards: range
    buckets: range


@dataclass(frozen=True)
class Cuts:
    """Boundaries of buckets and shards in the sorted set.

    Attributes
    ----------
    shard_traces
        Number of traces of every shard but the last.
    edges
        Position of the first trace of each bucket, and the number of traces. A bucket fits into memory.
    """

    shard_traces: int
    edges: tuple[int, ...]

    @classmethod
    def of(cls, groups: Groups, shard_traces: int, max_bytes: int, ranks: int) -> Self:
        """Return buckets of at most `max_bytes`, unless a slice of `SLICE_TRACES` traces is larger."""
        traces = int(groups.first[-1])
        starts = np.arange(0, traces, shard_traces)
        ends = np.minimum(starts + shard_traces, traces)
        before = groups.bytes_before(np.append(starts, traces)).tolist()
        # a bucket spans several shards only if there are enough buckets for all ranks
        joined_bytes = max_bytes if ranks == 1 else min(max_bytes, before[-1] / (2 * ranks))
        edges, begin = [0], 0
        for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            if before[number + 1] - before[begin] > joined_bytes and number > begin:
                edges.append(start)
                begin = number
            if before[number + 1] - before[number] > max_bytes:
                edges += _inside(groups, start, end, max_bytes)
                edges.append(end)
                begin = number + 1
        return cls(shard_traces, tuple(dict.fromkeys([*edges, traces])))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.edges[-1] // self.shard_traces)

    def shard(self, number: int) -> tuple[int, int]:
        """Return the positions of the first trace of a shard and of the one after its last."""
        return number * self.shard_traces, min((number + 1) * self.shard_traces, self.edges[-1])

    def largest(self, groups: Groups) -> float:
        """Return the bytes of the largest bucket."""
        return float(np.diff(groups.bytes_before(np.asarray(self.edges))).max())

    def units(self) -> list[Unit]:
        """Return all work units, in order."""
        found, begin = [], 0
        for bucket, end in enumerate(self.edges[1:]):
            if end % self.shard_traces == 0 or end == self.edges[-1]:
                shards = range(self.edges[begin] // self.shard_traces, -(-end // self.shard_traces))
                found.append(Unit(shards, range(begin, bucket + 1)))
                begin = bucket + 1
        return found


def _inside(groups: Groups, start: int, end: int, max_bytes: int) -> list[int]:
    """Return the bucket boundaries inside a shard that is larger than a bucket."""
    grid = np.arange(start, end, SLICE_TRACES)
    before = groups.bytes_before(np.append(grid, end))
    cuts: list[int] = []
    at = 0
    while True:
        following = max(at + 1, int(np.searchsorted(before, before[at] + max_bytes, "right")) - 1)
        if following >= len(grid):
            return cuts
        cuts.append(int(grid[following]))
        at = following


@dataclass(frozen=True)
class SortPlan:
    """Saved state of a sort, from which another call resumes with its spill files.

    Attributes
    ----------
    digest
        Digest of inputs and shard size; complete shards can be reused if it is equal.
    edges
        As in `Cuts`.
    spilled
        Portions that go through spill files, one file per portion; the other inputs are read directly.
    """

    digest: str
    edges: tuple[int, ...]
    spilled: tuple[Portion, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dictionary."""
        return {
            "digest": self.digest,
            "edges": list(self.edges),
            "spilled": [[portion.file, portion.start, portion.stop] for portion in self.spilled],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Inverse of `as_dict`; raises KeyError, TypeError or ValueError for other content."""
        spilled = tuple(Portion(*map(int, row)) for row in content["spilled"])
        return cls(str(content["digest"]), tuple(map(int, content["edges"])), spilled)


def spill_path(folder: Path, number: int) -> Path:
    """Return the spill file of portion `number` of a plan."""
    return folder / f"spill-{number:05d}.raw"
