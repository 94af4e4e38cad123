# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The observation in three projections, in units of its noise, with the signal and the true particles outlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter

from etalumis.figures import style
from etalumis.figures.particles import Particle
from etalumis.typing import FloatArray

STEM = "observation"
TITLE = "The observation: a test decay in the calorimeter"
SMOOTHING_CELLS = 1.0
"""About the width of a shower: neighbours are averaged, since the eye does not do it."""
MIN_SCALE = 5.0
"""Upper end of the colour scale, in standard deviations, if nothing exceeds it: noise then looks like noise."""
OUTLINES = (0.1, 0.5)
"""Shares of the largest expected energy at which the signal is outlined."""


@dataclass(frozen=True)
class Axis:
    """One axis of the calorimeter.

    Attributes
    ----------
    label : str
        With unit.
    edges : (float, float)
        Outer edges of the first and of the last voxel.
    """

    label: str
    edges: tuple[float, float]

    def centres(self, count: int) -> FloatArray:
        """Return the centres of `count` voxels."""
        low, high = self.edges
        return np.asarray(low + (high - low) * (np.arange(count) + 0.5) / count)


def calorimeter_axes(shape: tuple[int, int, int], layer_cm: float, cell_cm: float) -> tuple[Axis, Axis, Axis]:
    """Return axes in cm: depth from the front face, y and x from the beam."""
    depth, y, x = shape
    return (
        Axis("depth [cm]", (0.0, depth * layer_cm)),
        Axis("y [cm]", (-0.5 * y * cell_cm, 0.5 * y * cell_cm)),
        Axis("x [cm]", (-0.5 * x * cell_cm, 0.5 * x * cell_cm)),
    )


def voxel_axes(shape: tuple[int, int, int]) -> tuple[Axis, Axis, Axis]:
    """Return axes in voxel numbers, for a detector of unknown geometry."""
    depth, y, x = (Axis(name, (-0.5, n - 0.5)) for name, n in zip(("depth", "y", "x"), shape, strict=True))
    return depth, y, x


def draw(
    expected: FloatArray,
    value: FloatArray,
    axes: tuple[Axis, Axis, Axis],
    noise_gev: float,
    description: str = "",
    particles: Sequence[Particle] = (),
    distance_cm: float | None = None,
) -> style.Drawing:
    """Draw three projections of the observed energies, all on one scale, with the expected signal outlined.

    Parameters
    ----------
    expected, value : array (depth, y, x)
        Energy per voxel in GeV, without and with noise.
    axes : tuple of Axis
        Of depth, y and x.
    noise_gev : float
        Standard deviation of the noise of a voxel.
    description : str
        Where the observation comes from.
    particles : sequence of Particle
        The true ones; drawn if `distance_cm`, from the decay to the front face, is known.
    """
    depth, y, x = axes
    views = [(0, x, y, "along the beam"), (1, depth, x, "from above"), (2, depth, y, "from the side")]
    pictures = [significance(value, summed, noise_gev) for summed, *_ in views]
    scale = max(MIN_SCALE, *(float(picture.max()) for picture in pictures))
    with style.style(style.TALK):
        figure = style.new_figure(10.0, 4.1)
        grid = figure.subplots(1, 3)
        for panel, picture, (summed, across, up, title) in zip(grid, pictures, views, strict=True):
            image = panel.imshow(
                picture, origin="lower", extent=(*across.edges, *up.edges), aspect="auto", cmap="Greys", vmin=0.0,
                vmax=scale, interpolation="nearest",
            )  # fmt: skip
            outline(panel, projection(expected, summed), across, up)
            if distance_cm is not None:
                _tracks(panel, particles, summed, depth, distance_cm)
            panel.set(xlabel=across.label, ylabel=up.label, title=f"seen {title}", xlim=across.edges, ylim=up.edges)
        figure.colorbar(image, ax=grid, fraction=0.04, pad=0.01, label="energy [standard deviations of its noise]")
        handles = [Line2D([], [], color=style.VERMILION, label="expected signal (10 % and 50 % of its largest value)")]
        if particles and distance_cm is not None:
            handles += [_handle(particle) for particle in particles]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return style.Drawing(STEM, figure, TITLE, caption(expected, value, noise_gev, description))


