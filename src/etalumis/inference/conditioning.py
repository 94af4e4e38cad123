# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The observations that a posterior is conditioned on, from one or several observation files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etalumis import __version__
from etalumis.errors import InferenceError
from etalumis.files import digest
from etalumis.inference.observations import as_observed
from etalumis.simulator.built import BuiltSimulator
from etalumis.traces import observation
from etalumis.traces.observation import Observation
from etalumis.typing import Array


@dataclass(frozen=True)
class Conditioning:
    """Observed values and their sources.

    Attributes
    ----------
    files
        The observation files, by path.
    values
        Name of each observe statement -> observed value, or None if it is left out.
    """

    files: dict[Path, Observation]
    values: dict[str, Array | None]

    @property
    def digest(self) -> str:
        """Digest of the names and values, independent of their order."""
        given = sorted((name, value.tolist()) for name, value in self.values.items() if value is not None)
        return digest([item for pair in given for item in pair])

    @property
    def source(self) -> str:
        """Sources of the values, for provenance."""
        return "; ".join(dict.fromkeys(file.source for file in self.files.values()))

    @property
    def truth(self) -> dict[str, Array]:
        """Named draws and tags of the trace that all files were simulated from; empty if there is no such trace."""
        first, *others = self.files.values()
        if any((file.source, file.trace_seed) != (first.source, first.trace_seed) for file in others):
            return {}
        return {**{name: np.asarray(value) for name, value in first.named.items()}, **first.truth}

    def require_simulator(self, built: BuiltSimulator) -> None:
        """Check that the files belong to a simulator; measured data belongs to any.

        Raises
        ------
        InferenceError
            If a file was created with another simulator or other settings; the message names the file and the settings.
        """
        for path, file in self.files.items():
            origin = file.provenance
            misfit = built.misfit(origin.simulator_build_id, origin.config_digest, origin.settings)
            if misfit is not None:
                raise InferenceError(
                    f"{path}: belongs to another simulator: {misfit}. Create the observation with this simulator, or "
                    "give the simulator and the configuration that it was created with."
                )

    def provenance(self, built: BuiltSimulator) -> dict[str, Any]:
        """Return what identifies the origin of a posterior given these values: simulator, observation, producer."""
        return {
            "config_digest": built.config_digest,
            "simulator_build_id": built.build_id,
            "observation_digest": self.digest,
            "producer": f"etalumis {__version__}",
        }

    def __str__(self) -> str:
        given = [f"{name!r} {value.shape}" for name, value in self.values.items() if value is not None]
        left_out = [repr(name) for name, value in self.values.items() if value is None]
        return f"{', '.join(given)}{' but not on ' if left_out else ''}{', '.join(left_out)}"


def read_observations(paths: Sequence[Path], unconditioned: Sequence[str] = ()) -> Conditioning:
    """Read files written by `etalumis traces observation` and join their statements.

    See `condition_on` for the other parameter and the errors; a file that cannot be read raises `DatasetError`.
    """
    return condition_on({path: observation.load(path) for path in paths}, unconditioned)


def condition_on(files: Mapping[Path, Observation], unconditioned: Sequence[str] = ()) -> Conditioning:
    """Join the statements of observations.

    Parameters
    ----------
    files
        The observations by the path of the file that they come from.
    unconditioned
        Names of observe statements to leave out, whether or not a file has them.

    Raises
    ------
    InferenceError
        If two files have the same statement, a value is not valid, or no observation is left.
    """
    origin: dict[str, Path] = {}
    values: dict[str, Array | None] = {}
    for path, file in files.items():
        for name, statement in file.observed.items():
            if name in origin:
                raise InferenceError(f"{path}: observes {name!r}, and so does {origin[name]}; give each statement once")
            origin[name], values[name] = path, as_observed(name, statement.value)
    for file in files.values():
        values |= dict.fromkeys(name for name in file.left_out if name not in values)
    values |= dict.fromkeys(unconditioned)
    if all(value is None for value in values.values()):
        raise InferenceError("no observation is left to condition on; leave out fewer statements (--unconditioned)")
    return Conditioning(dict(files), values)
