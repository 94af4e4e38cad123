# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the figures are drawn from, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etalumis.config import Config
from etalumis.diagnostics.history import History
from etalumis.errors import DatasetError, SimulatorError
from etalumis.files import read_json
from etalumis.inference.posterior import Posterior
from etalumis.traces.info import frequencies
from etalumis.traces.lengths import LengthCounts
from etalumis.traces.observation import Observation, ObservedStatement, load


class Frequencies(NamedTuple):
    """Occurrence of trace types (type,) and lengths."""

    type_counts: NDArray[np.int64]
    lengths: LengthCounts


@dataclass(frozen=True)
class FigureInputs:
    """Everything that figures can be drawn from; what is None or empty is left out.

    Attributes
    ----------
    config : Config or None
        Gives ranges of the momentum's prior, and the detector's geometry.
    posteriors : sequence of Posterior
        One per engine.
    diagnostics : dict or None
        Contents of diagnostics.json; computed anew where None.
    channel_labels : sequence of str or None
        Decay products by channel number.
    formats : tuple of str
        File formats.
    """

    config: Config | None = None
    posteriors: Sequence[Posterior] = ()
    diagnostics: dict[str, Any] | None = None
    history: History | None = None
    traces: Frequencies | None = None
    observation: Observation | None = None
    channel_labels: Sequence[str] | None = None
    formats: tuple[str, ...] = ("png", "pdf")


def read_frequencies(path: Path) -> Frequencies:
    """Count trace types and lengths of a trace file, an index or a sorted folder."""
    return Frequencies(*frequencies([path]))


def read_observation(path: Path) -> Observation:
    """Read observation.h5.

    Raises
    ------
    DatasetError
        It cannot be read, or is no calorimeter's: an event display needs an expected volume of (depth, y, x).
    """
    observation = load(path)
    if not any(is_image(statement) for statement in observation.observed.values()):
        found = ", ".join(
            f"{name!r} of shape {statement.value.shape}{'' if statement.expected is not None else ' without one'}"
            for name, statement in observation.observed.items()
        )
        raise DatasetError(
            f"{path}: expected an observation of shape (depth, y, x) with its expectation, found {found}; leave "
            "out --observation"
        )
    return observation


def is_image(statement: ObservedStatement) -> bool:
    """Return whether an observation can be drawn as an event display: an expected volume of (depth, y, x)."""
    return statement.expected is not None and statement.expected.ndim == 3


def read_channel_labels(simulator: Path) -> list[str] | None:
    """Labels of the decay channels from the build.json of a built simulator; None where it names none.

    Raises
    ------
    SimulatorError
        The file cannot be read.
    """
    build = Path(simulator) / "build.json"
    try:
        data = read_json(build)
    except (OSError, ValueError) as error:
        raise SimulatorError(
            f"{build}: cannot be read ({error}); build the simulator with `etalumis simulator build`"
        ) from error
    labels = data.get("channels")
    if not labels:
        return None
    return [str(label["name"] if isinstance(label, dict) else label) for label in labels]
