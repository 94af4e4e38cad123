# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The observations to infer: files of `etalumis traces observation`, folders of such files, or traces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from etalumis.counting import counted
from etalumis.errors import DatasetError
from etalumis.inference.conditioning import Conditioning, condition_on, read_observations
from etalumis.traces.observation import draw
from etalumis.traces.reading.dataset import TraceDataset

_SUFFIX = ".h5"


@dataclass(frozen=True)
class ObservationSource:
    """One observation, read when its turn comes.

    Attributes
    ----------
    id
        Name of the observation in the table, and of its posterior file.
    place
        Where it comes from, for messages.
    read
        Returns the observed values; raises an `EtalumisError` if they cannot be read.
    """

    id: str
    place: str
    read: Callable[[], Conditioning]


def from_files(paths: Sequence[Path], unconditioned: Sequence[str] = ()) -> list[ObservationSource]:
    """Return the observations in files and folders.

    A file is one observation. In a folder, each file ``.h5`` is an observation, and so is each subfolder: its files
    ``.h5`` hold different observe statements of one observation. The id is the name without ``.h5``.

    Parameters
    ----------
    paths
        Files or folders; the entries of a folder are taken in the order of their names.
    unconditioned
        Names of observe statements to leave out.

    Raises
    ------
    DatasetError
        If a path does not exist, a folder has no observation, or two observations have the same id.
    """
    groups: list[tuple[Path, list[Path]]] = []
    for path in paths:
        if path.is_dir():
            groups += _in_folder(path)
        elif path.exists():
            groups.append((path, [path]))
        else:
            raise DatasetError(f"{path}: no such file or folder; create it with `etalumis traces observation`")
    origin: dict[str, Path] = {}
    for path, _ in groups:
        earlier = origin.setdefault(_id(path), path)
        if earlier != path:
            raise DatasetError(
                f"{path}: has the same name as {earlier}, which identifies an observation in the table; rename one"
            )
    return [
        ObservationSource(key, str(path), partial(read_observations, files, unconditioned))
        for (path, files), key in zip(dict(groups).items(), origin, strict=True)
    ]


def _in_folder(folder: Path) -> list[tuple[Path, list[Path]]]:
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        files = sorted(path.glob(f"*{_SUFFIX}")) if path.is_dir() else [path] if path.suffix == _SUFFIX else []
        if files:
            found.append((path, files))
    if not found:
        raise DatasetError(f"{folder}: expected observation files *{_SUFFIX}, found none")
    return found


def _id(path: Path) -> str:
    return path.name.removesuffix(_SUFFIX)


def from_traces(
    dataset: TraceDataset, first: int, count: int | None, seed: int, unconditioned: Sequence[str] = ()
) -> list[ObservationSource]:
    """Return traces as observations; their noise is that of `etalumis traces observation` with the same seed.

    Parameters
    ----------
    dataset
        Traces of a split that the network has not seen.
    first, count
        Number of the first trace, from 0, and number of traces; None: all from the first one on.
    seed
        Seed of the noise.
    unconditioned
        Names of observe statements to leave out.

    Raises
    ------
    DatasetError
        If there are not that many traces.
    """
    stop = len(dataset) if count is None else first + count
    if not first < stop <= len(dataset):
        raise DatasetError(
            f"{dataset.paths[0]}: expected traces {first} to {stop - 1}, found {counted(len(dataset), 'trace')}, "
            "numbered from 0; correct --first and --count"
        )

    def read(trace: int) -> Conditioning:
        return condition_on({dataset.paths[0]: draw(dataset, trace, seed)}, unconditioned)

    return [
        ObservationSource(f"trace-{trace:06d}", f"{dataset.paths[0]} trace {trace}", partial(read, trace))
        for trace in range(first, stop)
    ]
