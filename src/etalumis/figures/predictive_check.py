# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posterior predictive check of the image: what an engine's posterior leaves unexplained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from etalumis.diagnostics.headline import own_checks
from etalumis.diagnostics.prediction import SUBJECT
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.figures import observation, style
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.figures.observation import Axis
    from etalumis.inference.posterior import Posterior

STEM = "predictive_check"
TITLE = "Predictive check: what the posterior leaves of the observation"
SCALE = 4.0
"""Ends of the colour scale, in standard deviations."""
MANY = 1000
"""Voxels from which a histogram has narrow bins."""
EDGE = 6.0
"""Largest residual in the histogram; larger ones are counted in the last bins."""


def choose(posteriors: Sequence[Posterior], diagnostics: Mapping[str, Any]) -> Posterior | None:
    """Return the first posterior with a predictive check, of a reliable engine if there is one."""
    checked = [posterior for posterior in posteriors if posterior.predictive is not None]
    reliable = own_checks(diagnostics)
    return next((each for each in checked if reliable[each.engine]), checked[0] if checked else None)


def draw(
    name: str,
    value: FloatArray,
    axes: tuple[Axis, Axis, Axis],
    noise_gev: float,
    posterior: Posterior | None,
    diagnostics: Mapping[str, Any],
) -> style.Drawing:
    """Draw the residuals of the image: observed minus expected energy, in standard deviations of the noise.

    Parameters
    ----------
    name : str
        Name of the observe statement.
    value : array (depth, y, x)
        Observed energy per voxel, GeV.
    axes : tuple of Axis
        Of depth, y and x.
    noise_gev : float
        Standard deviation of the noise of a voxel.
    posterior : Posterior or None
        See `choose`.
    diagnostics : mapping
        Output of `etalumis.diagnostics.diagnose` for the same posteriors.
    """
    check = None if posterior is None else posterior.predictive
    expected = None if check is None else check.expected.get(name)
    with style.style(style.TALK):
        figure = style.new_figure(10.0, 3.6)
        if posterior is None or expected is None or expected.shape != value.shape:
            style.empty_panel(figure.subplots(), "no engine has a predictive check of this image")
            return style.Drawing(STEM, figure, TITLE, "No engine has a predictive check of this image.")
        grid = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.9))
        depth, y, x = axes
        views = [(0, x, y, "along the beam"), (1, depth, x, "from above"), (2, depth, y, "from the side")]
        for panel, (summed, across, up, title) in zip(grid, views, strict=False):
            image = panel.imshow(
                observation.significance(value - expected, summed, noise_gev), origin="lower",
                extent=(*across.edges, *up.edges), aspect="auto", cmap="RdBu_r", vmin=-SCALE, vmax=SCALE,
                interpolation="nearest",
            )  # fmt: skip
            observation.outline(panel, observation.projection(expected, summed), across, up)
            panel.set(xlabel=across.label, ylabel=up.label, title=f"seen {title}", xlim=across.edges, ylim=up.edges)
        figure.colorbar(image, ax=grid[:3], fraction=0.04, pad=0.01, label="residual [standard deviations]")
        _histogram(grid[3], (value - expected) / noise_gev, expected > noise_gev)
    return style.Drawing(STEM, figure, TITLE, _caption(posterior.engine, diagnostics))


def _histogram(axes: Axes, residual: FloatArray, signal: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Draw the residuals of single voxels, all and those with signal, and the normal distribution."""
    groups = [(residual.ravel(), "0.6", "all voxels"), (residual[signal], style.VERMILION, "with signal")]
    for values, colour, label in groups:
        if len(values):
            axes.hist(
                np.clip(values, -EDGE, EDGE), 48 if len(values) > MANY else 12, range=(-EDGE, EDGE), density=True,
                histtype="step", color=colour, label=f"{label} ({len(values):,})",
            )  # fmt: skip
    centres = np.linspace(-EDGE, EDGE, 241)
    axes.plot(centres, stats.norm.pdf(centres), color=style.BLACK, linewidth=0.8, label="normal")
    axes.set(yscale="log", ylim=(1e-5, 4.0), xlabel="residual of a voxel", title="single voxels")
    axes.legend(loc="upper center", fontsize=7, handlelength=1.2)


def _caption(engine: str, diagnostics: Mapping[str, Any]) -> str:
    name = ENGINE_NAMES.get(engine, engine)
    verdicts = [check["sentence"] for check in diagnostics["checks"] if check["subject"] == SUBJECT]
    return "\n".join(
        [
            f"Observed energy minus the posterior mean of the expected energy ({name}), in standard deviations of the "
            "noise. Images: summed over one axis and averaged over neighbouring cells; outlined: the expected signal. "
            "If the posterior explains the observation, nothing but noise is left, inside the outline too. "
            "Histogram: single voxels without averaging.",
            "",
            *(f"- {sentence}" for sentence in verdicts),
        ]
    )
