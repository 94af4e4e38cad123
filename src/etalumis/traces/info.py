# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Summary of trace files, in bounded memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from etalumis.names import from_link_name
from etalumis.traces.block import Layout, TagLayout
from etalumis.traces.format import TYPE_BYTES, Provenance, reading
from etalumis.traces.index import NAME, read_index
from etalumis.traces.lengths import LengthCounts, add_lengths
from etalumis.traces.reading.shard import Shard
from etalumis.traces.sources import Sources

_ROWS = 1 << 20
_DICTIONARY = ("addresses", "names", "distributions")


@dataclass(frozen=True)
class Summary:
    """Summary of a dataset.

    Attributes
    ----------
    files, traces, entries, draws, addresses, distributions
        Counts. `entries` are the accepted ones, `draws` all draws of the runs.
    rejected
        Number of stored entries of rejected repetitions; None if they are not kept.
    sorted_set
        Whether it is a single sorted set with an index.
    file_bytes, memory_bytes
        Size of all files, and of all uncompressed columns.
    stored
        Compressed bytes in the files by column group: "entries", "observations/<name>", "tags", "traces",
        "dictionary" (addresses, names and distributions), "rejected", "structure" (HDF5 metadata and checksums).
    types
        Number of traces by hexadecimal type, the most frequent first.
    lengths
        Histogram of accepted entries.
    layouts, tags
        The observe statements and the tags.
    provenance
        Provenance of the union of all files.
    """

    files: int
    sorted_set: bool
    file_bytes: int
    memory_bytes: int
    stored: dict[str, int]
    traces: int
    entries: int
    rejected: int | None
    draws: int
    addresses: int
    distributions: int
    types: dict[str, int]
    lengths: LengthCounts
    layouts: tuple[Layout, ...]
    tags: dict[str, TagLayout]
    provenance: Provenance

    def as_dict(self) -> dict[str, Any]:
        """Return everything as a JSON-able dictionary."""
        lengths = zip(self.lengths.length.tolist(), self.lengths.traces.tolist(), strict=True)
        return {
            "traces": self.traces, "files": self.files, "sorted": self.sorted_set, "types": len(self.types),
            "addresses": self.addresses, "distributions": self.distributions, "entries": self.entries,
            "rejected_entries": self.rejected, "draws": self.draws, "longest": self.lengths.longest,
            "file_bytes": self.file_bytes, "memory_bytes": self.memory_bytes,
            "bytes_per_trace": self.file_bytes / self.traces if self.traces else None,
            "stored_bytes": self.stored,
            "observations": [{"name": x.name, "shape": x.shape, "storage": x.storage} for x in self.layouts],
            "tags": [{"name": name, "rows": x.ragged, "shape": x.shape} for name, x in sorted(self.tags.items())],
            "provenance": self.provenance.as_dict(),
            "trace_types": [{"type": kind, "traces": count} for kind, count in self.types.items()],
            "lengths": {"width": self.lengths.width, "counts": [list(row) for row in lengths]},
        }  # fmt: skip


def summarise(paths: Sequence[Path], mix: bool = False) -> Summary:
    """Return the summary of a dataset.

    Only the columns `type`, `offset` and `draws` are read, in windows. Types and lengths of a sorted set come from its
    index.

    Parameters
    ----------
    paths
        Trace files, indices or folders with an index.
    mix
        Accept files of different builds and configurations.

    Raises
    ------
    DatasetError
        If a file is damaged, or the files do not belong together.
    """
    sources = Sources(paths, mix)
    content = _index_of(paths)
    if content is None:
        types, lengths = _count(sources.shards)
    else:
        types = {str(row["type"]): int(row["traces"]) for row in content["types"]}
        lengths = LengthCounts.of_index(content)
    stored: Counter[str] = Counter()
    for shard in sources.shards:
        stored.update(_stored(shard.path))
    rejected = [shard.rows("rejected/value") for shard in sources.shards if "rejected/value" in shard.columns]
    return Summary(
        files=len(sources.shards),
        sorted_set=content is not None,
        file_bytes=stored.total(),
        memory_bytes=sum(shard.nbytes for shard in sources.shards),
        stored=dict(stored.most_common()),
        traces=sum(len(shard) for shard in sources.shards),
        entries=sum(shard.entries for shard in sources.shards),
        rejected=sum(rejected) if rejected else None,
        draws=sum(_sum(shard, "traces/draws") for shard in sources.shards),
        addresses=len(sources.dictionary.addresses),
        distributions=len(sources.dictionary.distributions),
        types=types,
        lengths=lengths,
        layouts=sources.layouts,
        tags=sources.tag_layouts,
        provenance=sources.provenance,
    )


def frequencies(paths: Sequence[Path], mix: bool = False) -> tuple[np.ndarray, LengthCounts]:
    """Return (int64 (type,) traces of each type, lengths) of a dataset, for a figure."""
    content = _index_of(paths)
    if content is not None:
        return np.array([row["traces"] for row in content["types"]], np.int64), LengthCounts.of_index(content)
    types, lengths = _count(Sources(paths, mix).shards)
    return np.array(list(types.values()), np.int64), lengths


def _index_of(paths: Sequence[Path]) -> dict[str, Any] | None:
    """Return the index if the dataset is a single sorted set."""
    if len(paths) == 1:
        path = Path(paths[0])
        if path.is_dir() or path.suffix == ".json":
            return read_index(path / NAME if path.is_dir() else path)
    return None


def _count(shards: Sequence[Shard]) -> tuple[dict[str, int], LengthCounts]:
    types: Counter[bytes] = Counter()
    lengths: Counter[int] = Counter()
    for shard in shards:
        for start in range(0, len(shard), _ROWS):
            stop = min(start + _ROWS, len(shard))
            rows = np.ascontiguousarray(shard.slice("traces/type", start, stop)).view(f"V{TYPE_BYTES}").reshape(-1)
            kinds, counts = np.unique(rows, return_counts=True)
            types.update(dict(zip(map(bytes, kinds), counts.tolist(), strict=True)))
            add_lengths(lengths, shard.slice("traces/offset", start, stop + 1))
    ordered = sorted(types.items(), key=lambda item: (-item[1], item[0]))
    return {kind.hex(): count for kind, count in ordered}, LengthCounts.of_counts(lengths)


def _sum(shard: Shard, column: str) -> int:
    return sum(
        int(shard.slice(column, start, min(start + _ROWS, len(shard))).sum()) for start in range(0, len(shard), _ROWS)
    )


def _stored(path: Path) -> Counter[str]:
    """Return the bytes of a file by column group."""
    stored: Counter[str] = Counter()

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            stored[_group(name)] += item.id.get_storage_size()

    with reading(path), h5py.File(path, "r") as file:
        file.visititems(visit)
    stored["structure"] = path.stat().st_size - stored.total()
    return stored


def _group(column: str) -> str:
    top, _, rest = column.partition("/")
    if top in _DICTIONARY:
        return "dictionary"
    return f"{top}/{from_link_name(rest.partition('/')[0])}" if top == "observations" else top
