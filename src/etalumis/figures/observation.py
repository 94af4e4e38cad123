# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Event display of the observation: expected and noisy energies in the calorimeter, in three projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import Normalize

from etalumis.figures import style
from etalumis.typing import FloatArray

STEM = "observation"
TITLE = "The observation: a test decay in the calorimeter"


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
    expected: FloatArray, value: FloatArray, axes: tuple[Axis, Axis, Axis], noise_gev: float, description: str = ""
) -> style.Drawing:
    """Draw three projections of the expected energies (above) and of the noisy ones (below).

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
    """
    depth, y, x = axes
    views = [(0, x, y, "seen along the beam"), (1, depth, x, "seen from above"), (2, depth, y, "seen from the side")]
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 4.4)
        grid = figure.subplots(2, 3, squeeze=False)
        for column, (summed, across, up, title) in enumerate(views):
            for row, (energies, what) in enumerate(((expected, "expected"), (value, "with noise"))):
                picture = projection(energies, summed)
                panel = grid[row, column]
                image = panel.imshow(
                    picture,
                    origin="lower",
                    extent=(*across.edges, *up.edges),
                    aspect="auto",
                    cmap=style.SEQUENTIAL,
                    # one scale per picture: noise may hide the showers, which only the expectation then shows
                    norm=Normalize(vmin=0.0, vmax=float(picture.max()) if picture.max() > 0 else 1.0, clip=True),
                    interpolation="nearest",
                )
                panel.set(xlabel=across.label, ylabel=up.label, title=f"{title}: {what}")
                figure.colorbar(image, ax=panel, fraction=0.06, pad=0.02, label="summed energy [GeV]" * (column == 2))
    return style.Drawing(STEM, figure, TITLE, caption(expected, value, noise_gev, description))


def projection(energies: FloatArray, summed: int) -> FloatArray:
    """Return the sum over one axis, transposed so that rows go up: (y, x), (x, depth) or (y, depth)."""
    picture = energies.sum(axis=summed)
    return np.asarray(picture if summed == 0 else picture.T)


def caption(expected: FloatArray, value: FloatArray, noise_gev: float, description: str) -> str:
    """Return the caption, with the numbers of the event."""
    lit = int((expected > 0).sum())
    above = int((expected > 3 * noise_gev).sum())
    return (
        f"{description} Energy deposited in {' x '.join(map(str, expected.shape))} voxels, summed over one axis. Each "
        f"picture has its own scale; negative sums are drawn as zero. Expected: {expected.sum():.2f} GeV in {lit:,} "
        f"voxels, at most {expected.max():.2f} GeV per voxel; {above:,} voxels exceed three times the noise of "
        f"{noise_gev:g} GeV. With noise: {value.sum():.2f} GeV in total."
    ).strip()
