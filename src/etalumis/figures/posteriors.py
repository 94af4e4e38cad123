# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 8 of the paper: posteriors of all engines, reliable chains filled, with the truth (dashed) and the prior."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from etalumis.diagnostics.headline import headline
from etalumis.diagnostics.quantities import Quantity, is_tau_decay, quantities_of, with_prior_ranges
from etalumis.figures import captions, style
from etalumis.figures.numbers import Rows
from etalumis.figures.panels import Bins, channels, correlation, histogram
from etalumis.figures.series import Series, of_posteriors
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

STEM = "figure8_posteriors"
WIDTH_IN = 9.0
TITLE_CHARACTERS = 105


def draw(
    posteriors: Sequence[Posterior],
    diagnostics: Mapping[str, Any],
    momentum_gev: Mapping[str, tuple[float, float]],
    channel_labels: Sequence[str] | None = None,
    prior: Mapping[str, FloatArray] | None = None,
) -> style.Drawing:
    """Draw the posteriors of all quantities, arranged as in the paper for the tau decay.

    Parameters
    ----------
    posteriors : sequence of Posterior
        The first reliable engine with Markov chains is filled, the others are outlines. An engine that did not pass its
        own check is drawn hatched or thin and dotted, so that it is not read as a result.
    diagnostics : mapping
        Output of `etalumis.diagnostics.diagnose` for the same posteriors.
    momentum_gev : mapping
        Prior ranges of px, py and pz in GeV; their axes show them entirely.
    channel_labels : sequence of str, optional
        Decay products by channel number.
    prior : mapping, optional
        Draws from the prior: name -> array (trace, ...), with the names of ``Posterior.values``.
    """
    series = of_posteriors(posteriors, diagnostics, prior)
    truths = [posterior.truth for posterior in posteriors]
    with style.style(style.TALK):
        if all(is_tau_decay(posterior.values) for posterior in posteriors):
            figure, rows = _tau_decay(series, truths, momentum_gev, channel_labels)
        else:
            figure, rows = _generic(series, truths)
        _legend(figure, series, headline(diagnostics), any(truths))
    text = captions.figure8(diagnostics, channel_labels, with_prior=bool(prior))
    return style.Drawing(STEM, figure, captions.title(diagnostics), text, rows)


def truth_of(quantity: Quantity, truths: Sequence[Mapping[str, FloatArray]]) -> float:
    """Return the true value of a quantity from the first posterior that knows it, else nan."""
    known = [quantity.truth_in(truth) for truth in truths]
    return next((value for value in known if not np.isnan(value)), float("nan"))


def _tau_decay(
    series: Sequence[Series],
    truths: Sequence[Mapping[str, FloatArray]],
    momentum_gev: Mapping[str, tuple[float, float]],
    channel_labels: Sequence[str] | None,
) -> tuple[Figure, Rows]:
    found = quantities_of(next(each for each in series if not each.is_prior).values)
    quantities = {q.key: q for q in with_prior_ranges(found, momentum_gev)}
    truth = {key: truth_of(quantity, truths) for key, quantity in quantities.items()}
    figure = style.new_figure(WIDTH_IN, 7.9 + 0.22 * len(series))
    axes = figure.subplot_mosaic(
        [["px", "py", "pz"], ["energy_1", "channel", "channel"], ["contour", "energy_2", "missing_et"]],
        height_ratios=(1.0, 1.25, 1.0),
    )
    rows: list[Mapping[str, object]] = []
    for key in ("px", "py", "pz", "energy_1", "energy_2", "missing_et"):
        rows += _rows(quantities[key], histogram(axes[key], quantities[key], series, truth[key]), truth[key])
    drawn = channels(axes["channel"], quantities["channel"], series, truth["channel"], channel_labels)
    rows += _rows(quantities["channel"], drawn, truth["channel"])
    one, two = quantities["energy_1"], quantities["energy_2"]
    correlation(axes["contour"], one, two, series, (truth[one.key], truth[two.key]))
    for key in ("py", "pz", "missing_et"):
        axes[key].set_ylabel("")  # the same as on the left
    return figure, rows


def _rows(quantity: Quantity, drawn: Sequence[Bins], truth: float) -> Rows:
    """Return the histograms of a quantity: probabilities between `low` and `high`, which are equal for the truth."""
    known = [("truth", True, truth, truth, 1.0)] if np.isfinite(truth) else []
    bins = [
        (each.series.engine, each.series.reliable, low, high, probability)
        for each in drawn
        for low, high, probability in zip(each.low.tolist(), each.high.tolist(), each.probability.tolist(), strict=True)
    ]
    columns = ("engine", "reliable", "low", "high", "probability")
    of = {"quantity": quantity.key, "unit": quantity.unit}
    return [{**of, **dict(zip(columns, values, strict=True))} for values in [*known, *bins]]


def _generic(series: Sequence[Series], truths: Sequence[Mapping[str, FloatArray]]) -> tuple[Figure, Rows]:
    quantities = quantities_of(next(each for each in series if not each.is_prior).values)
    columns = min(3, max(1, len(quantities)))
    lines = max(1, -(-len(quantities) // columns))
    figure = style.new_figure(WIDTH_IN, 2.7 * lines + 0.4 * len(series) + 0.8)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    rows: list[Mapping[str, object]] = []
    for axes, quantity in zip(grid, quantities, strict=False):
        truth = truth_of(quantity, truths)
        rows += _rows(quantity, histogram(axes, quantity, series, truth), truth)
    for axes in grid[len(quantities) :]:
        axes.set_axis_off()
    return figure, rows


def _legend(figure: Figure, series: Sequence[Series], verdicts: Sequence[str], with_truth: bool) -> None:
    """Write the verdicts, and the legend, which has one line per engine with the numbers that decide."""
    engines: list[Any] = [each.handle() for each in series if not each.is_prior]
    others: list[Any] = [each.handle() for each in series if each.is_prior]
    if with_truth:
        others.append(Line2D([], [], label="truth", **style.TRUTH))
    rows = max(len(engines), len(others))
    blanks = [[Line2D([], [], linestyle="none", label=" ")] * (rows - len(column)) for column in (engines, others)]
    figure.legend(
        handles=[*engines, *blanks[0], *others, *(blanks[1] if others else [])],
        loc="outside upper left",
        ncols=2 if others else 1,
        handlelength=2.4,
        title="\n".join(textwrap.fill(sentence, TITLE_CHARACTERS) for sentence in verdicts),
        title_fontproperties={"size": 11, "weight": "bold"},
        alignment="left",
    )
