# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Draw all figures for which there are inputs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etalumis.config import Config
from etalumis.diagnostics.history import judge
from etalumis.diagnostics.run import diagnose
from etalumis.errors import DatasetError
from etalumis.figures import (
    STEMS,
    chains,
    event_display,
    frequency,
    loss,
    observation,
    pairs,
    posteriors,
    predictive_check,
    style,
    summary,
)
from etalumis.figures.inputs import FigureInputs, is_image
from etalumis.figures.observation import Axis
from etalumis.figures.particles import MOMENTUM, of_truth
from etalumis.paths import FIGURES_WITH_NUMBERS
from etalumis.products import check_output_folder
from etalumis.traces.observation import Observation
from etalumis.typing import FloatArray

logger = logging.getLogger(__name__)


def drawings(inputs: FigureInputs) -> Iterator[style.Drawing]:
    """Yield the figures, in the order of the workflow."""
    if inputs.observation is not None:
        yield show_observation(inputs.observation, inputs.config)
        if inputs.config is not None:
            yield show_event(inputs)
    if inputs.traces is not None:
        yield frequency.draw_counts(*inputs.traces)
    if inputs.history is not None:
        yield loss.draw(inputs.history)
    if inputs.posteriors:
        yield posteriors.draw(
            inputs.posteriors,
            diagnostics_of(inputs),
            _momentum_ranges(inputs),
            inputs.channel_labels,
            inputs.prior,
        )
        yield pairs.draw(inputs.posteriors, diagnostics_of(inputs), _momentum_ranges(inputs))
        if inputs.observation is not None:
            yield show_prediction(inputs, inputs.observation)
    for posterior in inputs.posteriors:
        if posterior.is_markov:
            report = diagnostics_of(inputs)["engines"][posterior.engine]
            yield from chains.draw_all(posterior, inputs.channel_labels, report)


def diagnostics_of(inputs: FigureInputs) -> dict[str, Any]:
    """Return the diagnostics of the posteriors; they are computed if they are not among the inputs."""
    return inputs.diagnostics if inputs.diagnostics is not None else diagnose(inputs.posteriors)


def _momentum_ranges(inputs: FigureInputs) -> dict[str, tuple[float, float]]:
    return inputs.config.simulator.momentum_gev.model_dump() if inputs.config else {}


def show_observation(event: Observation, config: Config | None) -> style.Drawing:
    """Draw the observation, with axes in cm if the geometry is known, else in voxels."""
    image, axes = _image_of(event, config)
    distance = None if config is None else config.simulator.calorimeter.distance_cm
    source = f"Source: {event.source}, noise seed {event.seed}."
    return observation.draw(image.expected, image.value, axes, image.stddev, source, of_truth(event.truth), distance)


def show_event(inputs: FigureInputs) -> style.Drawing:
    """Draw the event display: the image in three dimensions, the true and the inferred particles."""
    event, config = inputs.observation, inputs.config
    assert event is not None, "called with an observation"
    assert config is not None, "called with the geometry"
    image, axes = _image_of(event, config)
    diagnostics = diagnostics_of(inputs) if inputs.posteriors else None
    return event_display.draw(
        image.value,
        axes,
        image.stddev,
        config.simulator.calorimeter.distance_cm,
        of_truth(event.truth),
        inputs.posteriors,
        diagnostics,
        event.truth.get(MOMENTUM),
    )


def show_prediction(inputs: FigureInputs, event: Observation) -> style.Drawing:
    """Draw what the posterior of an engine leaves of the image."""
    image, axes = _image_of(event, inputs.config)
    diagnostics = diagnostics_of(inputs)
    chosen = predictive_check.choose(inputs.posteriors, diagnostics)
    return predictive_check.draw(image.name, image.value, axes, image.stddev, chosen, diagnostics)


class _Image(NamedTuple):
    """An image with the name of its observe statement, its expectation and the noise of a voxel."""

    name: str
    value: FloatArray
    expected: FloatArray
    stddev: float


def _image_of(event: Observation, config: Config | None) -> tuple[_Image, tuple[Axis, Axis, Axis]]:
    name, statement = next(item for item in event.observed.items() if is_image(item[1]))
    assert statement.expected is not None, "an image has an expectation"
    assert statement.stddev is not None, "what has an expectation has a standard deviation"
    depth, y, x = statement.expected.shape
    image = _Image(name, statement.value, statement.expected, statement.stddev)
    if config is None:
        return image, observation.voxel_axes((depth, y, x))
    detector = config.simulator.calorimeter
    return image, observation.calorimeter_axes((depth, y, x), detector.layer_cm, detector.cell_cm)


def check_output(folder: Path, formats: Sequence[str]) -> None:
    """Check, before the work, that the figures can be written into a folder.

    Raises
    ------
    DatasetError
        If the folder cannot be written, or a folder has the name of a figure.
    """
    check_output_folder(folder)
    paths = [path for stem in STEMS for path in style.output_paths(folder, stem, formats)]
    for path in (*paths, *(folder / f"{stem}.csv" for stem in FIGURES_WITH_NUMBERS)):
        if path.is_dir():
            raise DatasetError(f"{path}: is a folder; expected a file or nothing. Remove it, or name another output")


def save_all(inputs: FigureInputs, folder: Path) -> list[Path]:
    """Draw and save all figures, and the summary of the posteriors; return the files written."""
    written: list[Path] = []
    if inputs.posteriors:
        network = judge(inputs.history) if inputs.history is not None else None
        written += summary.save(diagnostics_of(inputs), network, folder)
    for drawing in drawings(inputs):
        written += style.save(drawing, folder, inputs.formats)
        logger.info("%s: %s", drawing.stem, drawing.title)
    return written
