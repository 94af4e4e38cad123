# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The panels of the figure of posteriors: a histogram, the decay channels, the regions of two quantities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter

from etalumis.diagnostics.quantities import Quantity
from etalumis.diagnostics.rounding import is_constant, is_discrete
from etalumis.figures import captions, style
from etalumis.figures.binning import axis_range, bin_edges, mass_level
from etalumis.figures.series import Series, deciding
from etalumis.typing import FloatArray

MAX_CHANNELS = 6
CONTOUR_CELLS = 60
CONTOUR_SMOOTHING = 1.6  # cells; of the order of Scott's rule for the few hundred effective draws of a demo
MASSES = (0.95, 0.68)
HEADROOM = 1.15
"""Height of a panel over the highest bin of the posteriors that may be read as results."""


class Bins(NamedTuple):
    """Probabilities (bin,) of a distribution between the edges `low` and `high` (bin,), which are equal for a code."""

    series: Series
    low: FloatArray
    high: FloatArray
    probability: FloatArray


def histogram(axes: Axes, quantity: Quantity, series: Sequence[Series], truth: float) -> list[Bins]:
    """Draw normalised weighted histograms of one quantity; the prior behind them, the truth as a dashed line.

    Axes and bins follow the reliable posteriors: a few draws of large weight are all that others show. Return what is
    drawn.
    """
    axes.set_xlabel(quantity.axis_label)
    deciders = [each.samples(quantity) for each in deciding(series)]
    values = np.concatenate([each.samples(quantity)[0] for each in series if not each.is_prior])
    if is_constant(values):
        known = f"\ntruth: {truth:g}" if np.isfinite(truth) else ""
        style.empty_panel(axes, f"never changed: always {values[0]:g}{known}")
        return []
    low, high = axis_range(quantity, deciders, truth)
    edges = bin_edges(deciders, low, high)
    strong = deciding(series)
    bins = []
    for each in series:
        own = edges if each.is_prior or each in strong else bin_edges([each.samples(quantity)], low, high)
        bins.extend(_stairs(axes, each, quantity, own))
    if not len(values):
        style.empty_panel(axes, "no draw has any weight")
    if np.isfinite(truth):
        axes.axvline(truth, **style.TRUTH)
    axes.set_xlim(min(low, edges[0]), max(high, edges[-1]))
    top = max(
        (float((drawn.probability / (drawn.high - drawn.low)).max()) for drawn in bins if drawn.series in strong),
        default=0.0,
    )
    axes.set_ylim(0, HEADROOM * top if top > 0 else None)
    if is_discrete(values):
        axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
        axes.set_ylabel("probability" if edges[1] - edges[0] == 1 else "probability density")
    else:
        axes.set_ylabel(f"probability density [1/{quantity.unit}]" if quantity.unit else "probability density")
    return bins


def _stairs(axes: Axes, series: Series, quantity: Quantity, edges: FloatArray) -> list[Bins]:
    """Draw one histogram and return it; nothing if no draw has any weight."""
    values, weight = series.samples(quantity)
    if not len(values):
        return []
    probability = np.histogram(values, edges, weights=weight)[0]
    series.stairs(axes, probability / np.diff(edges), edges)
    return [Bins(series, edges[:-1], edges[1:], probability)]


def channels(
    axes: Axes, quantity: Quantity, series: Sequence[Series], truth: float, labels: Sequence[str] | None
) -> list[Bins]:
    """Draw the probabilities of the decay channels: one group of bars per channel, one bar per engine.

    The most probable channels of the reliable posteriors, the true one, and the rest together; the prior is the wide
    bar behind each group. Return the probabilities of all channels.
    """
    tables = {each.engine: _probabilities(each, quantity) for each in series}
    posteriors = [each for each in series if not each.is_prior]
    if not any(tables[each.engine] for each in posteriors):
        style.empty_panel(axes, "no draw has any weight")
        return []
    shown = _shown_channels([tables[each.engine] for each in deciding(series)], truth)
    places = np.arange(len(shown) + 1)
    height = 0.76 / len(posteriors)
    for each in series:
        table = tables[each.engine]
        listed = [table.get(code, 0.0) for code in shown]
        widths = [*listed, max(0.0, sum(table.values()) - sum(listed))]
        if each.is_prior:
            axes.barh(places, widths, 0.92, **each.area)
            continue
        offset = 0.38 - (posteriors.index(each) + 0.5) * height
        axes.barh(places - offset, widths, 0.9 * height, **(each.area if each.filled else _bar(each)))
    names = [captions.index_text(captions.channel_name(code, labels)) for code in shown]
    axes.set_yticks(places, [*names, "all others"])
    axes.set(ylim=(len(shown) + 0.55, -0.55), xlabel="probability", title=quantity.title)
    axes.set_xlim(0, 1.1 * axes.get_xlim()[1])  # room for the word beside the longest bar
    if np.isfinite(truth):
        _mark_truth(axes, shown.index(int(truth)), max(table.get(int(truth), 0.0) for table in tables.values()))
    codes = {engine: np.array(list(table), dtype=float) for engine, table in tables.items()}
    return [
        Bins(each, codes[each.engine], codes[each.engine], np.array(list(tables[each.engine].values())))
        for each in series
    ]


