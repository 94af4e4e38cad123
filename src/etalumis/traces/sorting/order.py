# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What all ranks agree on before any trace is moved: the order, the bucket boundaries, how each input is read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.sorting.collective import Communicator, collectively
from etalumis.traces.sorting.input_reader import InputReader
from etalumis.traces.sorting.inputs import Portion
from etalumis.traces.sorting.keys import GroupCounts, Groups, RankKeys, read_keys
from etalumis.traces.sorting.sort_plan import Cuts, SortPlan, portions, share
from etalumis.traces.sorting.splitters import Splitters, duplicates, select

_EXCHANGE_BATCH_TRACES = 1 << 16
"""Number of traces whose keys the ranks exchange at a time to find duplicates."""
_MIN_DIRECT_READ_TRACES = 128
"""Number of traces in a range of an input below which a direct read costs more than a spill file."""

RangesByBucket = dict[int, list[Portion]]
"""Bucket -> ranges of the inputs that belong to it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Number of traces per shard, and maximum bytes of traces that a rank holds."""

    shard_traces: int
    segment_bytes: int


@dataclass(frozen=True, slots=True)
class Order:
    """The order of the sorted set, which all ranks know.

    Attributes
    ----------
    groups, cuts, splitters
        The groups, the bucket boundaries, and the keys there.
    direct
        Ranges of the inputs that are read directly; `plan` lists the others, which go through spill files.
    plan
        The part that is saved for resuming.
    """

    groups: Groups
    cuts: Cuts
    splitters: Splitters
    direct: RangesByBucket
    plan: SortPlan


def determine_order(
    reader: InputReader, limits: Limits, digest: str, before: SortPlan | None, ranks: Communicator
) -> Order:
    """Read the keys of all inputs, each rank its share, and determine the order. A collective call.

    Parameters
    ----------
    digest
        Digest of inputs and shard size, for the plan.
    before
        Plan of an interrupted call of the same sort, which is kept if its buckets fit into memory.

    Raises
    ------
    DatasetError
        If keys cannot be read, or there are duplicate traces.
    """
    return _OrderBuilder(reader, limits, ranks).order(digest, before)


