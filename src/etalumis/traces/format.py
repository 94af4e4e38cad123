# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The format of trace files: names, types, provenance and checksums (docs/file-formats.md).

A trace file is plain HDF5 with built-in filters only, so that every HDF5 tool can read it. Every dataset has the
checksum of its bytes, and the file has the checksum of its attributes and of all those checksums.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import xxhash

from etalumis import __version__
from etalumis.errors import DatasetError, StorageError
from etalumis.files import digest
from etalumis.names import to_link_name
from etalumis.refusals import storage_error

FORMAT = "etalumis-traces"
VERSION = 3

ENTRY_DTYPES = {"address": "<u4", "value": "<f8", "distribution": "<u4", "flags": "u1"}
"""Columns of /entries, one row per accepted entry, in trace order."""

REJECTED_DTYPES = {
    "address": "<u4",
    "value": "<f8",
    "distribution": "<u4",
    "flags": "u1",
    "position": "<u4",
    "repetition": "<u4",
}
"""Columns of /rejected, one row per entry of a rejected repetition. `position` is the number of accepted entries of the
trace that were drawn before it."""

TRACE_DTYPES = {
    "log_prior": "<f8",
    "log_likelihood": "<f8",
    "seed": "<i8",
    "draws": "<i8",
    "index": "<i8",
}
"""Columns of /traces, one row per trace, besides `offset` and `type`."""

ALL, ACCEPTED, CONTROLLED_ONLY = "all", "accepted", "controlled"
"""Which entries of a trace are kept: all (rejected ones separately, in /rejected), accepted ones, controlled ones."""
MIXED = "mixed"
"""Value in a provenance for builds and configurations that differ."""

TYPE_BYTES = 16
# the metadata of HDF5 1.10 has checksums of its own, and all current versions of HDF5 read it
LIBVER = ("v110", "v110")


def observation_path(name: str, column: str = "") -> str:
    """Return the path of an observation's group, or of one of its datasets."""
    return f"observations/{to_link_name(name)}{'/' if column else ''}{column}"


def tag_path(name: str, column: str = "") -> str:
    """Return the path of a tag, or of one of the datasets of a ragged one."""
    return f"tags/{to_link_name(name)}{'/' if column else ''}{column}"


@dataclass(frozen=True)
class Provenance:
    """Origin of traces, stored in the attributes of every trace file and index.

    Attributes
    ----------
    producer
        Program and version that wrote the file.
    model
        Name of the model or simulator.
    config_digest
        Digest of the settings that the traces depend on.
    simulator_build_id
        Identity of the simulator binary; "" for a Python model.
    run_seed
        Seed from which the seeds of all traces are derived.
    split
        "train", "valid", "test".
    part
        Number of the job that generated the traces.
    noise
        The noise model in words.
    settings
        JSON of the settings of the simulator, of which `config_digest` is the digest; "" if it has none.
    kept
        Which entries of a trace are kept: "all", "accepted" or "controlled".
    recording
        JSON of `recording.Recording`; "" if it is not known, or differs between files.
    """

    producer: str = f"etalumis {__version__}"
    model: str = ""
    config_digest: str = ""
    simulator_build_id: str = ""
    run_seed: int = 0
    split: str = ""
    part: int = 0
    noise: str = ""
    settings: str = ""
    kept: str = ACCEPTED
    recording: str = ""

    def require_same_source(self, mine: Path, other: Self, theirs: Path, mix: bool = False) -> None:
        """Raise DatasetError if two files hold traces of different simulators or configurations.

        With `mix`, builds and configurations of the same model may differ. What is kept of a trace must agree.
        """
        for key in ("model", "kept") if mix else ("model", "kept", "simulator_build_id", "config_digest"):
            expected, found = getattr(self, key), getattr(other, key)
            if expected != found:
                remedy = "generate both with the same one" if key in ("model", "kept") else "or give --mix to mix them"
                raise DatasetError(
                    f"{theirs}: its {key} is {found!r}, but that of {mine} is {expected!r}"
                    f"{self._differing_settings(other)}; traces of different simulators or configurations are not "
                    f"mixed: {remedy}"
                )

    def _differing_settings(self, other: Self) -> str:
        """Return the settings that differ, in words; "" if none are known to differ."""
        expected, found = _flat_settings(self.settings), _flat_settings(other.settings)
        differing = [
            f"{key}: {found.get(key, 'absent')} instead of {expected.get(key, 'absent')}"
            for key in sorted(expected.keys() | found.keys())
            if expected.get(key) != found.get(key)
        ]
        return f" ({', '.join(differing)})" if differing else ""

    def joined(self, other: Self) -> Self:
        """Return the provenance of the union of both; fields that differ are dropped."""
        merged = self
        if self.split != other.split:
            merged = replace(merged, split="")
        if self.part != other.part:
            merged = replace(merged, part=-1)
        if self.run_seed != other.run_seed:
            merged = replace(merged, run_seed=-1)
        if self.simulator_build_id != other.simulator_build_id:
            merged = replace(merged, simulator_build_id=MIXED)
        if self.config_digest != other.config_digest:
            merged = replace(merged, config_digest=MIXED)
        if self.noise != other.noise:
            merged = replace(merged, noise=MIXED)
        if self.recording != other.recording:
            merged = replace(merged, recording="")
        return replace(merged, settings="") if self.settings != other.settings else merged

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary."""
        return asdict(self)

    @classmethod
    def from_attributes(cls, path: Path, attributes: Any) -> Self:
        """Read the fields back from HDF5 attributes or JSON."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in ("settings", "kept", "recording") and field.name not in attributes:
                continue
            if field.name not in attributes:
                raise DatasetError(f"{path}: no attribute {field.name!r}; the file is incomplete or was altered")
            value = attributes[field.name]
            values[field.name] = int(value) if field.type is int else str(value)
        return cls(**values)


