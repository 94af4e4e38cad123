# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The second pass of sorting: collect the traces of a bucket, sort them, write them to shards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from etalumis.errors import DatasetError
from etalumis.progress import Progress
from etalumis.traces.block import Block
from etalumis.traces.format import Provenance
from etalumis.traces.segments import Segment
from etalumis.traces.sorting import sort_plan as sort_plan
from etalumis.traces.sorting.input_reader import InputReader
from etalumis.traces.sorting.inputs import Portion
from etalumis.traces.sorting.keys import Groups
from etalumis.traces.sorting.sort_plan import Cuts, Unit
from etalumis.traces.sorting.spill import Spill
from etalumis.traces.writer import ShardWriter, open_shard


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard."""
    return folder / f"shard-{number:05d}.h5"


class ShardGatherer:
    """Writes shards from spill files and from ranges of the inputs.

    Parameters
    ----------
    reader, groups, cuts
        The inputs, the order of their groups, and the bucket boundaries.
    spills
        All spill files.
    direct
        By bucket: ranges of the inputs that belong to it.
    """

    def __init__(
        self,
        reader: InputReader,
        groups: Groups,
        cuts: Cuts,
        spills: Sequence[Spill],
        direct: Mapping[int, Sequence[Portion]],
    ) -> None:
        self._reader, self._groups, self._cuts = reader, groups, cuts
        self._spills, self._direct = spills, direct
        self._provenance = replace(reader.inputs.provenance, producer=Provenance().producer)

    def write(self, unit: Unit, folder: Path, missing: Sequence[int], progress: Progress) -> None:
        """Write the shards `missing` of a work unit."""
        if len(unit.buckets) > 1:
            with open_shard(shard_path(folder, unit.shards[0]), self._provenance) as writer:
                for bucket in unit.buckets:
                    self._append(writer, self._ordered(bucket), progress)
            return
        segment = self._collected(unit.buckets[0])
        order = self._order(segment)
        for number in missing:
            start, stop = (place - self._cuts.edges[unit.buckets[0]] for place in self._cuts.shard(number))
            with open_shard(shard_path(folder, number), self._provenance) as writer:
                self._append(writer, self._slices(segment, order[start:stop]), progress)

    def _ordered(self, bucket: int) -> Iterator[Block]:
        segment = self._collected(bucket)
        yield from self._slices(segment, self._order(segment))

    @staticmethod
    def _append(writer: ShardWriter, blocks: Iterator[Block], progress: Progress) -> None:
        for block in blocks:
            writer.append(block)
            progress.update(len(block))

    def _slices(self, segment: Segment, order: np.ndarray) -> Iterator[Block]:
        block = segment.block(self._reader.inputs.dictionary)
        for start in range(0, len(order), sort_plan.SLICE_TRACES):
            yield block.take(order[start : start + sort_plan.SLICE_TRACES])

    def _order(self, segment: Segment) -> np.ndarray:
        groups = self._groups.ranks_of(segment.columns["traces/type"], segment.lengths["entries"])
        return np.lexsort((segment.columns["traces/seed"], groups))

    def _collected(self, bucket: int) -> Segment:
        """Return the unsorted traces of a bucket."""
        pieces = [(spill, piece) for spill in self._spills for piece in spill.pieces(bucket)]
        ranges = [(portion, self._reader.rows(portion)) for portion in self._direct.get(bucket, ())]
        sizes = [(piece.traces, piece.rows) for _, piece in pieces] + [(len(p), rows) for p, rows in ranges]
        traces = sum(count for count, _ in sizes)
        expected = self._cuts.edges[bucket + 1] - self._cuts.edges[bucket]
        if traces != expected:
            raise DatasetError(
                f"bucket {bucket} has {traces} traces, expected {expected}: inputs or spill files were "
                "replaced meanwhile; remove the output folder and sort again"
            )
        groups = self._reader.schema.lists
        rows = {name: sum(found[name] for _, found in sizes) for name in groups}
        segment = Segment.allocate(self._reader.schema, traces, rows)
        start, first = 0, dict.fromkeys(groups, 0)
        for number, (count, found) in enumerate(sizes):
            last = {name: first[name] + found[name] for name in groups}
            place = segment.part(start, start + count, first, last)
            if number < len(pieces):
                spill, piece = pieces[number]
                spill.fill(place, piece)
            else:
                self._reader.fill(place, ranges[number - len(pieces)][0])
            start, first = start + count, last
        return segment
