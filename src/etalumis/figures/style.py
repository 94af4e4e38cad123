# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The style of all figures: sizes for a two-column page, colours that colour-blind readers can distinguish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from etalumis.figures import markup
from etalumis.figures.numbers import Rows, save_csv
from etalumis.files import atomic_path, write_text_atomic

FULL_WIDTH_IN = 7.0
COLUMN_WIDTH_IN = 3.4
DPI = 200

# palette of Okabe and Ito
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000",
)  # fmt: skip
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
ENGINE_COLOURS = {"rmh": SKY, "network_rmh": BLUE, "ic": VERMILION, "smc": GREEN, "importance": PURPLE}
TRUTH: dict[str, Any] = {"color": BLACK, "linestyle": (0, (4, 2)), "linewidth": 1.2}
SEQUENTIAL = "viridis"

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "svg.hashsalt": "etalumis",
    "figure.constrained_layout.use": True,
}

TALK: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 10,
    "hatch.linewidth": 0.6,
}
"""Sizes that can be read from the back of a room, when the figure fills a slide."""


@dataclass(frozen=True)
class Drawing:
    """A figure with its title and caption.

    Attributes
    ----------
    stem : str
        File name without suffix.
    figure : Figure
    title : str
        One line.
    caption : str
        What is shown, and the numbers, in the Markdown of `etalumis.figures.markup`.
    rows : Rows, optional
        The numbers that are drawn.
    """

    stem: str
    figure: Figure
    title: str
    caption: str
    rows: Rows | None = None


@contextmanager
def style(changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Apply the Matplotlib settings of this package, with `changes`, within a ``with`` block."""
    with mpl.rc_context(RC | dict(changes or {})):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return a figure that needs neither a display nor the global state of pyplot."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(drawing: Drawing, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write ``stem.<format>`` for every format, title and caption as ``stem.md`` and ``stem.rst``.

    The numbers, if the drawing has them, are ``stem.csv``. The files contain no dates or versions: the same input gives
    the same bytes.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    paths = output_paths(folder, drawing.stem, formats)
    for path in paths:
        _write(drawing, path)
    if drawing.rows is not None:
        paths.append(save_csv(folder / f"{drawing.stem}.csv", drawing.rows))
    return paths


def output_paths(folder: Path, stem: str, formats: Sequence[str]) -> list[Path]:
    """Return the files of one figure: one per format, and its caption as Markdown and as reStructuredText."""
    return [folder / f"{stem}.{ending}" for ending in (*formats, "md", "rst")]


def _write(drawing: Drawing, path: Path) -> None:
    ending = path.suffix[1:]
    if ending == "md":
        write_text_atomic(path, f"# {drawing.title}\n\n{drawing.caption}\n")
        return
    if ending == "rst":
        write_text_atomic(path, markup.to_rst(f"{drawing.title}.\n\n{drawing.caption}"))
        return
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}, "svg": {"Date": None}}
    # hatching is drawn with the settings of this moment, not with those of the time of drawing
    with style({"hatch.linewidth": 0.6}), atomic_path(path) as temporary:
        drawing.figure.savefig(temporary, format=ending, dpi=DPI, metadata=metadata[ending])


def legend_on_lines(axes: Axes, **settings: Any) -> None:
    """Draw a legend on a white ground, where lines cross its place."""
    axes.legend(frameon=True, facecolor="white", framealpha=0.9, edgecolor="none", **settings)


def empty_panel(axes: Axes, reason: str) -> None:
    """Write into a panel why it shows no data; a panel with nothing else in it loses its ticks."""
    axes.text(0.5, 0.5, reason, ha="center", va="center", transform=axes.transAxes, fontsize=7, color="0.35", wrap=True)
    if not axes.has_data():
        axes.set(xticks=[], yticks=[])
