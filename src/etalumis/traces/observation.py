# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The observation file: one held-out trace, its noisy observation, and the truth a posterior is compared with."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from etalumis.errors import DatasetError
from etalumis.files import atomic_path
from etalumis.names import from_line, from_link_name, to_line, to_link_name
from etalumis.seeds import generator
from etalumis.traces.format import LIBVER, Checksum, Provenance, file_checksum, reading, writing
from etalumis.traces.reading.dataset import StoredTrace, TraceDataset

FORMAT = "etalumis-observation"
VERSION = 2
_KIND = "observation file"


@dataclass(frozen=True)
class Observation:
    """What one held-out run would have shown the detector.

    Attributes
    ----------
    name
        Name of the observe statement.
    value
        float64 (*shape): the observation, noise included.
    expected
        float64 (*shape): without noise; None where only noisy observations are stored.
    stddev
        Standard deviation of the noise; None likewise.
    seed
        Seed of the noise.
    source
        Where the trace is from: "<file> trace <number>".
    trace_seed
        Seed that the trace was drawn from.
    truth
        The trace's tags, by name.
    named
        Values of the entries that the simulator names, by name.
    latents
        Values of all accepted entries, by address.
    provenance
        Of the dataset.
    """

    name: str
    value: np.ndarray
    expected: np.ndarray | None
    stddev: float | None
    seed: int
    source: str
    trace_seed: int
    truth: dict[str, np.ndarray]
    named: dict[str, float]
    latents: dict[str, float]
    provenance: Provenance


def draw(dataset: TraceDataset, trace: int, seed: int, name: str | None = None) -> Observation:
    """Return trace number `trace` of a dataset as an observation.

    The noise is drawn in float64 from the generator of (seed, "observation", trace).

    Raises
    ------
    DatasetError
        Where there is no such trace or observe statement.
    """
    names = [layout.name for layout in dataset.layouts]
    if name is None and len(names) != 1:
        raise DatasetError(f"{dataset.paths[0]}: it observes {names}; say which with --name")
    chosen = names[0] if name is None else name
    if chosen not in names:
        raise DatasetError(f"{dataset.paths[0]}: nothing is observed as {chosen!r}; it observes {names}")
    if not 0 <= trace < len(dataset):
        raise DatasetError(f"{dataset.paths[0]}: no trace {trace}; there are {len(dataset)}, numbered from 0")
    stored = dataset.trace(trace)
    return _observation(stored, chosen, seed, f"{dataset.paths[0].name} trace {trace}", trace, dataset.provenance)


