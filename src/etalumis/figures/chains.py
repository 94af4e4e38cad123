# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace plots, rank histograms and autocorrelations of Markov chains, for every quantity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from etalumis.diagnostics import arviz_calls
from etalumis.diagnostics.chains import as_chains
from etalumis.diagnostics.quantities import Quantity, quantities_of
from etalumis.diagnostics.rounding import is_constant, is_discrete, tie_break
from etalumis.figures import style
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

TRACE_STEM, RANK_STEM, AUTOCORRELATION_STEM = "chains_trace", "chains_rank", "chains_autocorrelation"
MAX_POINTS = 2000  # draws shown per chain: more cannot be distinguished at this width
MAX_CODES = 12
MAX_DOTTED_RANGE = 50  # whole numbers with a wider range are drawn as lines
MIN_RANK_BINS, MAX_RANK_BINS, MIN_DRAWS_PER_BIN = 5, 20, 20
Panel = Callable[[Axes, Quantity, FloatArray], None]


def draw_all(posterior: Posterior) -> list[style.Drawing]:
    """Draw the three figures of the chains of one posterior."""
    kept = _kept(posterior)
    categorical = any(quantity.categorical for quantity in quantities_of(posterior.values))
    codes = " Decay channels have no order: their draws are counted by channel number." if categorical else ""
    return [
        _draw(posterior, TRACE_STEM, "Trace plots of the chains", trace_panel, "draw",
              f"Value of each quantity along each chain{kept}. Converged chains overlap and do not drift. A chain that "
              "stays in a band of its own has not visited the other modes."),
        _draw(posterior, RANK_STEM, "Rank histograms of the chains", rank_panel, "rank of the draw among all chains",
              "Histogram of the ranks of each chain's draws among the draws of all chains. It is flat (dashed) if the "
              f"chains sample the same distribution. Ties are ordered at random.{codes}"),
        _draw(posterior, AUTOCORRELATION_STEM, "Autocorrelation of the chains", autocorrelation_panel, "lag [draws]",
              "Autocorrelation of each chain against the lag. The lag at which it reaches zero is about the number of "
              "stored draws per effectively independent draw."),
    ]  # fmt: skip


def _kept(posterior: Posterior) -> str:
    """Return which draws of the chains are kept, as the end of a sentence."""
    burn_in, thin = posterior.info.get("burn_in"), posterior.info.get("thin")
    kept = (f" after {burn_in:,} sweeps of burn-in" if burn_in else "") + (f", every {thin}th kept" if thin else "")
    trips = [part["round_trips"] for part in posterior.info.get("parts", [posterior.info]) if "round_trips" in part]
    if not trips:
        return kept
    return (
        f"{kept}. Each chain is the coldest of several tempered replicas that swap states; states went from it to the "
        f"hottest and back {sum(trips):,} times"
    )