def _bar(series: Series) -> dict[str, object]:
    """Return the properties of a bar of an engine that is drawn as an outline elsewhere: bars do not overlap."""
    if series.reliable:
        return {"facecolor": series.colour, "edgecolor": "none"}
    return {"facecolor": "none", "edgecolor": (series.colour, 0.7), "linewidth": 0.6, "hatch": "/////"}


def _probabilities(series: Series, quantity: Quantity) -> dict[int, float]:
    values, weight = series.samples(quantity)
    codes, place = np.unique(values, return_inverse=True)
    return dict(zip(codes.astype(int).tolist(), np.bincount(place, weight, len(codes)).tolist(), strict=True))


def _shown_channels(tables: Sequence[dict[int, float]], truth: float) -> list[int]:
    """Return the most probable channels, the most probable one first, and the true one."""
    total = {code: sum(table.get(code, 0.0) for table in tables) for table in tables for code in table}
    shown = sorted(total, key=lambda code: (-total[code], code))[:MAX_CHANNELS]
    if np.isfinite(truth) and int(truth) not in shown:
        shown.append(int(truth))
    return shown


def _mark_truth(axes: Axes, place: int, widest: float) -> None:
    """Frame the true channel like the dashed line of the other panels, and say so beside its longest bar."""
    frame = {**style.TRUTH, "linewidth": 0.9}
    axes.axhspan(place - 0.48, place + 0.48, facecolor="none", edgecolor=frame.pop("color"), **frame)
    axes.annotate("truth", (widest, place), (6, 0), textcoords="offset points", va="center", fontsize=8, style="italic")


def correlation(axes: Axes, x: Quantity, y: Quantity, series: Sequence[Series], truth: tuple[float, float]) -> None:
    """Draw the regions of 68 % and 95 % of the posterior mass of two quantities, from a smoothed weighted histogram."""
    shown = [each for each in series if not each.is_prior]
    strong = deciding(shown)
    low_x, high_x = axis_range(x, [each.samples(x) for each in strong], truth[0])
    low_y, high_y = axis_range(y, [each.samples(y) for each in strong], truth[1])
    drawn = [each for each in shown if _regions(axes, each, x, y, (low_x, high_x), (low_y, high_y))]
    if not drawn:
        style.empty_panel(axes, "no draw has any weight")
    for value, line in zip(truth, (axes.axvline, axes.axhline), strict=True):
        if np.isfinite(value):
            line(value, **(style.TRUTH | {"linewidth": 0.8}))
    axes.set(xlim=(low_x, high_x), ylim=(low_y, high_y), xlabel=x.axis_label, ylabel=y.axis_label)
    axes.set_title("68 % and 95 % regions")


def _regions(
    axes: Axes,
    series: Series,
    x: Quantity,
    y: Quantity,
    span_x: tuple[float, float],
    span_y: tuple[float, float],
) -> bool:
    """Draw the regions of one posterior; return whether it has any draw."""
    a, b, weight = series.pair(x, y)
    if not len(weight):
        return False
    counts, edges_x, edges_y = np.histogram2d(a, b, CONTOUR_CELLS, [span_x, span_y], weights=weight)
    if not counts.any():  # all its draws lie outside the axes, which follow the other posteriors
        return True
    density = gaussian_filter(counts, CONTOUR_SMOOTHING, mode="constant")
    levels = np.unique([mass_level(density, mass) for mass in MASSES])
    centre_x, centre_y = 0.5 * (edges_x[1:] + edges_x[:-1]), 0.5 * (edges_y[1:] + edges_y[:-1])
    if series.filled and series.reliable:
        shades = [(series.colour, 0.3), (series.colour, 0.75)][-len(levels) :]
        axes.contourf(centre_x, centre_y, density.T, [*levels, density.max() * 1.001], colors=shades)
    else:
        line = series.line
        axes.contour(
            centre_x, centre_y, density.T, levels, colors=[line["color"]],
            linewidths=0.8 * line["linewidth"], linestyles=[line["linestyle"]],
        )  # fmt: skip
    return True
