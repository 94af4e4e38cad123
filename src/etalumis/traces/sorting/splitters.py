# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Bucket boundaries of the sorted set: keys at given positions of an order that is distributed over the ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from etalumis.traces.sorting.collective import Communicator
from etalumis.traces.sorting.keys import GroupedSeeds, Groups

_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True, slots=True)
class Splitters:
    """Keys (group, seed) of the first trace of every bucket except the first; u4 and int64 (bucket - 1,)."""

    groups: np.ndarray
    seeds: np.ndarray

    def buckets(self, groups: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Return int64 (trace,): the bucket of each trace."""
        bucket = np.searchsorted(self.groups, groups, "left")
        cut = np.unique(self.groups)
        for group in cut[np.isin(cut, groups)].tolist():
            start, stop = np.searchsorted(self.groups, group, "left"), np.searchsorted(self.groups, group, "right")
            inside = groups == group
            bucket[inside] = start + np.searchsorted(self.seeds[start:stop], seeds[inside], "right")
        return bucket


def select(own: GroupedSeeds, groups: Groups, places: Sequence[int], comm: Communicator) -> Splitters:
    """Return the keys at `places` (ascending) of the sorted set. A collective call.

    The group at a position follows from the table. The seed is found by bisection: in each of 64 steps, the ranks sum
    their numbers of seeds of the group up to the midpoint.
    """
    positions = np.asarray(places, np.int64)
    group = np.searchsorted(groups.first, positions, "right") - 1
    before = positions - groups.first[group]
    low, high = np.zeros(len(positions), np.uint64), np.full(len(positions), ~np.uint64(0))
    start = own.offset[group]
    while bool(np.any(low < high)):
        middle = low + (high - low) // np.uint64(2)
        counts = own.before(group, _signed(middle), "right") - start
        enough = np.sum(comm.allgather(counts), axis=0) > before
        high = np.where(enough, middle, high)
        low = np.where(enough, low, np.minimum(middle + np.uint64(1), high))
    return Splitters(group.astype(np.uint32), _signed(low))


def _signed(key: np.ndarray) -> np.ndarray:
    """Map uint64 to int64 so that the order is preserved."""
    return (key ^ _SIGN).view(np.int64)


def duplicates(
    own: GroupedSeeds, splitters: Splitters, edges: Sequence[int], max_traces: int, comm: Communicator
) -> list[int]:
    """Return the duplicate seeds within groups, ascending. A collective call.

    The ranks take turns to examine ranges of about `max_traces` traces.
    """
    cuts, taken = [], 0
    for bucket, edge in enumerate(edges[1:-1]):
        if edge - taken >= max_traces:
            cuts.append(bucket)
            taken = edge
    at = own.before(splitters.groups[cuts], splitters.seeds[cuts])
    bounds = [0, *at.tolist(), len(own.seeds)]
    found: list[int] = []
    rank, size = comm.Get_rank(), comm.Get_size()
    for number, (start, stop) in enumerate(pairwise(bounds)):
        places = np.arange(start, stop)
        groups = (np.searchsorted(own.offset, places, "right") - 1).astype(np.uint32)
        parts = comm.allgather((groups, own.seeds[start:stop])) if size > 1 else [(groups, own.seeds[start:stop])]
        if number % size == rank:
            found += _repeated(*(np.concatenate([part[i] for part in parts]) for i in (0, 1)))
    return sorted(seed for part in comm.allgather(found) for seed in part)


def _repeated(groups: np.ndarray, seeds: np.ndarray) -> list[int]:
    order = np.lexsort((seeds, groups))
    groups, seeds = groups[order], seeds[order]
    twice: list[int] = seeds[1:][(seeds[1:] == seeds[:-1]) & (groups[1:] == groups[:-1])].tolist()
    return twice
