# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Summary of a dataset as text for a terminal, with histograms."""

from etalumis.counting import counted
from etalumis.traces.info import Summary
from etalumis.traces.lengths import LengthCounts

BAR = "█"
_BINS = 12
_BAR_WIDTH = 40
_SHOWN_TYPES = 10


def render(summary: Summary) -> str:
    """Return the summary as text, with histograms of trace lengths and of the most frequent types."""
    lines = [*_counts(summary), "", "bytes per trace in the file", *_sizes(summary)]
    if summary.traces:
        lines += ["", "accepted entries per trace", *_length_histogram(summary.lengths)]
        lines += ["", "most frequent trace types", *_type_histogram(summary)]
    return "\n".join(lines)


def _counts(summary: Summary) -> list[str]:
    count, source = max(1, summary.traces), summary.provenance
    observations = [f"{x.name} {'x'.join(map(str, x.shape)) or 'scalar'} ({x.storage})" for x in summary.layouts]
    tags = [f"{name}{' (rows)' if x.ragged else ''}" for name, x in sorted(summary.tags.items())]
    kept = f"kept            {source.kept} entries"
    if summary.rejected is not None:
        kept += f"; of rejected repetitions {summary.rejected / count:.1f} per trace"
    return [
        f"traces          {summary.traces:,} in {counted(summary.files, 'file')}"
        f"{', sorted' if summary.sorted_set else ''}",
        f"model           {source.model}, build {source.simulator_build_id or 'none'}, "
        f"config {source.config_digest or 'none'}",
        f"origin          split {source.split or 'none or several'}, "
        f"run seed {'several' if source.run_seed < 0 else source.run_seed}, written by {source.producer}",
        f"noise           {source.noise or 'not described'}",
        kept,
        f"trace types     {len(summary.types):,}",
        f"addresses       {summary.addresses:,} (distributions {summary.distributions:,})",
        f"entries/trace   mean {summary.entries / count:.1f}, longest {summary.lengths.longest:,} "
        f"(all draws: mean {summary.draws / count:.1f})",
        f"bytes/trace     {summary.file_bytes / count:,.0f} in the file, {summary.memory_bytes / count:,.0f} in memory",
        f"observations    {', '.join(observations) or 'none'}",
        f"tags            {', '.join(tags) or 'none'}",
    ]


def _bar(value: int, largest: int) -> str:
    return BAR * max(1 if value else 0, round(_BAR_WIDTH * value / max(1, largest)))


def _sizes(summary: Summary) -> list[str]:
    width = max((len(name) for name in summary.stored), default=0)
    count, largest = max(1, summary.traces), max(summary.stored.values(), default=0)
    return [
        f"{name:>{max(15, width)}} {size / count:>9,.1f} {_bar(size, largest)} {size / max(1, summary.file_bytes):.1%}"
        for name, size in summary.stored.items()
    ]


def _length_histogram(lengths: LengthCounts) -> list[str]:
    edges, counts = lengths.binned(_BINS)
    rows = []
    for first, end, value in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        label = f"{first:,}" if first == end - 1 else f"{first:,}-{end - 1:,}"
        rows.append(f"{label:>15} {value:>9,} {_bar(value, int(counts.max()))}")
    return rows


def _type_histogram(summary: Summary) -> list[str]:
    shown = list(summary.types.items())[:_SHOWN_TYPES]
    rows = [f"{t[:12]:>15} {n:>9,} {_bar(n, shown[0][1])} {n / summary.traces:.1%}" for t, n in shown]
    rest = list(summary.types.values())[_SHOWN_TYPES:]
    return [*rows, f"{len(rest):,} more".rjust(15) + f" {sum(rest):>9,}"] if rest else rows
