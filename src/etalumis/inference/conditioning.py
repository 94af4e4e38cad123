# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The observations that a posterior is conditioned on, from one or several observation files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etalumis.errors import InferenceError
from etalumis.files import digest
from etalumis.inference.observations import as_observed
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

    def __str__(self) -> str:
        given = [f"{name!r} {value.shape}" for name, value in self.values.items() if value is not None]
        left_out = [repr(name) for name, value in self.values.items() if value is None]
        return f"{', '.join(given)}{' but not on ' if left_out else ''}{', '.join(left_out)}"


def read_observations(paths: Sequence[Path], unconditioned: Sequence[str] = ()) -> Conditioning:
    """Read observation files and join their statements.

    Parameters
    ----------
    paths
        Files written by `etalumis traces observation`.
    unconditioned
        Names of observe statements to leave out, whether or not a file has them.

    Raises
    ------
    DatasetError
        If a file cannot be read.
    InferenceError
        If two files have the same statement, a value is not valid, or no observation is left.
    """
    files = {path: observation.load(path) for path in paths}
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
    return Conditioning(files, values)
