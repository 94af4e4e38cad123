# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The observation file: an observation drawn from a held-out trace, and the truth to compare posteriors with."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from etalumis.errors import DatasetError
from etalumis.names import from_line, from_link_name, require_storable, to_line, to_link_name
from etalumis.products import write_hdf5
from etalumis.refusals import storage_error
from etalumis.seeds import generator
from etalumis.traces.format import LIBVER, Checksum, Provenance, file_checksum, reading
from etalumis.traces.reading.dataset import StoredTrace, TraceDataset

FORMAT = "etalumis-observation"
VERSION = 3
_KIND = "observation file"


@dataclass(frozen=True)
class ObservedStatement:
    """The observation of one observe statement.

    Attributes
    ----------
    value
        float64 (*shape): the observation, noise included.
    expected
        float64 (*shape): without noise; None if only the noisy observation is known.
    stddev
        Standard deviation of the noise; None likewise.
    """

    value: np.ndarray
    expected: np.ndarray | None = None
    stddev: float | None = None


@dataclass(frozen=True)
class Observation:
    """The observation of one held-out run.

    Attributes
    ----------
    observed
        The observation of each observe statement, by name.
    left_out
        Observe statements of the run that were left out on request.
    seed
        Seed of the noise.
    source
        Origin of the trace: "<file> trace <number>".
    trace_seed
        Seed of the trace.
    truth
        The tags of the trace, by name.
    named
        Values of the named entries, by name.
    latents
        Values of all accepted entries, by address.
    provenance
        Provenance of the dataset.
    """

    observed: dict[str, ObservedStatement]
    left_out: tuple[str, ...]
    seed: int
    source: str
    trace_seed: int
    truth: dict[str, np.ndarray]
    named: dict[str, float]
    latents: dict[str, float]
    provenance: Provenance

    def difference(self, path: Path) -> str | None:
        """Describe the observation file at `path` if it has another trace, noise or data; None if it has the same."""
        other = load(path)
        if (other.source, other.seed) == (self.source, self.seed):
            missing = [name for name in other.observed if name not in self.observed]
            return f"is an observation of {', '.join(map(repr, missing))} as well" if missing else None
        return f"is an observation of {other.source}, noise seed {other.seed}"

    def __str__(self) -> str:
        return ", ".join(f"{name!r} {statement.value.shape}" for name, statement in self.observed.items())


def draw(dataset: TraceDataset, trace: int, seed: int, names: Sequence[str] = ()) -> Observation:
    """Return trace number `trace` of a dataset as an observation.

    The noise is drawn in float64 from the generator of (seed, "observation", trace), for one observe statement after
    the other. It does not depend on which of them are kept.

    Parameters
    ----------
    names
        Observe statements to keep; all if empty.

    Raises
    ------
    DatasetError
        If there is no such trace or observe statement.
    """
    known = [layout.name for layout in dataset.layouts]
    for name in names:
        if name not in known:
            raise DatasetError(f"{dataset.paths[0]}: no observe statement {name!r}; it observes {known}")
    if not 0 <= trace < len(dataset):
        raise DatasetError(f"{dataset.paths[0]}: no trace {trace}; there are {len(dataset)}, numbered from 0")
    stored = dataset.trace(trace)
    shown = _shown(stored, known, generator(seed, "observation", trace))
    kept = names or known
    return Observation(
        observed={name: shown[name] for name in known if name in kept},
        left_out=tuple(name for name in known if name not in kept),
        seed=seed,
        source=f"{dataset.paths[0].name} trace {trace}",
        trace_seed=stored.seed,
        truth=stored.tags,
        named=stored.by_name,
        latents=stored.by_address,
        provenance=dataset.provenance,
    )