def measured(path: Path, name: str) -> Observation:
    """Return measured data as an observation, without truth and of no simulator in particular.

    Parameters
    ----------
    path
        Numbers as text, in rows and columns, or an array in a file ``.npy`` of whatever shape.
    name
        Name of the observe statement they belong to.

    Raises
    ------
    DatasetError
        Where the file is missing, holds something else than finite numbers, or none at all.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of an empty file, which is refused below
            content = np.load(path) if path.suffix == ".npy" else np.loadtxt(path)
        value = np.asarray(content, dtype=np.float64)
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise DatasetError(f"{path}: expected numbers, as text or as an array in .npy; {error}") from error
    if not value.size or not np.all(np.isfinite(value)):
        raise DatasetError(f"{path}: expected finite numbers, found {value.size} of which some are not, or none")
    return Observation(
        name=name,
        value=value,
        expected=None,
        stddev=None,
        seed=0,
        source=f"{path.name}, measured",
        trace_seed=0,
        truth={},
        named={},
        latents={},
        provenance=Provenance(),
    )


def _observation(
    stored: StoredTrace, name: str, seed: int, source: str, number: int, provenance: Provenance
) -> Observation:
    content, stddev = stored.expected[name], stored.stddev[name]
    noise = 0.0 if stddev is None else stddev * generator(seed, "observation", number).standard_normal(content.shape)
    return Observation(
        name=name,
        value=content + noise,
        expected=None if stddev is None else content,
        stddev=stddev,
        seed=seed,
        source=source,
        trace_seed=stored.seed,
        truth=stored.tags,
        named=stored.by_name,
        latents=stored.by_address,
        provenance=provenance,
    )


def save(observation: Observation, path: Path) -> None:
    """Write the observation file, whole or not at all; raise DatasetError where it cannot be written."""
    with writing(path, _KIND), atomic_path(path) as temporary, h5py.File(temporary, "w", libver=LIBVER) as file:
        _put(file, "value", observation.value)
        if observation.expected is not None:
            _put(file, "expected", observation.expected)
        for name, value in observation.truth.items():
            _put(file.require_group("tags"), to_link_name(name), value)
        for name, number in observation.named.items():
            _put(file.require_group("named"), to_link_name(name), np.float64(number))
        latents = file.create_group("latents")
        _put(latents, "address", np.frombuffer("\n".join(map(to_line, observation.latents)).encode(), np.uint8))
        _put(latents, "value", np.array(list(observation.latents.values())))
        attributes = {
            **observation.provenance.as_dict(),
            "format": FORMAT,
            "version": VERSION,
            "name": observation.name,
            "shape": np.array(observation.value.shape, np.int64),
            "seed": observation.seed,
            "source": observation.source,
            "trace_seed": observation.trace_seed,
            "stddev": np.nan if observation.stddev is None else observation.stddev,
        }
        for name, attribute in attributes.items():
            file.attrs[name] = attribute
        file.attrs["checksum"] = file_checksum(file)


def load(path: Path) -> Observation:
    """Read a file written by `save`.

    Raises
    ------
    DatasetError
        Where it is missing, damaged, foreign or of another version.
    """
    with reading(path, kind=_KIND), h5py.File(path, "r") as file:
        attributes = file.attrs
        if attributes.get("format") != FORMAT or int(attributes["version"]) != VERSION:
            found = f"{attributes.get('format')!r} version {attributes.get('version')}"
            raise DatasetError(f"{path}: expected {FORMAT!r} version {VERSION}, found {found}; make it again")
        if attributes["checksum"] != file_checksum(file):
            raise DatasetError(f"{path}: its header was altered; make it again with `etalumis traces observation`")
        stddev = float(attributes["stddev"])
        lines = _get(path, file, "latents/address").tobytes().decode().split("\n")
        values = _get(path, file, "latents/value").tolist()
        return Observation(
            name=str(attributes["name"]),
            value=_get(path, file, "value"),
            expected=_get(path, file, "expected") if "expected" in file else None,
            stddev=None if np.isnan(stddev) else stddev,
            seed=int(attributes["seed"]),
            source=str(attributes["source"]),
            trace_seed=int(attributes["trace_seed"]),
            truth={from_link_name(link): _get(path, file, f"tags/{link}") for link in file.get("tags", ())},
            named={from_link_name(link): float(_get(path, file, f"named/{link}")) for link in file.get("named", ())},
            latents=dict(zip(map(from_line, lines), values, strict=True)) if values else {},
            provenance=Provenance.from_attributes(path, attributes),
        )


def _put(group: h5py.Group, name: str, value: np.ndarray | np.float64) -> None:
    content = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
    dataset = group.create_dataset(name, data=content)
    checksum = Checksum()
    checksum.update(content.reshape(-1))
    dataset.attrs["checksum"] = checksum.hex()


def _get(path: Path, file: h5py.File, name: str) -> np.ndarray:
    with reading(path, name, _KIND):
        content = np.asarray(file[name][()])
        expected = file[name].attrs["checksum"]
    checksum = Checksum()
    checksum.update(content.reshape(-1))
    if checksum.hex() != expected:
        raise DatasetError(f"{path}: column {name!r} was altered; make it again with `etalumis traces observation`")
    return content
