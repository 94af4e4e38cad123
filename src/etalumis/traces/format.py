# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a trace file is made of: names, types, provenance and checksums (docs/file-formats.md).

A trace file is plain HDF5 with built-in filters only, so that every HDF5 tool reads it. Every dataset carries the
checksum of its bytes, and the file the checksum of its attributes and of all those checksums.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from etalumis import __version__
from etalumis.errors import DatasetError
from etalumis.files import digest

FORMAT = "etalumis-traces"
VERSION = 1

ENTRY_DTYPES = {"address": "<u4", "value": "<f8", "distribution": "<u4", "flags": "u1"}
"""Columns of /entries, one row for each accepted entry, in trace order."""

TRACE_DTYPES = {
    "log_prior": "<f8",
    "log_likelihood": "<f8",
    "seed": "<i8",
    "draws": "<i8",
    "index": "<i8",
}
"""Columns of /traces beside `offset` and `type`, one row for each trace."""

TYPE_BYTES = 16
CHUNK_BYTES = 1 << 18
# Metadata of this generation of HDF5 (1.10) carries checksums of its own, and every HDF5 in use reads it.
LIBVER = ("v110", "v110")


@dataclass(frozen=True)
class Provenance:
    """Where traces come from; every trace file and index says it in its attributes.

    Attributes
    ----------
    producer
        Program and version that wrote the file.
    model
        Name of the model or simulator.
    config_digest
        Digest of the part of the configuration that the traces depend on.
    simulator_build_id
        Identity of the simulator binary; "" for a Python model.
    run_seed
        Seed that every trace's seed is derived from.
    split
        "train", "valid", "test".
    part
        Number of the scattered job.
    noise
        The noise model in words.
    settings
        JSON of the simulator's settings, which `config_digest` is the digest of; "" where there are none.
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

    def require_same_source(self, mine: Path, other: Self, theirs: Path) -> None:
        """Raise DatasetError where two files hold traces of different simulators or configurations."""
        for key in ("model", "simulator_build_id", "config_digest"):
            expected, found = getattr(self, key), getattr(other, key)
            if expected != found:
                raise DatasetError(
                    f"{theirs}: its {key} is {found!r}, but that of {mine} is {expected!r}; traces of different "
                    "simulators or configurations cannot be mixed: generate both with the same one"
                )

    def joined(self, other: Self) -> Self:
        """Return the provenance of a file made of both; what differs is dropped."""
        merged = self
        if self.split != other.split:
            merged = replace(merged, split="")
        if self.part != other.part:
            merged = replace(merged, part=-1)
        if self.run_seed != other.run_seed:
            merged = replace(merged, run_seed=-1)
        return merged

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary."""
        return asdict(self)

    @classmethod
    def from_attributes(cls, path: Path, attributes: Any) -> Self:
        """Read the fields back from HDF5 attributes or JSON."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name == "settings" and field.name not in attributes:
                continue
            if field.name not in attributes:
                raise DatasetError(f"{path}: no attribute {field.name!r}; the file is not whole or was altered")
            value = attributes[field.name]
            values[field.name] = int(value) if field.type is int else str(value)
        return cls(**values)


class Checksum:
    """Running blake2b-128 of an array's bytes (little-endian, row-major)."""

    def __init__(self) -> None:
        self._state = hashlib.blake2b(digest_size=16)

    def update(self, array: np.ndarray) -> None:
        """Add the bytes of `array`."""
        self._state.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)

    def hex(self) -> str:
        """Return the checksum of what came so far as 32 hex digits."""
        return self._state.hexdigest()


def file_checksum(file: h5py.File) -> str:
    """Return the digest of a file's attributes and of the name, type, shape and checksum of every dataset."""
    columns: dict[str, list[str]] = {}
    attributes: dict[str, dict[str, str]] = {"/": {k: str(v) for k, v in file.attrs.items() if k != "checksum"}}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            columns[name] = [item.dtype.str, str(item.shape), str(item.attrs.get("checksum"))]
        else:
            attributes[name] = {k: str(v) for k, v in item.attrs.items()}

    file.visititems(visit)
    return digest({"columns": columns, "attributes": attributes})


@contextmanager
def reading(path: Path, column: str = "", kind: str = "trace file") -> Iterator[None]:
    """Turn what h5py raises on a damaged file into a DatasetError that names file and column."""
    what = f"column {column!r}" if column else "the file"
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such {kind}; `etalumis traces --help` tells how to make one") from None
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DatasetError(
            f"{path}: {what} cannot be read: it is truncated, altered or no {kind} ({error}); "
            "delete it and make it again"
        ) from error
