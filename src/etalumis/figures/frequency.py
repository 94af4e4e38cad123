# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How often trace types and trace lengths occur in the training traces."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from etalumis.figures import style
from etalumis.traces.lengths import LengthCounts

STEM = "trace_frequency"
TITLE = "Trace types and trace lengths of the training traces"
_BINS = 80
_SPREAD_BINS = 40
_LEAST = 0.7  # below one trace, on a logarithmic axis


def draw(type_counts: NDArray[np.int64], lengths: NDArray[np.int64]) -> style.Drawing:
    """Draw frequency against rank of the types, and the distribution of the lengths.

    Parameters
    ----------
    type_counts : array (type,)
        Traces of each type, in any order.
    lengths : array (trace,)
        Accepted entries of each trace.
    """
    return draw_counts(type_counts, LengthCounts.of(lengths))


def draw_counts(type_counts: NDArray[np.int64], lengths: LengthCounts, title: str = TITLE) -> style.Drawing:
    """Draw the same of lengths that have been counted, however many traces there are."""
    counts = np.sort(type_counts)[::-1]
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 2.6)
        left, right = figure.subplots(1, 2)
        left.plot(np.arange(1, len(counts) + 1), counts, color=style.BLUE, marker=".", markersize=4)
        left.set(xscale="log", yscale="log", xlabel="trace type, by rank", ylabel="traces")
        if len(lengths):
            edges, traces = lengths.binned(_SPREAD_BINS if lengths.spread else _BINS)
            borders = np.maximum(edges - 0.5, 0.3) if lengths.spread else edges - 0.5  # a logarithm has no zero
            lowest = _LEAST if lengths.spread else 0
            right.stairs(traces, borders, fill=True, color=style.BLUE, alpha=0.8, baseline=lowest)
            right.axvline(lengths.mean, **style.TRUTH)
        if lengths.spread:
            right.set(xscale="log", yscale="log", xlabel="accepted entries per trace", ylabel="traces a bin")
            right.set_ylim(bottom=_LEAST)
            right.xaxis.set_major_formatter(ScalarFormatter())
        else:
            right.set(xlabel="accepted entries per trace", ylabel="traces")
            right.xaxis.set_major_locator(MaxNLocator(integer=True))
            right.set_ylim(bottom=0)
    return style.Drawing(STEM, figure, title, caption(counts, lengths))


def caption(counts: NDArray[np.int64], lengths: LengthCounts) -> str:
    """Numbers of types, the share of the commonest and of those seen once, lengths."""
    if not len(lengths) or not len(counts):
        return "There are no traces."
    total = int(counts.sum())
    half = int(np.searchsorted(np.cumsum(counts), 0.5 * total) + 1)
    return (
        f"{total:,} traces of {len(counts):,} types; the commonest type has {counts[0] / total:.1%} of them, the "
        f"{half:,} commonest types have half; {int((counts == 1).sum()):,} types were seen once. Accepted entries "
        f"per trace: mean {lengths.mean:.1f} (dashed), median {lengths.median}, longest {lengths.longest:,}."
    )