def measured(path: Path, name: str) -> Observation:
    """Return measured data as an observation, without truth and simulator.

    Parameters
    ----------
    path
        Numbers as text, in rows and columns, or an array of any shape in a file ``.npy``.
    name
        Name of the observe statement.

    Raises
    ------
    DatasetError
        If the file is missing, empty, or does not contain finite numbers only.
    """
    try:
        path.stat()  # numpy reports any path that it cannot look up as missing
        with warnings.catch_warnings(
            action="ignore", category=UserWarning
        ):  # about an empty file, which is refused below
            content = np.load(path) if path.suffix == ".npy" else np.loadtxt(path)
        value = np.asarray(content, dtype=np.float64)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; expected numbers, as text or as an array in .npy") from None
    except (OSError, EOFError, ValueError, TypeError) as error:
        damaged = DatasetError(f"{path}: expected numbers, as text or as an array in .npy; {error}")
        raise storage_error(path, "read", error) or damaged from error
    if not value.size or not np.all(np.isfinite(value)):
        raise DatasetError(f"{path}: expected finite numbers, found {value.size} numbers, not all of them finite")
    require_storable(name, "an observe statement")
    return Observation(
        observed={name: ObservedStatement(value)},
        left_out=(),
        seed=0,
        source=f"{path.name}, measured",
        trace_seed=0,
        truth={},
        named={},
        latents={},
        provenance=Provenance(),
    )


def _shown(stored: StoredTrace, names: list[str], rng: np.random.Generator) -> dict[str, ObservedStatement]:
    shown = {}
    for name in names:
        content, stddev = stored.expected[name], stored.stddev[name]
        noise = 0.0 if stddev is None else stddev * rng.standard_normal(content.shape)
        shown[name] = ObservedStatement(content + noise, None if stddev is None else content, stddev)
    return shown


def save(observation: Observation, path: Path) -> None:
    """Write the observation file atomically; raise StorageError if it cannot be written."""

    def fill(file: h5py.File) -> None:
        for name, statement in observation.observed.items():
            group = file.require_group("observed").create_group(to_link_name(name))
            group.attrs["stddev"] = np.nan if statement.stddev is None else statement.stddev
            _put(group, "value", statement.value)
            if statement.expected is not None:
                _put(group, "expected", statement.expected)
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
            "left_out": json.dumps(observation.left_out),
            "seed": observation.seed,
            "source": observation.source,
            "trace_seed": observation.trace_seed,
        }
        for name, attribute in attributes.items():
            file.attrs[name] = attribute
        file.attrs["checksum"] = file_checksum(file)

    write_hdf5(path, fill, LIBVER)


def load(path: Path) -> Observation:
    """Read a file written by `save`.

    Raises
    ------
    DatasetError
        If it is missing, damaged, foreign or of another version.
    """
    with reading(path, kind=_KIND), h5py.File(path, "r") as file:
        attributes = file.attrs
        if attributes.get("format") != FORMAT or int(attributes["version"]) not in (2, VERSION):
            found = f"{attributes.get('format')!r} version {attributes.get('version')}"
            raise DatasetError(f"{path}: expected {FORMAT!r} version {VERSION}, found {found}; make it again")
        if attributes["checksum"] != file_checksum(file):
            raise DatasetError(f"{path}: its header was altered; create it again with `etalumis traces observation`")
        lines = _get(path, file, "latents/address").tobytes().decode().split("\n")
        values = _get(path, file, "latents/value").tolist()
        return Observation(
            observed=_observed(path, file),
            left_out=tuple(json.loads(attributes.get("left_out", "[]"))),
            seed=int(attributes["seed"]),
            source=str(attributes["source"]),
            trace_seed=int(attributes["trace_seed"]),
            truth={from_link_name(link): _get(path, file, f"tags/{link}") for link in file.get("tags", ())},
            named={from_link_name(link): float(_get(path, file, f"named/{link}")) for link in file.get("named", ())},
            latents=dict(zip(map(from_line, lines), values, strict=True)) if values else {},
            provenance=Provenance.from_attributes(path, attributes),
        )


def _observed(path: Path, file: h5py.File) -> dict[str, ObservedStatement]:
    """Read the observe statements; version 2 has a single one, at the top level."""
    if "observed" not in file:
        return {str(file.attrs["name"]): _statement(path, file, "")}
    return {from_link_name(link): _statement(path, file, f"observed/{link}/") for link in file["observed"]}


def _statement(path: Path, file: h5py.File, group: str) -> ObservedStatement:
    stddev = float(file[group or "/"].attrs["stddev"])
    return ObservedStatement(
        value=_get(path, file, f"{group}value"),
        expected=_get(path, file, f"{group}expected") if f"{group}expected" in file else None,
        stddev=None if np.isnan(stddev) else stddev,
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
        raise DatasetError(f"{path}: column {name!r} was altered; create it again with `etalumis traces observation`")
    return content
