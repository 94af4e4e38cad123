# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Pair plot: how the posterior ties the quantities to each other, and where two engines differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from etalumis.counting import counted
from etalumis.diagnostics.headline import names_of
from etalumis.diagnostics.quantities import Quantity, quantities_of, with_prior_ranges
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.figures import captions, markup, style
from etalumis.figures.panels import correlation, histogram
from etalumis.figures.posteriors import truth_of
from etalumis.figures.series import Series, deciding, of_posteriors
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from typing import Any

    from etalumis.inference.posterior import Posterior

STEM = "posterior_pairs"
TITLE = "Pairs of quantities"
MAX_QUANTITIES = 6
"""More panels could not be read."""


def draw(
    posteriors: Sequence[Posterior], diagnostics: Mapping[str, Any], momentum_gev: Mapping[str, tuple[float, float]]
) -> style.Drawing:
    """Draw the regions of 68 % and 95 % of every pair of continuous quantities, and the histograms on the diagonal.

    Only reliable engines are drawn, or all if none is reliable. Quantities without an order, and constant ones, are
    left out.

    Parameters
    ----------
    posteriors : sequence of Posterior
    diagnostics : mapping
        Output of `etalumis.diagnostics.diagnose` for the same posteriors.
    momentum_gev : mapping
        Prior ranges of px, py and pz in GeV; their axes show them entirely.
    """
    series = deciding(of_posteriors(posteriors, diagnostics))
    quantities = _shown(posteriors, momentum_gev)
    truths = [posterior.truth for posterior in posteriors]
    truth = {quantity.key: truth_of(quantity, truths) for quantity in quantities}
    count = max(len(quantities), 1)
    with style.style(style.TALK | {"axes.labelsize": 9, "xtick.labelsize": 7, "ytick.labelsize": 7}):
        figure = style.new_figure(9.0, max(9.0 * count / MAX_QUANTITIES, 3.0) + 0.5)
        grid = figure.subplots(count, count, squeeze=False)
        for row, y in enumerate(quantities):
            for column, x in enumerate(quantities):
                axes = grid[row, column]
                if column > row:
                    axes.set_axis_off()
                    continue
                if column == row:
                    histogram(axes, x, series, truth[x.key])
                    axes.set(yticks=[], ylabel="")
                else:
                    correlation(axes, x, y, series, (truth[x.key], truth[y.key]))
                    axes.set_title("")
                if row < count - 1:
                    axes.set_xlabel("")
                    axes.tick_params(labelbottom=False)
                if column > 0:
                    axes.set_ylabel("")
                    axes.tick_params(labelleft=False)
        if not quantities:
            style.empty_panel(grid[0, 0], "no continuous quantity")
        figure.legend(handles=[each.handle() for each in series], loc="outside upper left", ncols=1, handlelength=2.4)
    names = names_of([each.engine for each in series])
    left_out = len(posteriors) - len(series)
    whose = "its own check is" if left_out == 1 else "their own checks are"
    remark = f" {counted(left_out, 'engine')} that failed {whose} left out."
    text = (
        f"{names}: regions of 68 % and 95 % of the posterior mass for each pair of quantities, histograms on the "
        f"diagonal; dashed: the true values.{remark if left_out else ''} Narrow, tilted regions are quantities that "
        "the observation ties together; they are what single histograms do not show, and what makes chains slow."
    )
    table = _correlations(quantities, series)
    return style.Drawing(STEM, figure, TITLE, "\n".join([text, *(["", *table] if table else [])]))


def _correlations(quantities: Sequence[Quantity], series: Sequence[Series]) -> list[str]:
    """Return a Markdown table of the correlation of each pair of quantities by engine; empty without a pair."""
    found = list(combinations(quantities, 2))
    if not found:
        return []
    rows = [
        markup.row(["correlation of", *(ENGINE_NAMES.get(each.engine, each.engine) for each in series)]),
        "| --- |" + " --- |" * len(series),
    ]
    for x, y in found:
        cells = [captions.number(_correlation(*each.pair(x, y)), ".2f") for each in series]
        rows.append(markup.row([f"{x.key}, {y.key}", *cells]))
    return rows


def _correlation(x: FloatArray, y: FloatArray, weight: FloatArray) -> float:
    """Return the weighted correlation; nan if one of them is constant."""
    if len(x) < 2 or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return math.nan
    covariance = np.cov(x, y, aweights=weight, ddof=0)
    return float(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))


def _shown(posteriors: Sequence[Posterior], momentum_gev: Mapping[str, tuple[float, float]]) -> list[Quantity]:
    """Return the first continuous quantities that vary in some posterior."""
    found = with_prior_ranges(quantities_of(posteriors[0].values), momentum_gev)
    varying = [quantity for quantity in found if not quantity.categorical and _varies(quantity, posteriors)]
    return varying[:MAX_QUANTITIES]


def _varies(quantity: Quantity, posteriors: Sequence[Posterior]) -> bool:
    for posterior in posteriors:
        values = quantity.of(posterior.values)
        if values is not None and np.isfinite(values).any() and np.nanstd(values[np.isfinite(values)]) > 0:
            return True
    return False
