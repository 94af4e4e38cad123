# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sort trace files by trace type and length into shards, in parallel and in bounded memory (SC'19, section 4.4.3).

Keys come first: every rank reads those of its share of the input files (and checks these files), and all ranks make
the same order of them. Each output shard is then gathered by one rank, window by window of the inputs.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.address import AddressTable
from etalumis.errors import DatasetError
from etalumis.files import digest, write_json_atomic
from etalumis.progress import Progress
from etalumis.traces.format import Provenance
from etalumis.traces.gather import gather
from etalumis.traces.index import FORMAT, NAME, VERSION, read_index, shard_files
from etalumis.traces.keys import Keys, TypeTable, concatenate, read_keys, sort_keys
from etalumis.traces.shard import Shard
from etalumis.traces.sources import Sources
from etalumis.traces.together import Alone, Communicator, together
from etalumis.traces.writer import open_shard

logger = logging.getLogger(__name__)

PLAN = "plan.json"
PLAN_FORMAT = "etalumis-sort-plan"


def sort(
    inputs: Sequence[Path],
    output: Path,
    shard_traces: int,
    memory_mb: int = 2000,
    comm: Communicator | None = None,
) -> None:
    """Sort traces into `output`/shard-00000.h5 ... and write `output`/index.json last.

    The order is total: most frequent trace type first (then by type), shorter traces first, then by seed. It depends on
    the set of traces only, so any number of ranks gives the same bytes. Shards that an interrupted call has finished
    are kept.

    Parameters
    ----------
    inputs
        Trace files, indices or folders with an index.
    output
        A new or empty folder, or one that an interrupted call left behind.
    shard_traces
        Traces in a shard (the last one may have fewer).
    memory_mb
        Memory for the traces a rank holds at a time; the keys (about 60 bytes a trace) come on top.
    comm
        MPI communicator; without one the caller is alone. A collective call.

    Raises
    ------
    DatasetError
        Where an input is damaged, inputs do not belong together, a trace is there twice, or `output` holds something
        else.
    """
    ranks = comm if comm is not None else Alone()
    rank, size = ranks.Get_rank(), ranks.Get_size()
    sources = together(ranks, lambda: Sources(inputs))
    mine = range(rank, len(sources.shards), size)
    parts = together(ranks, lambda: [_checked_keys(sources.shards[number], number) for number in mine])
    paths = [shard.path for shard in sources.shards]
    keys = concatenate([part for of_rank in ranks.allgather(parts) for part in of_rank])
    ordered, types = together(ranks, lambda: sort_keys(keys, paths))
    plan = {
        "format": PLAN_FORMAT,
        "digest": digest({"shard_traces": shard_traces, "inputs": sorted(s.checksum for s in sources.shards)}),
    }
    # all ranks have looked at the folder before rank 0 changes it
    finished = together(ranks, lambda: _is_finished(output, plan))
    if ranks.allgather(finished)[0]:
        logger.info("%s: already sorted, nothing to do", output)
        return
    together(ranks, lambda: _prepare(output, plan) if rank == 0 else None)
    shards = range(rank, -(-len(ordered) // shard_traces), size)
    together(ranks, lambda: _write_shards(sources, ordered, output, shard_traces, memory_mb, shards))
    together(ranks, lambda: _write_index(output, sources, ordered, types, shard_traces, plan) if rank == 0 else None)


def _checked_keys(shard: Shard, number: int) -> Keys:
    shard.check_content()
    return read_keys(shard, number)


def _is_finished(output: Path, plan: dict[str, Any]) -> bool:
    """Return whether this very sorting is done; refuse a folder that holds anything but a part of a sorting."""
    if not output.exists():
        return False
    names = {path.name for path in output.iterdir()}
    foreign = sorted(name for name in names - {NAME, PLAN} if not _is_ours(name))
    if foreign or (names and PLAN not in names):
        what = foreign[0] if foreign else sorted(names)[0]
        raise DatasetError(f"{output}: not empty (it holds {what}); name a new folder or remove this one")
    if NAME not in names:
        return False
    if read_index(output / NAME).get("plan") != plan["digest"]:
        raise DatasetError(
            f"{output}: holds other traces or shards of another size; name a new folder or remove this one"
        )
    shard_files([output])
    return True


def _is_ours(name: str) -> bool:
    return name.startswith(("shard-", ".shard-")) or (name.startswith(f".{NAME}.") and name.endswith(".tmp"))


def _prepare(output: Path, plan: dict[str, Any]) -> None:
    """Keep the finished shards of the same plan; remove what an interrupted call of another plan left."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / PLAN
    same = path.exists() and path.read_text(encoding="utf-8") == _plan_text(plan)
    for left in output.iterdir():
        if left.name.startswith(".") or not same:
            left.unlink()
    write_json_atomic(path, plan)


def _plan_text(plan: dict[str, Any]) -> str:
    return json.dumps(plan, indent=2) + "\n"


def _shard_path(output: Path, number: int) -> Path:
    return output / f"shard-{number:05d}.h5"


def _write_shards(
    sources: Sources, ordered: Keys, output: Path, shard_traces: int, memory_mb: int, numbers: Sequence[int]
) -> None:
    provenance = replace(sources.provenance, producer=Provenance().producer)
    total = sum(len(_part(ordered, number, shard_traces)) for number in numbers)
    with Progress(total, "traces", f"sorting into {output}") as progress:
        for number in numbers:
            keys = _part(ordered, number, shard_traces)
            path = _shard_path(output, number)
            if not _is_whole(path, keys):
                with open_shard(path, provenance) as writer:
                    for block in gather(sources, keys, memory_mb):
                        writer.append(block)
            progress.update(len(keys))


def _is_whole(path: Path, keys: Keys) -> bool:
    """Return whether an interrupted call has finished this shard."""
    if not path.exists():
        return False
    try:
        with Shard(path) as shard:
            shard.check_content()
            return np.array_equal(shard.whole("traces/seed"), keys.seed)
    except DatasetError as error:
        logger.warning("%s; writing it again", error)
        return False


def _part(ordered: Keys, number: int, shard_traces: int) -> Keys:
    return ordered.slice(number * shard_traces, (number + 1) * shard_traces)


def _write_index(
    output: Path, sources: Sources, ordered: Keys, types: TypeTable, shard_traces: int, plan: dict[str, Any]
) -> None:
    count = -(-len(ordered) // shard_traces)
    shards, addresses = [], AddressTable()
    for number in range(count):
        path = _shard_path(output, number)
        with Shard(path) as shard:
            for name in shard.dictionary.addresses.names():
                addresses.intern(name)
            shards.append(
                {"file": path.name, "traces": len(shard), "entries": shard.entries, "checksum": shard.checksum}
            )
    write_json_atomic(
        output / NAME,
        {
            "format": FORMAT,
            "version": VERSION,
            "plan": plan["digest"],
            **replace(sources.provenance, producer=Provenance().producer).as_dict(),
            "traces": len(ordered),
            "entries": int(ordered.length.sum()),
            "addresses": len(addresses),
            "shards": shards,
            "types": [{"type": t, "traces": n} for t, n in zip(types.types, types.counts, strict=True)],
        },
    )
    logger.info(
        "%s: %d traces of %d types in %d shards, %d addresses",
        output, len(ordered), len(types.types), count, len(addresses),
    )  # fmt: skip