def projection(energies: FloatArray, summed: int) -> FloatArray:
    """Return the sum over one axis, transposed so that rows go up: (y, x), (x, depth) or (y, depth)."""
    picture = energies.sum(axis=summed)
    return np.asarray(picture if summed == 0 else picture.T)


def significance(energies: FloatArray, summed: int, noise_gev: float) -> FloatArray:
    """Return a projection, averaged over neighbouring cells, in standard deviations of its noise.

    The three projections add up different numbers of voxels; in this unit they have one scale.
    """
    picture = projection(energies, summed)
    smooth = gaussian_filter(picture, SMOOTHING_CELLS, mode="constant")
    # variance of the average: the square of a normal kernel is a narrower one, times its value at the centre
    unit = np.zeros(np.array(picture.shape) + 1 - np.array(picture.shape) % 2)
    unit[tuple(size // 2 for size in unit.shape)] = 1.0
    squares = gaussian_filter(unit, SMOOTHING_CELLS, mode="constant") ** 2
    share = gaussian_filter(np.ones(picture.shape), SMOOTHING_CELLS / np.sqrt(2.0), mode="constant")
    noise = noise_gev * np.sqrt(energies.shape[summed] * squares.sum() * share)
    return np.asarray(smooth / noise)


def outline(axes: Axes, picture: FloatArray, across: Axis, up: Axis) -> None:
    """Draw the lines at which an expected energy has the shares `OUTLINES` of its largest value."""
    if picture.max() <= 0:
        return
    axes.contour(
        across.centres(picture.shape[1]), up.centres(picture.shape[0]), picture,
        [share * picture.max() for share in OUTLINES], colors=style.VERMILION, linewidths=(1.0, 1.8),
    )  # fmt: skip


def _tracks(axes: Axes, particles: Sequence[Particle], summed: int, depth: Axis, distance_cm: float) -> None:
    """Draw the lines of flight, and for the view along the beam the points where they cross the front face."""
    for particle in particles:
        look = _look(particle)
        if summed == 0:
            axes.plot(*particle.at(distance_cm), marker="x", markersize=8, markeredgewidth=1.8, color=look["color"])
        else:
            along = np.array(depth.edges)
            axes.plot(along, particle.at(distance_cm + along)[0 if summed == 1 else 1], **look)


def _look(particle: Particle) -> dict[str, Any]:
    if particle.visible:
        return {"color": style.BLUE, "linestyle": (0, (4, 2)), "linewidth": 1.2}
    return {"color": style.GREEN, "linestyle": (0, (1, 1.5)), "linewidth": 1.2}


def _handle(particle: Particle) -> Line2D:
    seen = "" if particle.visible else " (invisible)"
    return Line2D([], [], marker="x", label=f"true {particle.label}{seen}", **_look(particle))


def matched_significance(expected: FloatArray, noise_gev: float) -> float:
    """Return by how many standard deviations the signal stands out for somebody who knows its shape.

    It is the norm of the expected image over the noise of a voxel: the signal-to-noise ratio of the matched filter.
    """
    return float(np.sqrt(np.square(expected, dtype=float).sum()) / noise_gev)


def caption(expected: FloatArray, value: FloatArray, noise_gev: float, description: str) -> str:
    """Return the caption, with the numbers of the event."""
    lit = int((expected > 0).sum())
    above = int((expected > 3 * noise_gev).sum())
    return (
        f"{description} Observed energy in {' x '.join(map(str, expected.shape))} voxels, summed over one axis, "
        "averaged over neighbouring cells, in standard deviations of its noise; one scale for all, negative "
        "values are white. The engines see the energies of the voxels, none of the lines. "
        f"Expected: {expected.sum():.2f} GeV in {lit:,} voxels, at most {expected.max():.2f} GeV per voxel; {above:,} "
        f"voxels exceed three times the noise of {noise_gev:g} GeV. To somebody who knew its shape, the signal would "
        f"stand out by {matched_significance(expected, noise_gev):.1f} standard deviations. With noise: "
        f"{value.sum():.2f} GeV in total."
    ).strip()
