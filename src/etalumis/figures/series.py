# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The distributions that a figure shows together, the posteriors and the prior, and how each is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from etalumis.diagnostics.arviz_calls import smoothed_weights
from etalumis.diagnostics.headline import own_checks, short_verdicts
from etalumis.diagnostics.quantities import Quantity
from etalumis.figures import style
from etalumis.log_weights import normalise
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

PRIOR = "prior"
PRIOR_COLOUR = "0.91"
_WIDTHS = {"network_rmh": 2.6, "smc": 1.8, "ic": 1.1, "importance": 1.1}
"""Widths of the outlines, so that those on top of each other all remain visible."""


@dataclass(frozen=True, eq=False)
class Series:
    """One distribution of a figure.

    Attributes
    ----------
    engine : str
        Engine, or "prior".
    label : str
        Its line in the legend.
    values : mapping
        Name -> array (draw, ...).
    weight : array (draw,)
        Normalised.
    filled : bool
        Filled area; otherwise an outline.
    reliable : bool
        Whether it may be read as a result; if not, it is drawn hatched (filled) or thin and dotted (outline).
    """

    engine: str
    label: str
    values: Mapping[str, FloatArray]
    weight: FloatArray
    filled: bool
    reliable: bool = True

    @property
    def is_prior(self) -> bool:
        """Whether it is the prior, which is drawn as a background."""
        return self.engine == PRIOR

    @property
    def colour(self) -> str:
        """Colour of the engine."""
        return PRIOR_COLOUR if self.is_prior else style.ENGINE_COLOURS.get(self.engine, style.GREEN)

    def samples(self, quantity: Quantity) -> tuple[FloatArray, FloatArray]:
        """Return the finite values with a positive weight, and their weights, normalised; empty without them."""
        values = quantity.of(self.values)
        if values is None:
            return np.empty(0), np.empty(0)
        keep = np.isfinite(values) & (self.weight > 0)
        kept = self.weight[keep]
        return values[keep], kept / kept.sum() if kept.size else kept

    def pair(self, x: Quantity, y: Quantity) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the values of two quantities, and the weights, of the draws that have both."""
        a, b = x.of(self.values), y.of(self.values)
        if a is None or b is None:
            return np.empty(0), np.empty(0), np.empty(0)
        keep = np.isfinite(a) & np.isfinite(b) & (self.weight > 0)
        return a[keep], b[keep], self.weight[keep]

    @property
    def area(self) -> dict[str, Any]:
        """Properties of a filled patch: a solid area, or hatching if the engine is not reliable."""
        if self.is_prior:
            return {"facecolor": PRIOR_COLOUR, "edgecolor": "none", "linewidth": 0.0, "zorder": 0.5}
        if self.reliable:
            return {"facecolor": (self.colour, 0.65), "edgecolor": "none", "linewidth": 0.0}
        return {"facecolor": "none", "edgecolor": (self.colour, 0.6), "linewidth": 0.6, "hatch": "/////"}

    @property
    def line(self) -> dict[str, Any]:
        """Properties of an outline: a strong line, or a thin dotted one if the engine is not reliable."""
        if self.reliable:
            return {"color": self.colour, "linewidth": _WIDTHS.get(self.engine, 1.4), "linestyle": "solid"}
        return {"color": (self.colour, 0.7), "linewidth": 0.9, "linestyle": (0, (1, 1))}

    def stairs(self, axes: Axes, density: FloatArray, edges: FloatArray) -> None:
        """Draw a histogram: density (bin,) between edges (bin + 1,)."""
        if self.filled:
            axes.stairs(density, edges, fill=True, **self.area)
        else:
            axes.stairs(density, edges, **self.line)

    def handle(self) -> Patch | Line2D:
        """Return its mark in a legend, with its label."""
        return Patch(label=self.label, **self.area) if self.filled else Line2D([], [], label=self.label, **self.line)


def filled_engine(diagnostics: Mapping[str, Any]) -> str | None:
    """Return the engine that is drawn as an area, as RMH in the paper; of two areas one would hide the other.

    It is the first reliable one with Markov chains, or the first with chains.
    """
    chains = [engine for engine, report in diagnostics["engines"].items() if report["markov"]]
    passed = own_checks(diagnostics)
    return next((engine for engine in chains if passed[engine]), chains[0] if chains else None)


def of_posteriors(
    posteriors: Sequence[Posterior], diagnostics: Mapping[str, Any], prior: Mapping[str, FloatArray] | None = None
) -> list[Series]:
    """Return the distributions in the order in which they are drawn: the prior, the filled one, the outlines."""
    reliable, labels = own_checks(diagnostics), short_verdicts(diagnostics)
    widest = {engine: -width for engine, width in _WIDTHS.items()}
    filled = filled_engine(diagnostics)
    ordered = sorted(
        posteriors, key=lambda each: (each.engine != filled, not each.is_markov, widest.get(each.engine, 0.0))
    )
    found = [
        Series(
            engine=posterior.engine,
            label=labels[posterior.engine],
            values=posterior.values,
            weight=_shown_weights(posterior),
            filled=posterior.engine == filled,
            reliable=reliable[posterior.engine],
        )
        for posterior in ordered
    ]
    if prior:
        count = len(next(iter(prior.values())))
        weight = np.full(count, 1.0 / max(count, 1))
        found.insert(0, Series(PRIOR, f"prior, {count:,} traces", prior, weight, filled=True))
    return found


def _shown_weights(posterior: Posterior) -> FloatArray:
    """Return the weights (draw,) of a figure: smoothed ones of independent draws, so that no single draw is a spike."""
    log_weight = np.asarray(posterior.log_weight, dtype=float)
    dependent = posterior.is_markov or posterior.lineage is not None
    return normalise(log_weight) if dependent else smoothed_weights(log_weight)


def deciding(series: Sequence[Series]) -> list[Series]:
    """Return the distributions that choose axes and bins: reliable posteriors, or all posteriors if none is."""
    posteriors = [each for each in series if not each.is_prior]
    return [each for each in posteriors if each.reliable] or posteriors
