# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace plots, rank histograms and autocorrelations of Markov chains, for every quantity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from etalumis.diagnostics import arviz_calls
from etalumis.diagnostics.chains import as_chains
from etalumis.diagnostics.quantities import Quantity, quantities_of
from etalumis.diagnostics.rounding import is_constant, is_discrete, tie_break
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.figures import captions, style
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

TRACE_STEM, RANK_STEM, AUTOCORRELATION_STEM = "chains_trace", "chains_rank", "chains_autocorrelation"
MAX_POINTS = 2000  # draws shown per chain: more cannot be distinguished at this width
MAX_CODES = 8
OWN_SCALE = "own scale"
"""Mark of panels whose horizontal axis is not that of the panels below."""
MAX_DOTTED_RANGE = 50  # whole numbers with a wider range are drawn as lines
MIN_RANK_BINS, MAX_RANK_BINS, MIN_DRAWS_PER_BIN = 5, 20, 20
MAX_TRACED_CODES = 7
NameOf = Callable[[int], str]
"""From a code to the name that is shown."""
Panel = Callable[..., None]


def stem_of(stem: str, engine: str) -> str:
    """Return the stem of a figure of the chains of an engine: that of RMH has no suffix."""
    return stem if engine == "rmh" else f"{stem}_{engine}"


def draw_all(
    posterior: Posterior, labels: Sequence[str] | None = None, report: Mapping[str, Any] | None = None
) -> list[style.Drawing]:
    """Draw the three figures of the chains of one posterior.

    Parameters
    ----------
    posterior : Posterior
    labels : sequence of str, optional
        Decay products by channel number.
    report : mapping, optional
        Entry of the engine in the diagnostics, for the numbers in the captions.
    """
    kept = _kept(posterior)
    categorical = any(quantity.categorical for quantity in quantities_of(posterior.values))
    codes = " Decay channels have no order: their draws are counted by channel." if categorical else ""
    indicator = " For decay channels: that of being in the most frequent one (1) or not (0)." if categorical else ""
    name = ENGINE_NAMES.get(posterior.engine, posterior.engine)

    def name_of(code: int) -> str:
        return captions.index_text(captions.channel_name(code, labels)) if labels else str(code)

    numbers = "\n".join(["", "", *captions.chain_table(report)]) if report is not None else ""

    def draw(stem: str, title: str, panel: Panel, xlabel: str, caption: str) -> style.Drawing:
        stem, caption = stem_of(stem, posterior.engine), caption + numbers
        return _draw(
            posterior, stem, f"{name}: {title}", lambda *given: panel(*given, name_of=name_of), xlabel, caption
        )

    return [
        draw(TRACE_STEM, "trace plots of the chains", trace_panel, "draw",
              f"Value of each quantity along each chain{kept}. Converged chains overlap and do not drift. A chain that "
              "stays in a band of its own has not visited the other modes."),
        draw(RANK_STEM, "rank histograms of the chains", rank_panel, "rank of the draw among all chains",
              "Histogram of the ranks of each chain's draws among the draws of all chains. It is flat (dashed) if the "
              f"chains sample the same distribution. Ties are ordered at random.{codes}"),
        draw(AUTOCORRELATION_STEM, "autocorrelation of the chains", autocorrelation_panel, "lag [draws]",
              "Autocorrelation of each chain against the lag. The lag at which it reaches zero is about the number of "
              f"stored draws per effectively independent draw.{indicator}"),
    ]  # fmt: skip


def _kept(posterior: Posterior) -> str:
    """Return which draws of the chains are kept, as the end of a sentence."""
    burn_in, thin = posterior.info.get("burn_in"), posterior.info.get("thin")
    kept = f" after {burn_in:,} sweeps of burn-in" if burn_in else ""
    if thin and thin > 1:
        kept += f", one draw per {thin} sweeps"
    trips = [part["round_trips"] for part in posterior.info.get("parts", [posterior.info]) if "round_trips" in part]
    if not trips:
        return kept
    return (
        f"{kept}. Each chain is the coldest of several tempered replicas that swap states; states went from it to the "
        f"hottest and back {sum(trips):,} times"
    )


