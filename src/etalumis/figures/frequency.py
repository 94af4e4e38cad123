# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How often trace types and trace lengths occur in the training traces."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from etalumis.figures import style

STEM = "trace_frequency"
TITLE = "Trace types and trace lengths of the training traces"


def draw(type_counts: NDArray[np.int64], lengths: NDArray[np.int64]) -> style.Drawing:
    """Draw frequency against rank of the types, and the distribution of the lengths.

    Parameters
    ----------
    type_counts : array (type,)
        Traces of each type, in any order.
    lengths : array (trace,)
        Accepted entries of each trace.
    """
    counts = np.sort(type_counts)[::-1]
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 2.6)
        left, right = figure.subplots(1, 2)
        left.plot(np.arange(1, len(counts) + 1), counts, color=style.BLUE, marker=".", markersize=4)
        left.set(xscale="log", yscale="log", xlabel="trace type, by rank", ylabel="traces")
        if len(lengths):
            edges = np.arange(lengths.min(), lengths.max() + 2) - 0.5
            if len(edges) > 81:
                edges = np.linspace(edges[0], edges[-1], 81)
            right.stairs(np.histogram(lengths, edges)[0], edges, fill=True, color=style.BLUE, alpha=0.8)
            right.axvline(float(np.mean(lengths)), **style.TRUTH)
        right.set(xlabel="accepted entries per trace", ylabel="traces")
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.set_ylim(bottom=0)
    return style.Drawing(STEM, figure, TITLE, caption(counts, lengths))


def caption(counts: NDArray[np.int64], lengths: NDArray[np.int64]) -> str:
    """Numbers of types, the share of the commonest and of those seen once, lengths."""
    if not len(lengths) or not len(counts):
        return "There are no traces."
    total = int(counts.sum())
    half = int(np.searchsorted(np.cumsum(counts), 0.5 * total) + 1)
    return (
        f"{total:,} traces of {len(counts):,} types; the commonest type has {counts[0] / total:.1%} of them, the "
        f"{half:,} commonest types have half; {int((counts == 1).sum()):,} types were seen once. Accepted entries "
        f"per trace: mean {lengths.mean():.1f} (dashed), median {np.median(lengths):.0f}, longest {lengths.max():,}."
    )