def _flat_settings(text: str) -> dict[str, str]:
    """Return JSON settings as strings by dotted key."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else key, item)
        else:
            flat[prefix] = json.dumps(value)

    walk("", json.loads(text) if text else {})
    return flat


class Checksum:
    """Running XXH3-128 of the bytes of arrays (little-endian, row-major); much cheaper than reading them."""

    def __init__(self) -> None:
        self._state = xxhash.xxh3_128()

    def update(self, array: np.ndarray) -> None:
        """Add the bytes of `array`."""
        self._state.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)

    def hex(self) -> str:
        """Return the checksum of all bytes so far as 32 hex digits."""
        return self._state.hexdigest()


def contents_of(file: h5py.File) -> list[tuple[str, h5py.Dataset | h5py.Group]]:
    """Return the paths and objects of all groups and datasets of a file."""
    found: list[tuple[str, h5py.Dataset | h5py.Group]] = []
    file.visititems(lambda name, item: found.append((name, item)))
    return found


def file_checksum(file: h5py.File, contents: list[tuple[str, h5py.Dataset | h5py.Group]] | None = None) -> str:
    """Return the digest of a file's attributes and of the name, type, shape and checksum of every dataset.

    Pass its `contents_of`, if these are known: opening all objects takes most of the time.
    """
    columns: dict[str, list[str]] = {}
    attributes: dict[str, dict[str, str]] = {"/": {k: str(v) for k, v in file.attrs.items() if k != "checksum"}}
    for name, item in contents_of(file) if contents is None else contents:
        if isinstance(item, h5py.Dataset):
            columns[name] = [item.dtype.str, str(item.shape), str(item.attrs.get("checksum"))]
        else:
            attributes[name] = {k: str(v) for k, v in item.attrs.items()}
    return digest({"columns": columns, "attributes": attributes})


@contextmanager
def reading(path: Path, column: str = "", kind: str = "trace file") -> Iterator[None]:
    """Convert exceptions of h5py on a damaged file into a DatasetError that names the file and the column.

    Errors of the operating system, which say nothing about the content, become a StorageError.
    """
    what = f"column {column!r}" if column else "the file"
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such {kind}; see `etalumis traces --help` for how to create one") from None
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        damaged = DatasetError(
            f"{path}: {what} cannot be read: it is truncated, altered or not a valid {kind} ({error}); if "
            "etalumis wrote it, delete it and create it again"
        )
        raise storage_error(path, "read", error) or damaged from error


@contextmanager
def writing(path: Path, kind: str = "trace file") -> Iterator[None]:
    """Convert exceptions of h5py while writing a file into a StorageError that names it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        unknown = StorageError(f"{path}: the {kind} cannot be written ({error}); choose another output")
        raise storage_error(path, "written", error) or unknown from error