def _draw(posterior: Posterior, stem: str, title: str, panel: Panel, xlabel: str, caption: str) -> style.Drawing:
    quantities = quantities_of(posterior.values)
    rows = max(1, -(-len(quantities) // 2))
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 1.45 * rows + 0.4)
        grid = figure.subplots(rows, 2, squeeze=False)
        flat = grid.T.ravel()
        for axes, quantity in zip(flat, quantities, strict=False):
            values = quantity.of(posterior.values)
            if values is None:
                raise AssertionError(f"quantities_of named {quantity.key!r}, which the posterior does not hold")
            panel(axes, quantity, as_chains(values, posterior.chain))
        for axes in flat[len(quantities) :]:
            axes.set_axis_off()
        for column in grid.T:
            used = [axes for axes in column if axes.axison]
            for axes in used[:-1]:
                if not axes.containers:  # bars have their own scale
                    axes.tick_params(labelbottom=False)
            if used:
                used[-1].set_xlabel(xlabel)
        handles = _legend_handles(np.unique(posterior.chain))
        figure.legend(handles=handles, loc="outside upper center", ncols=len(style.CYCLE))
    return style.Drawing(stem, figure, title, caption)


def _legend_handles(labels: NDArray[np.int64]) -> list[Line2D]:
    """Return one handle per colour, with the numbers of all chains that have it."""
    colours = style.CYCLE[: len(labels)]
    numbers = [", ".join(str(label) for label in labels[i :: len(style.CYCLE)]) for i in range(len(colours))]
    return [Line2D([], [], color=colour, label=f"chain {n}") for colour, n in zip(colours, numbers, strict=True)]


def _constant_panel(axes: Axes, chains: FloatArray) -> bool:
    """Write the value of a constant quantity into its panel; return whether it is constant."""
    constant = bool(np.isfinite(chains).all()) and is_constant(chains)
    if constant:
        style.empty_panel(axes, f"never changed: always {chains.flat[0]:g}")
    return constant


def trace_panel(axes: Axes, quantity: Quantity, chains: FloatArray) -> None:
    """Draw value against draw; of long chains every n-th draw.

    A few whole numbers are drawn as dots, side by side for each chain; other values are joined by lines.
    """
    axes.set_ylabel(quantity.axis_label)
    if _constant_panel(axes, chains):
        return
    finite = chains[np.isfinite(chains)]
    dots = is_discrete(finite) and np.ptp(finite) <= MAX_DOTTED_RANGE
    step = max(1, chains.shape[1] // MAX_POINTS)
    draws = np.arange(0, chains.shape[1], step)
    for index, chain in enumerate(chains):
        colour = style.CYCLE[index % len(style.CYCLE)]
        if dots:
            offset = 0.5 * (index + 0.5) / len(chains) - 0.25
            axes.plot(draws, chain[::step] + offset, color=colour, linestyle="none", marker=".", markersize=1.5)
        else:
            axes.plot(draws, chain[::step], color=colour, alpha=0.7, linewidth=0.5)
    if dots:
        axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    axes.set_xlim(0, max(chains.shape[1] - 1, 1))


def rank_panel(axes: Axes, quantity: Quantity, chains: FloatArray) -> None:
    """Draw the histogram of ranks per chain; dashed: the expectation for chains with the same distribution."""
    axes.set_ylabel(f"{quantity.title}: draws")
    if quantity.categorical:
        code_panel(axes, chains)
        return
    if not chains.size or not np.isfinite(chains).all():
        style.empty_panel(axes, "not in every draw: no ranks")
        return
    if _constant_panel(axes, chains):
        return
    bins = int(np.clip(chains.shape[1] // MIN_DRAWS_PER_BIN, MIN_RANK_BINS, MAX_RANK_BINS))
    edges = np.linspace(0.5, chains.size + 0.5, bins + 1)
    for index, row in enumerate(tie_break(chains)):
        axes.stairs(np.histogram(row, edges)[0], edges, color=style.CYCLE[index % len(style.CYCLE)], linewidth=1.2)
    axes.axhline(chains.shape[1] / bins, **style.TRUTH)
    axes.set_ylim(bottom=0)
    axes.set_xlim(edges[0], edges[-1])


def code_panel(axes: Axes, chains: FloatArray) -> None:
    """Draw how often each chain has each code, rare codes together: codes have no order, hence no ranks."""
    axes.set_ylabel("draws per channel")
    codes = np.unique(chains[np.isfinite(chains)])
    counts = np.array([[(chain == code).sum() for code in codes] for chain in chains]).reshape(len(chains), -1)
    labels = [f"{code:.0f}" for code in codes]
    if len(codes) > MAX_CODES:
        frequent = np.sort(np.argsort(-counts.sum(axis=0), kind="stable")[: MAX_CODES - 1])
        rest = np.setdiff1d(np.arange(len(codes)), frequent)
        counts = np.column_stack([counts[:, frequent], counts[:, rest].sum(axis=1)])
        labels = [*(labels[place] for place in frequent), "other"]
    places = np.arange(len(labels))
    width = 0.8 / max(len(chains), 1)
    for index, heights in enumerate(counts):
        axes.bar(places + (index + 0.5) * width - 0.4, heights, width, color=style.CYCLE[index % len(style.CYCLE)])
    axes.set_xticks(places, labels)


def autocorrelation_panel(axes: Axes, quantity: Quantity, chains: FloatArray) -> None:
    """Draw autocorrelation against lag, up to a tenth of a chain."""
    axes.set_ylabel(quantity.title)
    if _constant_panel(axes, chains):
        return
    lags = max(10, chains.shape[1] // 10)
    table = arviz_calls.autocorrelation(chains)[:, : lags + 1]
    for index, row in enumerate(table):
        axes.plot(np.arange(len(row)), row, color=style.CYCLE[index % len(style.CYCLE)])
    if not np.isfinite(table).any():
        style.empty_panel(axes, "not in every draw: no autocorrelation")
    axes.axhline(0, color="0.6", linewidth=0.6)
    axes.set(xlim=(0, lags), ylim=(-0.25, 1.02))
