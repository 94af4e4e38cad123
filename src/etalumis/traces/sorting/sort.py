# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sort trace files by trace type and length into shards: an external, parallel, restartable sort.

1. Keys. Every rank reads the keys of its share of the inputs. Together they build the table of all groups (type,
length)
   and find the keys that divide the sorted set into buckets that fit into memory.
2. First pass. Every rank reads its portions of the inputs once, checks their checksums, and partitions the traces by
   bucket into spill files. Files that are already sorted, and sets that fit into the memory of one rank, skip this
   pass.
3. Second pass. Every shard is written by one rank, bucket by bucket.

Hence each byte is read at most twice and written at most twice; the keys, about 1 % of the data, are read once more.
There are two exceptions. A file that is divided between ranks, or that an interrupted call read in part, is read again
for its checksum. The traces of a damaged spill file are read again to rewrite it.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from etalumis.errors import DatasetError, StorageError
from etalumis.files import digest
from etalumis.progress import Progress
from etalumis.refusals import FULL
from etalumis.traces.sorting.collective import Communicator, SingleRank, collectively
from etalumis.traces.sorting.first_pass import FirstPass, open_spills
from etalumis.traces.sorting.folder import Folder
from etalumis.traces.sorting.gather import ShardGatherer
from etalumis.traces.sorting.input_reader import AlteredInput, InputReader
from etalumis.traces.sorting.inputs import SortInputs
from etalumis.traces.sorting.order import Limits, Order, determine_order
from etalumis.traces.sorting.sort_plan import Cuts, segment_bytes, share
from etalumis.traces.sorting.spill import AlteredSpill
from etalumis.traces.target import claimed

logger = logging.getLogger(__name__)

T = TypeVar("T")


def sort(
    inputs: Sequence[Path],
    output: Path,
    shard_traces: int,
    memory_mb: int = 2000,
    comm: Communicator | None = None,
    mix: bool = False,
) -> None:
    """Sort traces into `output`/shard-00000.h5 ... and write `output`/index.json last.

    The order is total: most frequent trace type first (then by type), shorter traces first, then by seed. The shards
    depend only on the set of traces, not on the number of ranks or the grouping of traces into files. A call after an
    interruption keeps complete shards and spill files, even with another number of ranks.

    Merging is the same operation: sorted inputs are read directly, without spill files, and the result equals that of
    sorting all traces at once. So jobs can sort their shares separately, and another job merges them.

    Parameters
    ----------
    inputs
        Trace files, indices or folders with an index.
    output
        A new or empty folder, or that of an interrupted call.
    shard_traces
        Number of traces per shard (the last one may have fewer).
    memory_mb
        Maximum memory of a rank, at least about 300: interpreter, keys (20 bytes per trace of its share), the tables of
        types and addresses, and traces.
    comm
        MPI communicator; None for a single process. A collective call.
    mix
        Accept inputs of different builds and configurations of the simulator.

    Raises
    ------
    DatasetError
        If an input is damaged, inputs do not belong together, there are duplicate traces, or `output` has other content
        or is being written by another process.
    StorageError
        If a file cannot be read or written, for example because the disk is full.
    """
    ranks = comm if comm is not None else SingleRank()
    with ExitStack() as stack:
        # first, so that nothing is locked or created for inputs that cannot be sorted
        found = collectively(ranks, lambda: SortInputs(inputs, mix))
        claim = claimed(Path(output), "sorted set", "sorting into", folder=True)
        collectively(ranks, lambda: stack.enter_context(claim) if ranks.Get_rank() == 0 else None)
        reader = InputReader(found)
        stack.callback(reader.close)
        _Sorting(reader, Path(output), shard_traces, memory_mb, ranks).run()


