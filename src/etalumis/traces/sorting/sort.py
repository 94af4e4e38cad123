# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sort trace files by trace type and length into shards: external, parallel, restartable (SC'19, section 4.4.3).

1. Keys. Every rank reads those of its share of the inputs. All make one table of the groups (type, length) of them, and
   find together the keys at which the sorted set is cut into buckets that fit into memory.
2. First pass. Every rank reads its portions of the inputs once, checks them on the way, and sets the traces aside by
   bucket in spill files. Files that are sorted already skip it, as does a set that fits into the memory of one rank.
3. Second pass. Every shard is made by one rank, bucket by bucket.

So each byte of the set is read twice at most and written twice at most; the keys, one in a hundred, are read again.
There are two exceptions: a file that is cut between ranks, or that an interrupted call had read a part of, is read once
more for its checksum; and what a damaged spill file held is read again to make that file anew.
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
from etalumis.traces.sorting.gather import Gatherer
from etalumis.traces.sorting.input_reader import AlteredInput, InputReader
from etalumis.traces.sorting.inputs import SortInputs
from etalumis.traces.sorting.order import Limits, Order, agree
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

    The order is total: most frequent trace type first (then by type), shorter traces first, then by seed. It depends on
    the set of traces only, so any number of ranks, and any grouping of the traces into files, gives the same bytes.
    Called again after an interruption it keeps finished shards and spill files, whatever the number of ranks.

    Merging is the same: sorted inputs are read where they are, without spill files, and what comes out is what sorting
    all traces at once would give. So scattered jobs can each sort their share, and one joins what they made.

    Parameters
    ----------
    inputs
        Trace files, indices or folders with an index.
    output
        A new or empty folder, or one that an interrupted call left behind.
    shard_traces
        Traces in a shard (the last one may have fewer).
    memory_mb
        Memory that a rank may use, from about 300 on: interpreter, keys (20 bytes for each trace of the rank's share),
        the table of types and addresses, and the traces it holds at a time.
    comm
        MPI communicator; without one the caller is alone. A collective call.
    mix
        Let inputs of other builds and configurations of the simulator pass.

    Raises
    ------
    DatasetError
        Where an input is damaged, inputs do not belong together, a trace is there twice, `output` holds something else
        or is being written by somebody else, or the disk is full.
    """
    ranks = comm if comm is not None else SingleRank()
    with ExitStack() as stack:
        # opened first: nothing is locked or made for inputs that cannot be sorted
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
        """Do all of it, or what is left."""
        # all ranks have looked at the folder before rank 0 changes it
        if any(self._ranks.allgather(collectively(self._ranks, self._folder.is_finished))):
            logger.info("%s: already sorted, nothing to do", self._folder.path)
            self._on_first(self._folder.clean)
            return
        if not self._inputs.traces:
            raise DatasetError(f"{self._inputs.files[0].path}: the inputs hold no trace; there is nothing to sort")
        before = collectively(self._ranks, self._folder.plan)
        limits = Limits(self._shard_traces, self._segment_bytes)
        order = agree(self._reader, limits, self._folder.digest, before, self._ranks)
        self._check_direct(order)
        self._on_first(lambda: self._folder.prepare(order.plan))
        remade: set[Path] = set()
        while len(whole := self._whole_shards(order.cuts)) < order.cuts.shards:
            self._warn_of_little_room(order)
            self._set_aside(order)
            damaged = self._write_shards(order, whole)
            self._on_first(partial(_remove_damaged, damaged, remade))
            remade |= damaged.keys()
            if not damaged:
                break
        self._on_first(lambda: self._folder.write_index(self._inputs.provenance, order.groups, order.cuts))
        self._on_first(self._folder.clean)

    def _on_first(self, step: Callable[[], None]) -> None:
        collectively(self._ranks, step if self._rank == 0 else lambda: None)

    def _mine(self, sizes: Sequence[int]) -> range:
        return share(sizes, self._rank, self._size)

    def _check_direct(self, order: Order) -> None:
        """Check the inputs that are read in stretches, before anything is made of them."""
        if len(order.cuts.edges) == 2:
            return  # they are read as a whole, and checked on the way, before the first shard is begun
        files = sorted({portion.file for stretches in order.direct.values() for portion in stretches})
        self._check(files)

    def _check(self, files: Sequence[int]) -> None:
        mine = self._mine([self._inputs.files[number].file_bytes for number in files])

        def check() -> None:
            for number in mine:
                self._reader.shard(files[number]).check_content()

        collectively(self._ranks, check)

    def _whole_shards(self, cuts: Cuts) -> set[int]:
        numbers = self._mine([1] * cuts.shards)
        parts = self._ranks.allgather(collectively(self._ranks, lambda: self._folder.whole_shards(cuts, numbers)))
        return {number for part in parts for number in part}

    def _spilled_bytes(self, order: Order) -> float:
        share_of_traces = sum(len(portion) for portion in order.plan.spilled) / self._inputs.traces
        return share_of_traces * float(order.groups.nbytes.sum())

    def _warn_of_little_room(self, order: Order) -> None:
        if self._rank == 0:
            wanted, free = self._room(order)
            if free < wanted:
                logger.warning("%s: %s", self._folder.path, _room_text(wanted, free))

    def _room(self, order: Order) -> tuple[float, float]:
        wanted = self._spilled_bytes(order) + self._inputs.file_bytes
        return wanted, float(shutil.disk_usage(self._folder.path).free)

    def _in_room(self, order: Order, step: Callable[[], T]) -> T:
        """Run a step that writes, and say how much room it wants where that is not there."""
        try:
            return step()
        except StorageError as error:
            if error.errno not in FULL:
                raise
            raise StorageError(f"{error} ({_room_text(*self._room(order))})") from error

    def _set_aside(self, order: Order) -> None:
        """Make the spill files that are not there yet, and see that every input has been checked."""
        spilled = order.plan.spilled
        if not spilled:
            return
        mine = [(number, spilled[number]) for number in self._mine([len(portion) for portion in spilled])]
        first = FirstPass(self._reader, self._folder.path, order.plan, order.groups, order.splitters)
        try:
            make = partial(first.make, mine, self._segment_bytes)
            checked = self._ranks.allgather(collectively(self._ranks, lambda: self._in_room(order, make)))
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
        """Write all shards but those that are `whole` or come from damaged spill files; return these files and why."""
        spills = collectively(self._ranks, lambda: open_spills(self._folder.path, order.plan, self._inputs.schema))
        gatherer = Gatherer(self._reader, order.groups, order.cuts, spills, order.direct)
        work = [(unit, [n for n in unit.shards if n not in whole]) for unit in order.cuts.units()]
        work = [(unit, missing) for unit, missing in work if missing]
        sizes = [sum(stop - start for start, stop in map(order.cuts.shard, missing)) for _, missing in work]
        mine = self._mine(sizes)

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
            found = self._ranks.allgather(collectively(self._ranks, lambda: self._in_room(order, write)))
            return {path: why for damaged in found for path, why in damaged.items()}
        except AlteredInput:
            self._on_first(self._folder.drop_products)
            raise


def _remove_damaged(damaged: Mapping[Path, str], remade: Set[Path]) -> None:
    """Remove damaged spill files, so that they are made again; raise where one of them was made again already."""
    for path, why in sorted(damaged.items()):
        path.unlink(missing_ok=True)
        logger.warning("%s; it was removed", why)
    again = sorted(damaged[path] for path in damaged.keys() & remade)
    if again:
        raise DatasetError(
            f"{again[0]}; it was made a second time and is damaged again: the disk or the memory of this machine may "
            "be failing; it was removed, and the same command goes on"
        )


def _room_text(wanted: float, free: float) -> str:
    return (
        f"the sorting wants about {wanted / 1e6:,.0f} MB for spill files and shards, and {free / 1e6:,.0f} MB are free"
    )
