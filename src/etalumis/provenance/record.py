# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The record of a product, `NAME.provenance.json` beside it: command, inputs, code, settings, machine, time."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etalumis.errors import DatasetError, EtalumisError
from etalumis.files import digest, read_json, sha256_of, write_json_atomic
from etalumis.provenance import software

FORMAT = "etalumis-provenance"
VERSION = 1
ENDING = ".provenance.json"
_UNFINISHED = ("checkpoint",)
"""Folders within a product that are not part of it."""


def record_path(product: Path) -> Path:
    """Return the path of the record of a product, a file or a folder."""
    return product.parent / f"{product.name}{ENDING}"


def read_record(product: Path) -> dict[str, Any] | None:
    """Return the record of a product, or None if there is none.

    Raises
    ------
    DatasetError
        If the record is damaged, or of another version.
    """
    path = record_path(product)
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON ({error}); expected the record of {product.name}. Delete it") from error
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else None
    if found != (FORMAT, VERSION):
        raise DatasetError(f"{path}: expected format {FORMAT} version {VERSION}, found {found}; delete it")
    return dict(content)


def product_of(path: Path) -> Path:
    """Return the product that a path belongs to: itself, or the folder of which it is a file."""
    for candidate in (path, *list(path.absolute().parents)[:2]):
        if record_path(candidate).is_file():
            return path if candidate == path else _short(candidate)
    return path


def _short(path: Path) -> Path:
    """Return a path relative to the current folder, if it is in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def contents(product: Path, known: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Return size, time of change and SHA-256 of the files of a product, by path within it ("" for a file itself).

    Parameters
    ----------
    product
        A file, or a folder. Hidden files, links to folders or to nothing, records and checkpoints are left out.
    known
        Earlier result: the checksum of a file with the same size and time is taken from it.
    """
    known = known or {}
    result = {}
    for name, path in _files(product):
        status = path.stat()
        same = known.get(name, {})
        unchanged = (same.get("bytes"), same.get("mtime_ns")) == (status.st_size, status.st_mtime_ns)
        checksum = same["sha256"] if unchanged else sha256_of(path)
        result[name] = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": checksum}
    return result


def _files(product: Path) -> list[tuple[str, Path]]:
    if not product.is_dir():
        return [("", product)]
    found = []
    for folder, names, files in os.walk(product):
        names[:] = [name for name in names if not name.startswith(".") and name not in _UNFINISHED]
        found += [
            Path(folder, name) for name in files if not name.startswith(".") and not name.endswith((ENDING, ".part"))
        ]
    # without links that lead nowhere, as in a simulator that was copied without its Sherpa
    return [(path.relative_to(product).as_posix(), path) for path in sorted(found) if path.exists()]


def checksum_of(product: Path) -> str:
    """Return 16 hex digits of the files of a product and their SHA-256."""
    try:
        record = read_record(product)
    except DatasetError:
        record = None
    files = contents(product, record["files"] if record else None)
    return digest({name: file["sha256"] for name, file in files.items()})


@dataclass(frozen=True)
class Making:
    """A command that makes a product; create it before the work, so that it has the code that runs."""

    command: Sequence[str]
    product: Path
    inputs: Sequence[Path]
    configuration: Mapping[str, Any] | None
    numbers: Mapping[str, int]
    code: Mapping[str, Any]
    started: float

    @classmethod
    def begin(
        cls,
        command: Sequence[str],
        product: Path,
        inputs: Sequence[Path],
        configuration: Mapping[str, Any] | None,
        numbers: Mapping[str, int],
    ) -> "Making":
        """Note what is known before the work.

        Parameters
        ----------
        command
            The words of the command line.
        product
            The file or folder that it writes.
        inputs
            Files and folders that it reads.
        configuration
            The resolved configuration, or None.
        numbers
            Seeds and numbers of the job, by option.
        """
        return cls(command, product, inputs, configuration, numbers, software.code(), time.time())

    def finish(self) -> None:
        """Write the record."""
        inputs = [path for path in dict.fromkeys(self.inputs) if path.exists() and path != self.product]
        content = {
            "format": FORMAT,
            "version": VERSION,
            "command": [shown(word) for word in self.command],
            "inputs": [
                {"path": stored_path(path, self.product.parent), "checksum": checksum_of(path)} for path in inputs
            ],
            "simulator_build_id": next(filter(None, map(_build_id, [self.product, *inputs])), None),
            "configuration": self.configuration,
            "config_digest": _shared_digest(inputs) if self.configuration is None else digest(self.configuration),
            "numbers": self.numbers,
            "code": self.code,
            "machine": software.machine(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started)),
            "wall_s": round(time.time() - self.started, 3),
            "files": contents(self.product),
        }
        write_json_atomic(record_path(self.product), content)


def _shared_digest(inputs: Sequence[Path]) -> str | None:
    """Return the digest of the configuration with which all inputs were made; None if it is not one, or not known."""
    digests = {_recorded_digest(path) for path in inputs}
    return digests.pop() if len(digests) == 1 else None


def _recorded_digest(path: Path) -> str | None:
    try:
        record = read_record(product_of(path))
    except DatasetError:
        return None
    return None if record is None else record["config_digest"]


def _build_id(folder: Path) -> str | None:
    """Return the build id of the folder of a simulator; None for other products."""
    try:
        return str(read_json(folder / "build.json")["simulator_build_id"])
    except (OSError, ValueError, KeyError, TypeError, EtalumisError):
        return None


def stored_path(path: Path, folder: Path) -> str:
    """Return a path as a record in `folder` stores it: relative, so that a moved run keeps its chain.

    A path outside the current folder is absolute, with ``~`` for the home of the user.
    """
    whole = Path(os.path.normpath(path.absolute()))
    if whole.is_relative_to(Path.cwd()):
        return Path(os.path.relpath(whole, folder)).as_posix()
    return shown(str(whole))


def shown(word: str) -> str:
    """Return a word of a command without the home folder of the user."""
    home = str(Path.home())
    return word if home == "/" else word.replace(home, "~")


def found_path(stored: str, folder: Path) -> Path:
    """Return the path that `stored_path` stored, as short as possible."""
    path = Path(stored).expanduser()
    return path if path.is_absolute() else Path(os.path.relpath(folder / path))
