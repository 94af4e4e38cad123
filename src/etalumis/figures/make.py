# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Draw all figures for which there are inputs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etalumis.config import Config
from etalumis.diagnostics.history import judge
from etalumis.diagnostics.run import diagnose
from etalumis.errors import DatasetError
from etalumis.figures import STEMS, chains, frequency, loss, observation, posteriors, style, summary
from etalumis.figures.inputs import FigureInputs, is_image
from etalumis.figures.particles import of_truth
from etalumis.products import check_output_folder
from etalumis.traces.observation import Observation

logger = logging.getLogger(__name__)


def drawings(inputs: FigureInputs) -> Iterator[style.Drawing]:
    """Yield the figures, in the order of the workflow."""
    if inputs.observation is not None:
        yield event_display(inputs.observation, inputs.config)
    if inputs.traces is not None:
        yield frequency.draw_counts(*inputs.traces)
    if inputs.history is not None:
        yield loss.draw(inputs.history)
    if inputs.posteriors:
        yield posteriors.draw(
            inputs.posteriors,
            diagnostics_of(inputs),
            inputs.config.simulator.momentum_gev.model_dump() if inputs.config else {},
            inputs.channel_labels,
            inputs.prior,
        )
    for posterior in inputs.posteriors:
        if posterior.is_markov:
            yield from chains.draw_all(posterior, inputs.channel_labels)


def diagnostics_of(inputs: FigureInputs) -> dict[str, Any]:
    """Return the diagnostics of the posteriors; they are computed if they are not among the inputs."""
    return inputs.diagnostics if inputs.diagnostics is not None else diagnose(inputs.posteriors)


def event_display(event: Observation, config: Config | None) -> style.Drawing:
    """Draw the observation, with axes in cm if the geometry is known, else in voxels."""
    image = next(filter(is_image, event.observed.values()))
    assert image.expected is not None, "an image has an expectation"
    assert image.stddev is not None, "what has an expectation has a standard deviation"
    depth, y, x = image.expected.shape
    if config is None:
        axes = observation.voxel_axes((depth, y, x))
    else:
        detector = config.simulator.calorimeter
        axes = observation.calorimeter_axes((depth, y, x), detector.layer_cm, detector.cell_cm)
    source = f"Source: {event.source}, noise seed {event.seed}."
    distance = None if config is None else config.simulator.calorimeter.distance_cm
    particles = of_truth(event.truth)
    return observation.draw(image.expected, image.value, axes, image.stddev, source, particles, distance)


def check_output(folder: Path, formats: Sequence[str]) -> None:
    """Check, before the work, that the figures can be written into a folder.

    Raises
    ------
    DatasetError
        If the folder cannot be written, or a folder has the name of a figure.
    """
    check_output_folder(folder)
    for stem in STEMS:
        for path in style.output_paths(folder, stem, formats):
            if path.is_dir():
                raise DatasetError(
                    f"{path}: is a folder; expected a file or nothing. Remove it, or name another output"
                )


def save_all(inputs: FigureInputs, folder: Path) -> list[Path]:
    """Draw and save all figures, and the summary of the posteriors; return the files written."""
    written: list[Path] = []
    if inputs.posteriors:
        network = judge(inputs.history) if inputs.history is not None else None
        written += summary.save(summary.text(diagnostics_of(inputs), network), folder)
    for drawing in drawings(inputs):
        written += style.save(drawing, folder, inputs.formats)
        logger.info("%s: %s", drawing.stem, drawing.title)
    return written
