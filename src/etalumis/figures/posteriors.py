# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 8 of the paper: posteriors of RMH (filled) and IC (outline) with the truth (dashed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter

from etalumis.diagnostics.quantiles import quantiles
from etalumis.diagnostics.quantities import Quantity, is_tau_decay, quantities_of, with_prior_ranges
from etalumis.diagnostics.rounding import is_constant, is_discrete
from etalumis.diagnostics.run import draw_weights
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.figures import captions, style
from etalumis.log_weights import effective_sample_size
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

STEM = "figure8_posteriors"
MIN_BINS, MAX_BINS = 20, 80
MAX_CHANNELS = 8
CONTOUR_CELLS = 60
CONTOUR_SMOOTHING = 1.6  # cells; of the order of Scott's rule for the few hundred effective draws of a demo
MASSES = (0.95, 0.68)


def draw(
    posteriors: Sequence[Posterior],
    diagnostics: Mapping[str, Any],
    momentum_gev: Mapping[str, tuple[float, float]],
    channel_labels: Sequence[str] | None = None,
) -> style.Drawing:
    """Draw the posteriors of all quantities, arranged as in the paper for the tau decay.

    Parameters
    ----------
    posteriors : sequence of Posterior
        Drawn in this order: RMH filled, the other engines as outlines.
    diagnostics : mapping
        Output of `etalumis.diagnostics.diagnose` for the same posteriors.
    momentum_gev : mapping
        Prior ranges of px, py and pz in GeV; their axes show them entirely.
    channel_labels : sequence of str, optional
        Decay products by channel number.
    """
    posteriors = sorted(posteriors, key=lambda p: not p.is_markov)
    with style.style():
        if all(is_tau_decay(p.values) for p in posteriors):
            figure = _tau_decay(posteriors, momentum_gev, channel_labels)
        else:
            figure = _generic(posteriors)
        _legend(figure, posteriors)
        figure.supxlabel(captions.footer(diagnostics), fontsize=6.5, color="0.25", x=0.01, ha="left")
    return style.Drawing(STEM, figure, captions.title(diagnostics), captions.figure8(diagnostics, channel_labels))


def _tau_decay(
    posteriors: Sequence[Posterior],
    momentum_gev: Mapping[str, tuple[float, float]],
    channel_labels: Sequence[str] | None,
) -> Any:
    quantities = {q.key: q for q in with_prior_ranges(quantities_of(posteriors[0].values), momentum_gev)}
    figure = style.new_figure(style.FULL_WIDTH_IN, 6.9)
    axes = figure.subplot_mosaic(
        [["px", "py", "pz"], ["energy_1", "channel", "channel"], ["contour", "energy_2", "missing_et"]]
    )
    for key in ("px", "py", "pz", "energy_1", "energy_2", "missing_et"):
        histogram(axes[key], quantities[key], posteriors)
    channels(axes["channel"], quantities["channel"], posteriors, channel_labels)
    correlation(axes["contour"], quantities["energy_1"], quantities["energy_2"], posteriors)
    for key in ("py", "pz", "missing_et"):
        axes[key].set_ylabel("")  # the same as on the left
    return figure


