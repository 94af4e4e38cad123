# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The inputs of the figures, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from etalumis.traces.ragged import Ragged
from etalumis.traces.sources import Sources

PRIOR_TRACES = 50_000
"""Traces whose tags are drawn as the prior: histograms of 80 bins need no more."""
WINDOW_TRACES = 1 << 20


class Frequencies(NamedTuple):
    """Number of traces of each trace type, array (type,), and the distribution of the lengths."""

    type_counts: NDArray[np.int64]
    lengths: LengthCounts


@dataclass(frozen=True)
class FigureInputs:
    """All inputs of the figures; figures whose inputs are None or empty are not drawn.

    Attributes
    ----------
    config : Config or None
        Source of the prior ranges of the momentum and of the geometry of the detector.
    posteriors : sequence of Posterior
        One per engine.
    diagnostics : dict or None
        Content of diagnostics.json; computed if None.
    traces : Frequencies or None
        Types and lengths of the traces from the prior.
    prior : mapping or None
        Tags of these traces: name -> array (trace, ...).
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
    prior: Mapping[str, NDArray[np.float64]] | None = None
    observation: Observation | None = None
    channel_labels: Sequence[str] | None = None
    formats: tuple[str, ...] = ("png", "pdf")


def read_frequencies(path: Path) -> Frequencies:
    """Count the trace types and lengths of a trace file, an index or a sorted folder."""
    return Frequencies(*frequencies([path]))


def read_prior_tags(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the tags of fixed shape of traces from the prior: name -> array (trace, ...).

    Of more than `PRIOR_TRACES` traces every n-th is taken, through all files: a sorted set is ordered by type.
    """
    sources = Sources([path])
    step = max(1, -(-sum(map(len, sources.shards)) // PRIOR_TRACES))
    names = [name for name, layout in sources.tag_layouts.items() if not layout.ragged]
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    first = 0  # of the next window, so that the steps go on from file to file
    for shard in sources.shards:
        for start in range(0, len(shard), WINDOW_TRACES):
            stop = min(start + WINDOW_TRACES, len(shard))
            for name in names:
                known = name in shard.tag_layouts
                column = shard.tag(name, start, stop) if known else sources.tag_layouts[name].absent(stop - start)
                assert not isinstance(column, Ragged), "ragged tags are left out"
                parts[name].append(np.asarray(column[first::step], dtype=np.float64))
            first = (first - (stop - start)) % step
    return {name: np.concatenate(found) for name, found in parts.items() if found}


def read_observation(path: Path) -> Observation:
    """Read observation.h5.

    Raises
    ------
    DatasetError
        If it cannot be read, or has no expectation of shape (depth, y, x), which an event display needs.
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
    """Return the labels of the decay channels from the build.json of a built simulator; None if it has none.

    Raises
    ------
    SimulatorError
        If the file cannot be read.
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
