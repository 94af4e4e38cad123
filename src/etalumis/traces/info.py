# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is in trace files, in numbers and as text for a terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etalumis.traces.format import Provenance
from etalumis.traces.sources import Sources

BAR = "█"
_BINS = 12
_BAR_WIDTH = 40
_SHOWN_TYPES = 10


@dataclass(frozen=True)
class Summary:
    """Numbers of a dataset; `types` maps the hexadecimal type to the number of its traces, the most frequent first."""

    files: int
    file_bytes: int
    memory_bytes: int
    traces: int
    entries: int
    draws: int
    addresses: int
    distributions: int
    types: dict[str, int]
    lengths: np.ndarray
    observations: list[str]
    tags: list[str]
    provenance: Provenance


def summarise(paths: Sequence[Path]) -> Summary:
    """Return the numbers of a dataset; only headers and the columns of /traces are read."""
    sources = Sources(paths)
    counts: Counter[str] = Counter()
    for shard in sources.shards:
        counts.update(row.tobytes().hex() for row in shard.whole("traces/type"))
    lengths = np.concatenate([np.diff(shard.whole("traces/offset")) for shard in sources.shards])
    return Summary(
        files=len(sources.shards),
        file_bytes=sum(shard.path.stat().st_size for shard in sources.shards),
        memory_bytes=sum(shard.nbytes for shard in sources.shards),
        traces=len(lengths),
        entries=int(lengths.sum()),
        draws=sum(int(shard.whole("traces/draws").sum()) for shard in sources.shards),
        addresses=len(sources.dictionary.addresses),
        distributions=len(sources.dictionary.distributions),
        types=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        lengths=lengths,
        observations=[f"{x.name} {'x'.join(map(str, x.shape)) or 'scalar'} ({x.storage})" for x in sources.layouts],
        tags=[f"{n}{' (rows)' if x.ragged else ''}" for n, x in sorted(sources.tag_layouts.items())],
        provenance=sources.provenance,
    )


def render(summary: Summary) -> str:
    """Return the summary as text, with histograms of trace lengths and of the most frequent types."""
    count = max(1, summary.traces)
    source = summary.provenance
    lines = [
        f"traces          {summary.traces:,} in {summary.files} file{'s' if summary.files > 1 else ''}",
        f"model           {source.model}, build {source.simulator_build_id or 'none'}, config {source.config_digest}",
        f"origin          split {source.split or 'several'}, run seed {source.run_seed}, written by {source.producer}",
        f"noise           {source.noise or 'not described'}",
        f"trace types     {len(summary.types):,}",
        f"addresses       {summary.addresses:,} (distributions {summary.distributions:,})",
        f"entries/trace   mean {summary.entries / count:.1f}, longest {summary.lengths.max(initial=0):,} "
        f"(all draws: mean {summary.draws / count:.1f})",
        f"bytes/trace     {summary.file_bytes / count:,.0f} in the file, {summary.memory_bytes / count:,.0f} in memory",
        f"observations    {', '.join(summary.observations) or 'none'}",
        f"tags            {', '.join(summary.tags) or 'none'}",
    ]
    if summary.traces:
        lines += ["", "accepted entries of a trace", *_length_histogram(summary.lengths)]
        lines += ["", "most frequent trace types", *_type_histogram(summary)]
    return "\n".join(lines)


def _bar(value: int, largest: int) -> str:
    return BAR * max(1 if value else 0, round(_BAR_WIDTH * value / largest))


def _length_histogram(lengths: np.ndarray) -> list[str]:
    low, high = int(lengths.min()), int(lengths.max())
    width = max(1, -(-(high - low + 1) // _BINS))
    counts = np.bincount((lengths - low) // width)
    rows = []
    for i, value in enumerate(counts.tolist()):
        first, last = low + i * width, low + (i + 1) * width - 1
        label = f"{first:,}" if first == last else f"{first:,}-{last:,}"
        rows.append(f"{label:>15} {value:>9,} {_bar(value, int(counts.max()))}")
    return rows


def _type_histogram(summary: Summary) -> list[str]:
    shown = list(summary.types.items())[:_SHOWN_TYPES]
    rows = [f"{t[:12]:>15} {n:>9,} {_bar(n, shown[0][1])} {n / summary.traces:.1%}" for t, n in shown]
    rest = list(summary.types.values())[_SHOWN_TYPES:]
    return [*rows, f"{len(rest):,} more".rjust(15) + f" {sum(rest):>9,}"] if rest else rows
