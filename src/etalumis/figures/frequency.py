# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Frequencies of trace types and trace lengths in the training traces."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from etalumis.counting import counted
from etalumis.figures import style
from etalumis.traces.lengths import LengthCounts

STEM = "trace_frequency"
TITLE = "Trace types and trace lengths under the prior"
BINS = 80
SPREAD_BINS = 40
LOG_FLOOR = 0.7  # lower end of a logarithmic axis of traces: below one trace


def draw(type_counts: NDArray[np.int64], lengths: NDArray[np.int64]) -> style.Drawing:
    """Draw the frequency of the trace types against their rank, and the distribution of the lengths.

    Parameters
    ----------
    type_counts : array (type,)
        Number of traces of each type, in any order.
    lengths : array (trace,)
        Number of accepted entries of each trace.
    """
    return draw_counts(type_counts, LengthCounts.of(lengths))


def draw_counts(type_counts: NDArray[np.int64], lengths: LengthCounts, title: str = TITLE) -> style.Drawing:
    """Draw the same from counted lengths, for any number of traces."""
    counts = np.sort(type_counts)[::-1]
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 2.6)
        left, right = figure.subplots(1, 2)
        left.plot(np.arange(1, len(counts) + 1), counts, color=style.BLUE, marker=".", markersize=4)
        left.set(xscale="log", yscale="log", xlabel="trace type, by rank", ylabel="traces")
        if len(counts):
            _plain_numbers(left.xaxis, 1, len(counts))
            _plain_numbers(left.yaxis, int(counts[-1]), int(counts[0]))
        _draw_lengths(right, lengths)
    return style.Drawing(STEM, figure, title, caption(counts, lengths))


def _draw_lengths(axes: Axes, lengths: LengthCounts) -> None:
    """Draw the histogram of the lengths, with logarithmic axes if they spread over several decades."""
    axes.set_xlabel("accepted entries per trace")
    if lengths.spread:
        edges, traces = lengths.binned(SPREAD_BINS)
        borders = np.maximum(edges - 0.5, 0.3)  # a logarithmic axis has no zero
        axes.stairs(traces, borders, fill=True, color=style.BLUE, alpha=0.8, baseline=LOG_FLOOR)
        axes.set(xscale="log", yscale="log", ylabel="traces per bin")
        axes.set_ylim(bottom=LOG_FLOOR)
        _plain_numbers(axes.xaxis, float(borders[0]), float(borders[-1]))
        _plain_numbers(axes.yaxis, 1, int(traces.max()))
    else:
        if len(lengths):
            edges, traces = lengths.binned(BINS)
            axes.stairs(traces, edges - 0.5, fill=True, color=style.BLUE, alpha=0.8)
        axes.set_ylabel("traces")
        axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
        axes.set_ylim(bottom=0)
    if len(lengths):
        axes.axvline(lengths.mean, **style.TRUTH)


def _plain_numbers(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis with plain numbers: 1, 2, 5, 10, ... over less than two decades, else powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def caption(counts: NDArray[np.int64], lengths: LengthCounts) -> str:
    """Return the caption: number of types, share of the most frequent type, types seen once, lengths."""
    if not len(lengths) or not len(counts):
        return "No traces."
    total = int(counts.sum())
    half = int(np.searchsorted(np.cumsum(counts), 0.5 * total) + 1)
    return (
        f"{counted(total, 'trace')} of {counted(len(counts), 'type')}. The most frequent type has "
        f"{100 * counts[0] / total:.1f} % of the traces. Types that make up half of the traces: {half:,}; types that "
        f"occur once: {int((counts == 1).sum()):,}. "
        f"Accepted entries per trace: mean {lengths.mean:.1f} (dashed), median {lengths.median}, maximum "
        f"{lengths.longest:,}."
    )