def _generic(posteriors: Sequence[Posterior]) -> Any:
    quantities = quantities_of(posteriors[0].values)
    columns = min(3, max(1, len(quantities)))
    rows = max(1, -(-len(quantities) // columns))
    figure = style.new_figure(style.FULL_WIDTH_IN, 2.2 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, quantity in zip(grid, quantities, strict=False):
        histogram(axes, quantity, posteriors)
    for axes in grid[len(quantities) :]:
        axes.set_axis_off()
    return figure


def _legend(figure: Any, posteriors: Sequence[Posterior]) -> None:
    handles: list[Any] = []
    for posterior in posteriors:
        colour = style.ENGINE_COLOURS.get(posterior.engine, style.GREEN)
        name = ENGINE_NAMES.get(posterior.engine, posterior.engine)
        handles.append(
            Patch(facecolor=colour, alpha=0.75, label=name)
            if posterior.is_markov
            else Patch(facecolor="none", edgecolor=colour, linewidth=1.4, label=name)
        )
    if any(p.truth for p in posteriors):
        handles.append(Line2D([], [], label="truth", **style.TRUTH))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _samples(posterior: Posterior, quantity: Quantity) -> tuple[FloatArray, FloatArray]:
    """Return the finite values with a positive weight, and their weights, normalised."""
    values, weight = quantity.of(posterior.values), draw_weights(posterior)
    if values is None:
        return np.empty(0), np.empty(0)
    keep = np.isfinite(values) & (weight > 0)
    kept = weight[keep]
    return values[keep], kept / kept.sum() if kept.size else kept


def _truth(quantity: Quantity, posteriors: Sequence[Posterior]) -> float:
    known = [quantity.truth_in(p.truth) for p in posteriors]
    return next((value for value in known if not np.isnan(value)), float("nan"))


def axis_range(
    quantity: Quantity, samples: Sequence[tuple[FloatArray, FloatArray]], truth: float
) -> tuple[float, float]:
    """Return the range of an axis: that of the prior if it is known, else all but 0.1 % of the weight, and the truth.

    It follows the weight, not the draws: most draws of a bad proposal lie where the posterior has no mass.
    """
    if quantity.span is not None:
        return quantity.span
    ends = [_bulk(values, weight) for values, weight in samples if len(values)]
    points = np.concatenate([*ends, [truth]]) if ends else np.array([truth])
    points = points[np.isfinite(points)]
    if not len(points):
        return 0.0, 1.0
    low, high = float(points.min()), float(points.max())
    margin = 0.5 * max(abs(low), 1.0) if is_constant(points) else 0.05 * (high - low)
    bounded = low >= 0 and quantity.unit == "GeV"  # energies are not negative
    return (max(0.0, low - margin) if bounded else low - margin), high + margin


def _bulk(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the smallest and the largest draw, array (2,), without 0.1 % of the weight on each side.

    Interpolation would lead from the outermost draw with weight towards those without.
    """
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order])
    return np.asarray(values[order][np.searchsorted(cumulated, np.array([0.001, 0.999]) * cumulated[-1])])


def bin_edges(samples: Sequence[tuple[FloatArray, FloatArray]], low: float, high: float) -> FloatArray:
    """Return the edges of the bins: whole numbers have bins centred on them, with the same number of values in each."""
    values = np.concatenate([values for values, _ in samples])
    if not is_discrete(values) or high - low < 1:
        return np.linspace(low, high, bin_count(samples, high - low) + 1)
    first, last = np.ceil(low), np.floor(high)
    step = max(1.0, np.ceil((last - first + 1) / MAX_BINS))
    return np.arange(first - 0.5, last + 0.5 + step, step)


def bin_count(samples: Sequence[tuple[FloatArray, FloatArray]], width: float) -> int:
    """Return 20 to 80 bins, by Freedman and Diaconis' rule for the posterior with the fewest effective draws."""
    counts: list[int] = []
    for values, weight in samples:
        if len(values):
            first, third = quantiles(values, weight, (0.25, 0.75))
            effective = effective_sample_size(weight)
            step = 2.0 * (third - first) / effective ** (1 / 3)
            counts.append(int(min(width / step, MAX_BINS)) if step > 0 else MAX_BINS)
    return int(np.clip(min(counts, default=MIN_BINS), MIN_BINS, MAX_BINS))


def histogram(axes: Axes, quantity: Quantity, posteriors: Sequence[Posterior]) -> None:
    """Draw normalised weighted histograms of one quantity, Markov chains filled, the others outlined."""
    samples = [_samples(p, quantity) for p in posteriors]
    truth = _truth(quantity, posteriors)
    axes.set_xlabel(quantity.axis_label)
    values = np.concatenate([values for values, _ in samples])
    if is_constant(values):
        known = f"\ntruth: {truth:g}" if np.isfinite(truth) else ""
        style.empty_panel(axes, f"never changed: always {values[0]:g}{known}")
        return
    low, high = axis_range(quantity, samples, truth)
    edges = bin_edges(samples, low, high)
    for posterior, (values, weight) in zip(posteriors, samples, strict=True):
        if not len(values):
            continue
        density = np.histogram(values, edges, weights=weight)[0] / np.diff(edges)
        colour = style.ENGINE_COLOURS.get(posterior.engine, style.GREEN)
        if posterior.is_markov:
            axes.stairs(density, edges, fill=True, color=colour, alpha=0.75)
        else:
            axes.stairs(density, edges, color=colour, linewidth=1.4)
    if not len(values):
        style.empty_panel(axes, "no draw has any weight")
    if np.isfinite(truth):
        axes.axvline(truth, **style.TRUTH)
    axes.set_xlim(min(low, edges[0]), max(high, edges[-1]))
    axes.set_ylim(bottom=0)
    if is_discrete(values):
        axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
        axes.set_ylabel("probability" if edges[1] - edges[0] == 1 else "probability density")
    else:
        axes.set_ylabel(f"probability density [1/{quantity.unit}]" if quantity.unit else "probability density")


def channels(axes: Axes, quantity: Quantity, posteriors: Sequence[Posterior], labels: Sequence[str] | None) -> None:
    """Draw the channel probabilities as bars: the most probable channels, the true one, and the rest together."""
    tables = []
    for posterior in posteriors:
        values, weight = _samples(posterior, quantity)
        tables.append({int(code): float(weight[values == code].sum()) for code in np.unique(values)})
    truth = _truth(quantity, posteriors)
    total = {code: sum(table.get(code, 0.0) for table in tables) for table in tables for code in table}
    shown = sorted(total, key=lambda code: (-total[code], code))[:MAX_CHANNELS]
    if np.isfinite(truth) and int(truth) not in shown:
        shown.append(int(truth))
    if not total:
        style.empty_panel(axes, "no draw has any weight")
    places = np.arange(len(shown) + 1)
    for posterior, table in zip(posteriors, tables, strict=True):
        heights = [table.get(code, 0.0) for code in shown]
        heights.append(max(0.0, sum(table.values()) - sum(heights)))
        colour = style.ENGINE_COLOURS.get(posterior.engine, style.GREEN)
        if posterior.is_markov:
            axes.bar(places, heights, width=0.8, color=colour, alpha=0.75)
        else:
            axes.bar(places, heights, width=0.8, facecolor="none", edgecolor=colour, linewidth=1.4)
    if np.isfinite(truth):
        axes.axvline(shown.index(int(truth)), **style.TRUTH)
    axes.set_xticks(
        places, [*(index_text(captions.channel_name(code, labels)) for code in shown), "other"], rotation=35, ha="right"
    )
    axes.set(ylabel="probability", ylim=(0, 1.02), title=quantity.title)


def index_text(name: str) -> str:
    """Return a name in mathtext, with what follows an underscore as an index (``K_S``) and bars over letters."""
    words = []
    for word in name.split(" "):
        stem, mark, index = word.partition("_")
        if mark:
            barred = len(stem) > 1 and stem[-1] == "\N{COMBINING MACRON}"
            stem = rf"{stem[:-2]}\bar{{{stem[-2]}}}" if barred else stem
            word = rf"$\mathrm{{{stem}}}_{{{index}}}$"
        words.append(word)
    return " ".join(words)


def correlation(axes: Axes, x: Quantity, y: Quantity, posteriors: Sequence[Posterior]) -> None:
    """Draw the regions of 68 % and 95 % of the posterior mass of two quantities, from a smoothed weighted histogram."""
    pairs = [(_pair(p, x, y), p) for p in posteriors]
    truth = [_truth(q, posteriors) for q in (x, y)]
    low_x, high_x = axis_range(x, [(a, w) for (a, _, w), _ in pairs], truth[0])
    low_y, high_y = axis_range(y, [(b, w) for (_, b, w), _ in pairs], truth[1])
    for (a, b, weight), posterior in pairs:
        colour = style.ENGINE_COLOURS.get(posterior.engine, style.GREEN)
        if not len(weight):
            continue
        counts, edges_x, edges_y = np.histogram2d(
            a, b, CONTOUR_CELLS, [[low_x, high_x], [low_y, high_y]], weights=weight
        )
        density = gaussian_filter(counts, CONTOUR_SMOOTHING, mode="constant")
        levels = np.unique([mass_level(density, mass) for mass in MASSES])
        centre_x, centre_y = 0.5 * (edges_x[1:] + edges_x[:-1]), 0.5 * (edges_y[1:] + edges_y[:-1])
        if posterior.is_markov:
            shades = [(colour, 0.35), (colour, 0.85)][-len(levels) :]
            axes.contourf(centre_x, centre_y, density.T, [*levels, density.max() * 1.001], colors=shades)
        else:
            axes.contour(centre_x, centre_y, density.T, levels, colors=colour, linewidths=1.1)
    if not any(len(weight) for (_, _, weight), _ in pairs):
        style.empty_panel(axes, "no draw has any weight")
    for value, line in zip(truth, (axes.axvline, axes.axhline), strict=True):
        if np.isfinite(value):
            line(value, **(style.TRUTH | {"linewidth": 0.8}))
    axes.set(xlim=(low_x, high_x), ylim=(low_y, high_y), xlabel=x.axis_label, ylabel=y.axis_label)
    axes.set_title("68 % and 95 % regions", fontsize=7)


def _pair(posterior: Posterior, x: Quantity, y: Quantity) -> tuple[FloatArray, FloatArray, FloatArray]:
    a, b, weight = x.of(posterior.values), y.of(posterior.values), draw_weights(posterior)
    if a is None or b is None:
        return np.empty(0), np.empty(0), np.empty(0)
    keep = np.isfinite(a) & np.isfinite(b) & (weight > 0)
    return a[keep], b[keep], weight[keep]


def mass_level(density: FloatArray, mass: float) -> float:
    """Return the level above which a density on a grid has this share of its mass (highest-density region)."""
    ordered = np.sort(density.ravel())[::-1]
    cumulated = np.cumsum(ordered)
    return float(ordered[min(np.searchsorted(cumulated, mass * cumulated[-1]), len(ordered) - 1)])