class _OrderBuilder:
    """Determines the order; `order` is a collective call."""

    def __init__(self, reader: InputReader, limits: Limits, ranks: Communicator) -> None:
        self._reader, self._limits, self._ranks = reader, limits, ranks
        self._pieces = portions(reader.inputs.files, ranks.Get_size())
        own = share([len(piece) for piece in self._pieces], ranks.Get_rank(), ranks.Get_size())
        self._mine = [self._pieces[number] for number in own]

    def order(self, digest: str, before: SortPlan | None) -> Order:
        keys = collectively(self._ranks, lambda: RankKeys(self._reader, self._mine))
        groups = Groups(GroupCounts.combined(self._ranks.allgather(keys.counts)))
        nearly_sorted = {self._mine[number] for number in keys.nearly_sorted}
        seeds = keys.seeds(groups)
        kept = self._reusable_plan(groups, before)
        limits, size = self._limits, self._ranks.Get_size()
        edges = kept.edges if kept else Cuts.of(groups, limits.shard_traces, limits.segment_bytes, size).edges
        cuts = Cuts(limits.shard_traces, edges)
        splitters = select(seeds, groups, edges[1:-1], self._ranks)
        duplicated = duplicates(seeds, splitters, edges, _EXCHANGE_BATCH_TRACES, self._ranks)
        if duplicated:
            self._refuse_duplicates(duplicated)
        if kept is not None:
            spilled = kept.spilled
            files = {piece.file for piece in self._pieces} - {portion.file for portion in spilled}
            direct = self._ranges_by_bucket(groups, splitters, [piece for piece in self._mine if piece.file in files])
        else:
            direct = self._readable_in_place(groups, cuts, splitters, nearly_sorted)
            files = {portion.file for ranges in direct.values() for portion in ranges}
            spilled = tuple(piece for piece in self._pieces if piece.file not in files)
        return Order(groups, cuts, splitters, direct, SortPlan(digest, edges, spilled))

    def _reusable_plan(self, groups: Groups, before: SortPlan | None) -> SortPlan | None:
        if before is None or before.edges[-1] != groups.first[-1]:
            return None
        limits = self._limits
        new = Cuts.of(groups, limits.shard_traces, limits.segment_bytes, self._ranks.Get_size())
        # bucket sizes are estimates, so slightly more than the limit is acceptable
        limit = max(1.25 * limits.segment_bytes, new.largest(groups))
        return before if Cuts(limits.shard_traces, before.edges).largest(groups) <= limit else None

    def _refuse_duplicates(self, seeds: Sequence[int]) -> None:
        def holders() -> set[int]:
            return {
                portion.file
                for portion in self._mine
                for window in read_keys(self._reader, portion, sizes=False)
                if seeds[0] in window.seeds
            }

        inputs = self._reader.inputs
        parts = self._ranks.allgather(collectively(self._ranks, holders))
        found = {inputs.files[number].path for part in parts for number in part}
        files = [str(path) for path in inputs.given if path in found]
        raise DatasetError(
            f"{' and '.join(files)}: {len(seeds)} traces are in the dataset twice (the first has seed {seeds[0]}); "
            "give every trace file once, and generate parts with different numbers"
        )

    def _readable_in_place(
        self, groups: Groups, cuts: Cuts, splitters: Splitters, nearly_sorted: set[Portion]
    ) -> RangesByBucket:
        """Return the ranges of inputs that consist of few of them."""
        if len(cuts.edges) == 2:
            return {0: list(self._pieces)}
        all_nearly_sorted = set().union(*self._ranks.allgather(nearly_sorted))
        unsorted_files = {piece.file for piece in self._pieces if piece not in all_nearly_sorted}
        found = self._ranges_by_bucket(
            groups, splitters, [piece for piece in self._mine if piece.file not in unsorted_files]
        )
        count = Counter(portion.file for ranges in found.values() for portion in ranges)
        files = self._reader.inputs.files
        in_place = {file for file, n in count.items() if (n - 1) * _MIN_DIRECT_READ_TRACES <= files[file].traces}
        return {bucket: [p for p in ranges if p.file in in_place] for bucket, ranges in found.items()}

    def _ranges_by_bucket(self, groups: Groups, splitters: Splitters, mine: Sequence[Portion]) -> RangesByBucket:
        """Return all ranges of the inputs, given the parts `mine` of this rank."""

        def own() -> list[tuple[int, Portion]]:
            return [row for portion in mine for row in _ranges_of(self._reader, portion, groups, splitters)]

        found: RangesByBucket = {}
        for part in self._ranks.allgather(collectively(self._ranks, own)):
            for bucket, portion in part:
                ranges = found.setdefault(bucket, [])
                last = ranges[-1] if ranges else None
                if last is not None and (last.file, last.stop) == (portion.file, portion.start):
                    ranges[-1] = Portion(portion.file, last.start, portion.stop)
                else:
                    ranges.append(portion)
        return found


def _ranges_of(
    reader: InputReader, portion: Portion, groups: Groups, splitters: Splitters
) -> Iterator[tuple[int, Portion]]:
    """Yield (bucket, range) of a portion: maximal ranges of consecutive traces of one bucket."""
    start = portion.start
    for window in read_keys(reader, portion, sizes=False):
        distinct, place = np.unique(window.names, return_inverse=True)
        bucket = splitters.buckets(groups.ranks(distinct)[place], window.seeds)
        ends = [*(np.flatnonzero(np.diff(bucket)) + 1).tolist(), len(bucket)]
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            yield int(bucket[begin]), Portion(portion.file, start + begin, start + end)
        start += len(bucket)
