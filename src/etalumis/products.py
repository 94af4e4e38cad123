# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Outputs of commands, checked before the work: they can be written, and overwrite no other finished product."""

import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py

from etalumis.errors import DatasetError, EtalumisError
from etalumis.files import atomic_path

_PROBE = bytes(4096)
"""Written to see whether there is room: a full disk still creates empty files."""


def check_output_file(
    path: Path, product: str, *, force: bool = False, difference: Callable[[Path], str | None] | None = None
) -> None:
    """Check that a command may write the file `path`; missing parent folders are created.

    Call it before the work. An existing file is overwritten only if it is the same kind of product and `difference`
    finds nothing; Snakemake removes the outputs of a rule first, so this concerns commands typed by hand.

    Parameters
    ----------
    product
        Format name of what will be written, such as "etalumis-posterior".
    force
        Overwrite any regular file.
    difference
        Called with an existing file of the same format; returns in words how it differs from what will be written (its
        seed, its engine), or None.

    Raises
    ------
    DatasetError
        If the file cannot be written, or would overwrite another product.
    """
    _check_folder(path, path.parent)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if stat.S_ISDIR(mode):
        raise DatasetError(f"{path}: is a folder; expected the name of a file to write")
    if not stat.S_ISREG(mode):
        raise DatasetError(f"{path}: is not a regular file, so it cannot be replaced; name another output")
    if force:
        return
    other: str | None
    try:
        found = format_of(path)
        if found != product:
            other = f"is a finished {found!r} file" if found else f"is no {product!r} file"
        else:
            other = difference(path) if difference is not None else None
    except (OSError, EtalumisError) as error:
        other = f"cannot be read ({error})"
    if other is not None:
        raise DatasetError(f"{path}: exists already and {other}; name another output, or overwrite it with --force")


def check_output_folder(path: Path) -> None:
    """Check that a command may write files into the folder `path`, which is created with its parents.

    Raises
    ------
    DatasetError
        If `path` is a file, lies below one, or cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise DatasetError(f"{path}: is a file; expected the name of a folder to write into")
    _check_folder(path, path)


def format_of(path: Path) -> str | None:
    """Return the format that a file names in its attributes (HDF5) or under "format" (JSON), else None.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            name = file.attrs.get("format")
    else:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return None
        name = content.get("format") if isinstance(content, dict) else None
    return None if name is None else str(name)


def write_hdf5(path: Path, fill: Callable[[h5py.File], None], libver: str | tuple[str, str] | None = None) -> None:
    """Write an HDF5 file that fits into memory, whole or not at all.

    `fill` writes into a file in memory, whose bytes then go to the disk: HDF5 itself may crash the process when it
    closes a file that the disk has no room for.

    Raises
    ------
    DatasetError
        If the file cannot be written.
    """
    with h5py.File(path.name, "w", libver=libver, driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(image)
    except OSError as error:
        raise _unwritable(path, error) from error


def _check_folder(path: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as probe:
                probe.write(_PROBE)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{path}: cannot be written ({error.strerror}); make room, or name another output")