class _Sorting:
    """One call of `sort`, on one rank."""

    def __init__(
        self, reader: InputReader, output: Path, shard_traces: int, memory_mb: int, ranks: Communicator
    ) -> None:
        self._reader, self._inputs, self._ranks = reader, reader.inputs, ranks
        self._rank, self._size = ranks.Get_rank(), ranks.Get_size()
        self._shard_traces = shard_traces
        self._segment_bytes = segment_bytes(memory_mb, -(-self._inputs.traces // self._size))
        checksums = [file.checksum for file in self._inputs.files]
        self._folder = Folder(output, digest({"shard_traces": shard_traces, "inputs": checksums}))

    def run(self) -> None:
        """Sort, or complete an interrupted sort."""
        # all ranks inspect the folder before rank 0 changes it
        if any(self._ranks.allgather(collectively(self._ranks, self._folder.is_finished))):
            logger.info("%s: already sorted, nothing to do", self._folder.path)
            self._on_first(self._folder.clean)
            return
        if not self._inputs.traces:
            raise DatasetError(f"{self._inputs.files[0].path}: the inputs contain no traces; there is nothing to sort")
        before = collectively(self._ranks, self._folder.plan)
        limits = Limits(self._shard_traces, self._segment_bytes)
        order = determine_order(self._reader, limits, self._folder.digest, before, self._ranks)
        self._check_direct(order)
        self._on_first(lambda: self._folder.prepare(order.plan))
        rewritten: set[Path] = set()
        while len(whole := self._whole_shards(order.cuts)) < order.cuts.shards:
            self._warn_if_low_on_space(order)
            self._partition(order)
            damaged = self._write_shards(order, whole)
            self._on_first(partial(_remove_damaged, damaged, rewritten))
            rewritten |= damaged.keys()
            if not damaged:
                break
        self._on_first(lambda: self._folder.write_index(self._inputs.provenance, order.groups, order.cuts))
        self._on_first(self._folder.clean)

    def _on_first(self, step: Callable[[], None]) -> None:
        collectively(self._ranks, step if self._rank == 0 else lambda: None)

    def _own_share(self, sizes: Sequence[int]) -> range:
        return share(sizes, self._rank, self._size)

    def _check_direct(self, order: Order) -> None:
        """Check the inputs that are read directly in ranges, before they are used."""
        if len(order.cuts.edges) == 2:
            return  # they are read completely, and checked, before the first shard is written
        files = sorted({portion.file for ranges in order.direct.values() for portion in ranges})
        self._check(files)

    def _check(self, files: Sequence[int]) -> None:
        mine = self._own_share([self._inputs.files[number].file_bytes for number in files])

        def check() -> None:
            for number in mine:
                self._reader.shard(files[number]).check_content()

        collectively(self._ranks, check)

    def _whole_shards(self, cuts: Cuts) -> set[int]:
        numbers = self._own_share([1] * cuts.shards)
        parts = self._ranks.allgather(collectively(self._ranks, lambda: self._folder.whole_shards(cuts, numbers)))
        return {number for part in parts for number in part}

    def _spilled_bytes(self, order: Order) -> float:
        share_of_traces = sum(len(portion) for portion in order.plan.spilled) / self._inputs.traces
        return share_of_traces * float(order.groups.nbytes.sum())

    def _warn_if_low_on_space(self, order: Order) -> None:
        if self._rank == 0:
            needed, free = self._space(order)
            if free < needed:
                logger.warning("%s: %s", self._folder.path, _space_text(needed, free))

    def _space(self, order: Order) -> tuple[float, float]:
        needed = self._spilled_bytes(order) + self._inputs.file_bytes
        return needed, float(shutil.disk_usage(self._folder.path).free)

    def _reporting_space(self, order: Order, step: Callable[[], T]) -> T:
        """Run a step that writes; if the disk is full, add the required space to the error."""
        try:
            return step()
        except StorageError as error:
            if error.errno not in FULL:
                raise
            raise StorageError(f"{error} ({_space_text(*self._space(order))})") from error

    def _partition(self, order: Order) -> None:
        """Write the missing spill files, and ensure that every input has been checked."""
        spilled = order.plan.spilled
        if not spilled:
            return
        mine = [(number, spilled[number]) for number in self._own_share([len(portion) for portion in spilled])]
        first = FirstPass(self._reader, self._folder.path, order.plan, order.groups, order.splitters)
        try:
            write = partial(first.write, mine, self._segment_bytes)
            checked = self._ranks.allgather(collectively(self._ranks, lambda: self._reporting_space(order, write)))
        except AlteredInput:
            self._on_first(self._folder.drop_products)
            raise
        unchecked = {portion.file for portion in spilled} - set().union(*checked)
        try:
            self._check(sorted(unchecked))
        except DatasetError:
            self._on_first(self._folder.drop_products)
            raise

    def _write_shards(self, order: Order, whole: set[int]) -> dict[Path, str]:
        """Write all missing shards except those from damaged spill files; return these files, with the reasons."""
        spills = collectively(self._ranks, lambda: open_spills(self._folder.path, order.plan, self._inputs.schema))
        gatherer = ShardGatherer(self._reader, order.groups, order.cuts, spills, order.direct)
        work = [(unit, [n for n in unit.shards if n not in whole]) for unit in order.cuts.units()]
        work = [(unit, missing) for unit, missing in work if missing]
        sizes = [sum(stop - start for start, stop in map(order.cuts.shard, missing)) for _, missing in work]
        mine = self._own_share(sizes)

        def write() -> dict[Path, str]:
            damaged = {}
            with Progress(sum(sizes[i] for i in mine), "traces", f"sorting into {self._folder.path}") as progress:
                for number in mine:
                    try:
                        gatherer.write(work[number][0], self._folder.path, work[number][1], progress)
                    except AlteredSpill as error:
                        damaged[error.path] = str(error)
            return damaged

        try:
            found = self._ranks.allgather(collectively(self._ranks, lambda: self._reporting_space(order, write)))
            return {path: why for damaged in found for path, why in damaged.items()}
        except AlteredInput:
            self._on_first(self._folder.drop_products)
            raise


def _remove_damaged(damaged: Mapping[Path, str], rewritten: Set[Path]) -> None:
    """Remove damaged spill files, so that they are written again; raise if one of them was already rewritten."""
    for path, why in sorted(damaged.items()):
        path.unlink(missing_ok=True)
        logger.warning("%s; it was removed", why)
    again = sorted(damaged[path] for path in damaged.keys() & rewritten)
    if again:
        raise DatasetError(
            f"{again[0]}; it was rewritten and is damaged again: the disk or the memory of this machine may "
            "be failing; it was removed, and the same command resumes"
        )


def _space_text(needed: float, free: float) -> str:
    return f"sorting needs about {needed / 1e6:,.0f} MB for spill files and shards, and {free / 1e6:,.0f} MB are free"
