# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Event display: the calorimeter in three dimensions and by layers, with the true and the inferred particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter

from etalumis.diagnostics.headline import names_of
from etalumis.figures import style
from etalumis.figures.binning import mass_level
from etalumis.figures.observation import Axis, significance
from etalumis.figures.panels import MASSES
from etalumis.figures.particles import MOMENTUM, VISIBLE, Particle, flights, visible_flights
from etalumis.figures.series import Series, deciding, of_posteriors
from etalumis.log_weights import systematic_resampling
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

STEM = "event_display"
TITLE = "Event display: image, true and inferred particles"
SHOWN_VOXELS = 250
"""Voxels drawn in three dimensions: the largest ones, noise among them."""
CELLS = 70
INFERRED_LINES = 40
"""Draws whose visible particles are shown in the layers, for each engine."""


def draw(
    value: FloatArray,
    axes: tuple[Axis, Axis, Axis],
    noise_gev: float,
    distance_cm: float,
    particles: Sequence[Particle],
    posteriors: Sequence[Posterior] = (),
    diagnostics: Mapping[str, Any] | None = None,
    momentum: FloatArray | None = None,
) -> style.Drawing:
    """Draw the observed energies with the true particles, and the flights that the engines infer.

    Parameters
    ----------
    value : array (depth, y, x)
        Observed energy per voxel in GeV.
    axes : tuple of Axis
        Of depth, y and x, in cm.
    noise_gev : float
        Standard deviation of the noise of a voxel.
    distance_cm : float
        From the decay to the front face.
    particles : sequence of Particle
        The true ones.
    posteriors, diagnostics
        For the inferred flights of the tau and of the visible particles; reliable engines are drawn, or all if none is.
    momentum : array (3,), optional
        The true momentum of the decaying particle.
    """
    depth, y, x = axes
    series = deciding(of_posteriors(posteriors, diagnostics)) if diagnostics is not None else []
    series = [each for each in series if MOMENTUM in each.values]
    with style.style(style.TALK):
        figure = style.new_figure(10.0, 8.6)
        grid = figure.add_gridspec(2, 2, height_ratios=(1.25, 1.0))
        space: Any = figure.add_subplot(grid[0, 0], projection="3d")
        _space(space, value, axes, noise_gev, particles, distance_cm)
        face = figure.add_subplot(grid[0, 1])
        sides = [figure.add_subplot(grid[1, column]) for column in range(2)]
        pictures = [significance(value, summed, noise_gev) for summed in range(3)]
        scale = max(5.0, *(float(picture.max()) for picture in pictures))
        for panel, picture, (across, up) in zip(
            [face, *sides], pictures, ((x, y), (depth, x), (depth, y)), strict=True
        ):
            image = panel.imshow(
                picture, origin="lower", extent=(*across.edges, *up.edges), cmap="Greys", vmin=0.0, vmax=scale,
                interpolation="nearest", aspect="equal" if panel is face else "auto",
            )  # fmt: skip
            panel.set(xlabel=across.label, ylabel=up.label, xlim=across.edges, ylim=up.edges)
        for each in series:
            seen = visible_flights(each.values, distance_cm)
            weight = np.broadcast_to(each.weight[:, None], seen.shape[:-1])
            _region(face, each, seen.reshape(-1, 2), weight.ravel(), x, y, filled=True)
            _region(face, each, flights(each.values, distance_cm), each.weight, x, y)
        for particle in particles:
            at_x, at_y = particle.at(distance_cm)
            mark = "x" if particle.visible else "+"
            face.plot(at_x, at_y, mark, markersize=9, markeredgewidth=2.0, color=_colour(particle))
        if momentum is not None:
            face.plot(
                distance_cm * momentum[0] / momentum[2], distance_cm * momentum[1] / momentum[2], marker="*",
                markersize=13, color=style.BLACK, linestyle="none",
            )  # fmt: skip
        face.set_title("front face, seen along the beam")
        for panel, coordinate, title in zip(sides, range(2), ("from above", "from the side"), strict=True):
            _side(panel, coordinate, depth, particles, series, distance_cm)
            panel.set_title(f"layers, seen {title}")
        figure.colorbar(image, ax=[face, *sides], fraction=0.03, pad=0.02, label="energy [standard deviations]")
        figure.legend(
            handles=_handles(particles, series, momentum is not None), loc="outside upper left", ncols=3, fontsize=9
        )
    return style.Drawing(STEM, figure, TITLE, _caption(series, value, noise_gev))