def _draw(
    posterior: Posterior,
    stem: str,
    title: str,
    panel: Callable[[Axes, Quantity, FloatArray], None],
    xlabel: str,
    caption: str,
) -> style.Drawing:
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
                if axes.get_gid() != OWN_SCALE:
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


def trace_panel(axes: Axes, quantity: Quantity, chains: FloatArray, name_of: NameOf = str) -> None:
    """Draw value against draw; of long chains every n-th draw.

    A few whole numbers are drawn as dots, side by side for each chain; other values are joined by lines. Codes have a
    row each, the most frequent one below.
    """
    axes.set_ylabel(quantity.axis_label)
    if _constant_panel(axes, chains):
        return
    if quantity.categorical:
        chains, names = _as_rows(chains, name_of)
        axes.set_ylabel("")
        axes.set_yticks(range(len(names)), names)
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
    if dots and not quantity.categorical:
        axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    axes.set_xlim(0, max(chains.shape[1] - 1, 1))


def rank_panel(axes: Axes, quantity: Quantity, chains: FloatArray, name_of: NameOf = str) -> None:
    """Draw the histogram of ranks per chain; dashed: the expectation for chains with the same distribution."""
    axes.set_ylabel(f"{quantity.title}: draws")
    if quantity.categorical:
        code_panel(axes, chains, name_of)
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


def _as_rows(chains: FloatArray, name_of: NameOf, most: int = MAX_TRACED_CODES) -> tuple[FloatArray, list[str]]:
    """Return the rank of each draw's code, (chain, draw), and the names of the ranks: frequent codes first.

    From rank `most` - 1 on, the codes are one group. Draws without a code stay NaN.
    """
    present = np.isfinite(chains)
    codes, counts = np.unique(chains[present], return_counts=True)
    frequent = codes[np.argsort(-counts, kind="stable")]
    if len(frequent) > most:
        frequent = frequent[: most - 1]
    rows = np.full(chains.shape, np.nan)
    rows[present] = len(frequent)
    for rank, code in enumerate(frequent):
        rows[chains == code] = rank
    names = [name_of(int(code)) for code in frequent]
    return rows, names if len(frequent) == len(codes) else [*names, "other"]


def code_panel(axes: Axes, chains: FloatArray, name_of: NameOf = str) -> None:
    """Draw how often each chain has each code, rare codes together: codes have no order, hence no ranks."""
    rows, names = _as_rows(chains, name_of, MAX_CODES)
    height = 0.8 / max(len(chains), 1)
    for index, chain in enumerate(rows):
        counts = np.bincount(chain[np.isfinite(chain)].astype(int), minlength=len(names))
        places = np.arange(len(names)) + (index + 0.5) * height - 0.4
        axes.barh(places, counts, height, color=style.CYCLE[index % len(style.CYCLE)])
    axes.set_yticks(range(len(names)), names)
    axes.set(ylabel="", xlabel="draws", ylim=(len(names) - 0.5, -0.5))
    axes.set_gid(OWN_SCALE)


def autocorrelation_panel(axes: Axes, quantity: Quantity, chains: FloatArray, name_of: NameOf = str) -> None:
    """Draw autocorrelation against lag, up to a tenth of a chain; of codes, that of having the most frequent one.

    The numbers of codes have no meaning, so neither has their correlation.
    """
    axes.set_ylabel(quantity.title)
    if _constant_panel(axes, chains):
        return
    if quantity.categorical and np.isfinite(chains).any():
        codes, counts = np.unique(chains[np.isfinite(chains)], return_counts=True)
        code = codes[np.argmax(counts)]
        axes.set_ylabel(f"being {name_of(int(code))}")
        chains = np.where(np.isfinite(chains), (chains == code).astype(float), np.nan)
    lags = max(10, chains.shape[1] // 10)
    table = arviz_calls.autocorrelation(chains)[:, : lags + 1]
    for index, row in enumerate(table):
        axes.plot(np.arange(len(row)), row, color=style.CYCLE[index % len(style.CYCLE)])
    if not np.isfinite(table).any():
        style.empty_panel(axes, "not in every draw: no autocorrelation")
    axes.axhline(0, color="0.6", linewidth=0.6)
    axes.set(xlim=(0, lags), ylim=(-0.25, 1.02))
