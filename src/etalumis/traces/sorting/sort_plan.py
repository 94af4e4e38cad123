# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How a sorting is cut into pieces of work: portions of the inputs, buckets and shards of the sorted set."""

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
"""Traces that are appended to a shard at a time: as many as its writer puts together."""
PORTION_TRACES = 1 << 18
"""Traces of a portion at most: what an interruption may cost."""
_BASE_BYTES = 150_000_000
_SHARE_OF_SEGMENT = 0.7
_KEY_BYTES = 20


def segment_bytes(memory_mb: int, traces: int) -> int:
    """Return how many bytes of traces a rank may hold, of `memory_mb` in all and for a set of `traces` of its own.

    The interpreter with its libraries takes 150 MB and the keys 20 bytes a trace. What is left holds one segment and
    the copies, a slice or a piece at a time, that put it in order.
    """
    left = memory_mb * 1_000_000 - _BASE_BYTES - _KEY_BYTES * traces
    return int(_SHARE_OF_SEGMENT * max(left, memory_mb * 1_000_000 // 4))


def portions(files: Sequence[InputFile], ranks: int) -> list[Portion]:
    """Return the inputs in portions of whole files or, where they are large, of equal parts of a file."""
    most = max(1, min(PORTION_TRACES, -(-sum(file.traces for file in files) // ranks)))
    found = []
    for number, file in enumerate(files):
        parts = -(-file.traces // most)
        ends = [file.traces * part // parts for part in range(parts + 1)] if parts else []
        found += [Portion(number, start, stop) for start, stop in pairwise(ends)]
    return found


def share(sizes: Sequence[int], rank: int, ranks: int) -> range:
    """Return which of some neighbouring pieces of work of these sizes are a rank's."""
    middle = np.cumsum(sizes) - np.asarray(sizes) / 2
    owner = np.minimum(ranks - 1, middle * ranks // max(1, sum(sizes))).astype(np.int64)
    start, stop = np.searchsorted(owner, [rank, rank + 1])
    return range(int(start), int(stop))


@dataclass(frozen=True, slots=True)
class Unit:
    """What one rank makes without the others: one shard of some buckets, or some shards of one bucket."""

    shards: range
    buckets: range


@dataclass(frozen=True)
class Cuts:
    """Where the sorted set is cut.

    Attributes
    ----------
    shard_traces
        Traces of every shard but the last.
    edges
        Places of the first trace of each bucket, and the number of traces. A bucket fits into memory.
    """

    shard_traces: int
    edges: tuple[int, ...]

    @classmethod
    def of(cls, groups: Groups, shard_traces: int, most_bytes: int, ranks: int) -> Self:
        """Return buckets of `most_bytes` at most, as far as a slice of `SLICE_TRACES` traces is not larger."""
        traces = int(groups.first[-1])
        starts = np.arange(0, traces, shard_traces)
        ends = np.minimum(starts + shard_traces, traces)
        before = groups.bytes_before(np.append(starts, traces)).tolist()
        # several shards make a bucket only as long as every rank has buckets to work on
        joined_bytes = most_bytes if ranks == 1 else min(most_bytes, before[-1] / (2 * ranks))
        edges, begin = [0], 0
        for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            if before[number + 1] - before[begin] > joined_bytes and number > begin:
                edges.append(start)
                begin = number
            if before[number + 1] - before[number] > most_bytes:
                edges += _inside(groups, start, end, most_bytes)
                edges.append(end)
                begin = number + 1
        return cls(shard_traces, tuple(dict.fromkeys([*edges, traces])))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.edges[-1] // self.shard_traces)

    def shard(self, number: int) -> tuple[int, int]:
        """Return the places of a shard's first trace and of the one after its last."""
        return number * self.shard_traces, min((number + 1) * self.shard_traces, self.edges[-1])

    def largest(self, groups: Groups) -> float:
        """Return the bytes of the largest bucket."""
        return float(np.diff(groups.bytes_before(np.asarray(self.edges))).max())

    def units(self) -> list[Unit]:
        """Return all units, in order."""
        found, begin = [], 0
        for bucket, end in enumerate(self.edges[1:]):
            if end % self.shard_traces == 0 or end == self.edges[-1]:
                shards = range(self.edges[begin] // self.shard_traces, -(-end // self.shard_traces))
                found.append(Unit(shards, range(begin, bucket + 1)))
                begin = bucket + 1
        return found


def _inside(groups: Groups, start: int, end: int, most_bytes: int) -> list[int]:
    """Return the cuts of a shard that is larger than a bucket, between its slices."""
    grid = np.arange(start, end, SLICE_TRACES)
    before = groups.bytes_before(np.append(grid, end))
    cuts: list[int] = []
    at = 0
    while True:
        following = max(at + 1, int(np.searchsorted(before, before[at] + most_bytes, "right")) - 1)
        if following >= len(grid):
            return cuts
        cuts.append(int(grid[following]))
        at = following


@dataclass(frozen=True)
class SortPlan:
    """What an interrupted sorting wrote down, so that another call can go on with its spill files.

    Attributes
    ----------
    digest
        Of inputs and shard size: with the same one, finished shards are those of this sorting.
    edges
        As in `Cuts`.
    spilled
        Portions that go through spill files, each with a file of its own; the other inputs are read where they are.
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
        """Return what `as_dict` described; raises KeyError, TypeError or ValueError where that is something else."""
        spilled = tuple(Portion(*map(int, row)) for row in content["spilled"])
        return cls(str(content["digest"]), tuple(map(int, content["edges"])), spilled)


def spill_path(folder: Path, number: int) -> Path:
    """Return the spill file of portion `number` of a plan."""
    return folder / f"spill-{number:05d}.raw"