def _space(
    axes: Any,
    value: FloatArray,
    edges: tuple[Axis, Axis, Axis],
    noise_gev: float,
    particles: Sequence[Particle],
    distance_cm: float,
) -> None:
    """Draw the largest voxels as dots, and the lines of flight of the particles."""
    depth, y, x = edges
    flat = np.argsort(value, axis=None)[-SHOWN_VOXELS:]
    at_depth, at_y, at_x = np.unravel_index(flat, value.shape)
    energies = value.ravel()[flat] / noise_gev
    axes.scatter(
        depth.centres(value.shape[0])[at_depth], x.centres(value.shape[2])[at_x], y.centres(value.shape[1])[at_y],
        s=4.0 * np.clip(energies - energies.min() + 0.5, 0.0, 8.0), c=energies, cmap="Greys", vmin=0.0,
        vmax=max(5.0, float(energies.max())), linewidths=0, alpha=0.8, depthshade=False,
    )  # fmt: skip
    along = np.array(depth.edges)
    for particle in particles:
        line_x, line_y = particle.at(distance_cm + along)
        style_of = "-" if particle.visible else ":"
        axes.plot(along, line_x, line_y, color=_colour(particle), linestyle=style_of, linewidth=1.8)
    axes.set(xlabel=depth.label, ylabel=x.label, zlabel=y.label, xlim=depth.edges, ylim=x.edges, zlim=y.edges)
    axes.set_title(f"the {SHOWN_VOXELS} largest voxels")
    axes.view_init(elev=18, azim=-62)
    axes.set_box_aspect(None, zoom=0.88)  # the label of the vertical axis does not touch the next panel


def _side(
    axes: Axes,
    coordinate: int,
    depth: Axis,
    particles: Sequence[Particle],
    series: Sequence[Series],
    distance_cm: float,
) -> None:
    """Draw the lines of flight through the layers: x (coordinate 0) or y (1) against the depth."""
    along = np.array(depth.edges)
    for each in series:
        ends = np.stack([visible_flights(each.values, distance_cm + at)[..., coordinate] for at in along], axis=-1)
        lines = ends[systematic_resampling(np.random.default_rng(0), each.weight, INFERRED_LINES)].reshape(-1, 2)
        for line in lines[np.isfinite(lines).all(axis=1)]:
            axes.plot(along, line, color=each.line["color"], linewidth=0.8, alpha=0.35 if each.reliable else 0.15)
    for particle in particles:
        axes.plot(
            along, particle.at(distance_cm + along)[coordinate], color=_colour(particle),
            linestyle="-" if particle.visible else ":", linewidth=1.8,
        )  # fmt: skip


def _colour(particle: Particle) -> str:
    return style.BLUE if particle.visible else style.PURPLE


def _region(
    axes: Axes, series: Series, at: FloatArray, weight: FloatArray, x: Axis, y: Axis, *, filled: bool = False
) -> None:
    """Draw the regions of 68 % and 95 % of the mass of weighted points (point, 2) on the face; filled: of 68 % only."""
    keep = np.isfinite(at).all(axis=1) & (weight > 0)
    if not keep.any():
        return
    across, up = at[keep, 0], at[keep, 1]
    counts, edges_x, edges_y = np.histogram2d(across, up, CELLS, [x.edges, y.edges], weights=weight[keep])
    if not counts.any():
        return
    density = gaussian_filter(counts, 1.6, mode="constant")
    centres = [0.5 * (edges[1:] + edges[:-1]) for edges in (edges_x, edges_y)]
    if filled:
        levels = np.array([mass_level(density, MASSES[-1]), density.max()])
        axes.contourf(
            *centres, density.T, levels, colors=[series.line["color"]], alpha=0.45 if series.reliable else 0.2
        )
        return
    levels = np.unique([mass_level(density, mass) for mass in MASSES])
    axes.contour(
        *centres, density.T, levels,
        colors=[series.line["color"]], linestyles=[series.line["linestyle"]], linewidths=[1.2, 2.0][-len(levels):],
    )  # fmt: skip


def _handles(particles: Sequence[Particle], series: Sequence[Series], with_truth: bool) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=_colour(p), linestyle="-" if p.visible else ":", marker="x" if p.visible else "+",
               label=f"true {p.label}{'' if p.visible else ' (invisible)'}")
        for p in particles
    ]  # fmt: skip
    if with_truth:
        handles.append(Line2D([], [], color=style.BLACK, marker="*", linestyle="none", label="true flight of the τ"))
    name = [names_of([each.engine]) for each in series]
    handles += [
        Line2D([], [], label=f"inferred flight, {which}{'' if each.reliable else ' (not reliable)'}", **each.line)
        for which, each in zip(name, series, strict=True)
    ]
    if any(VISIBLE in each.values for each in series):
        handles.append(Patch(color="0.6", label="filled, thin lines: inferred visible particles"))
    return handles


def _caption(series: Sequence[Series], value: FloatArray, noise_gev: float) -> str:
    inferred = (
        f" Contours: where the τ would have hit the face according to {names_of([each.engine for each in series])}, "
        "regions of 68 % and 95 % of the posterior mass."
        if series
        else ""
    )
    if any(VISIBLE in each.values for each in series):
        inferred += (
            " Filled: where visible particles hit it, 68 %. Thin lines: the visible particles of "
            f"{INFERRED_LINES} draws of each of these engines."
        )
    above = int((value > 3 * noise_gev).sum())
    return (
        f"Above, left: the {SHOWN_VOXELS} voxels with the largest observed energies; {above:,} of all {value.size:,} "
        "exceed three times the noise. Lines: the true particles, dotted if the calorimeter does not see them. Above, "
        "right: the sum over depth, averaged over neighbouring cells, in standard deviations of its noise; the true "
        "particles where they cross the front face, and the direction of the τ before its decay (star). Below: the "
        f"sums over y and over x, which show the layers.{inferred}"
    )
