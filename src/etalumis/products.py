# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Checks of a command's output before the work: it can be written, and does not overwrite another product."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py

from etalumis.errors import DatasetError, EtalumisError
from etalumis.files import atomic_path, require_writable


def check_output_file(
    path: Path, product: str, *, force: bool = False, difference: Callable[[Path], str | None] | None = None
) -> None:
    """Check that a command may write the file `path`; missing parent folders are created.

    Call it before the work. An existing file is overwritten only if it is the same kind of product and `difference`
    finds nothing. (Snakemake deletes the outputs of a rule first, so this protects commands typed by hand.)

    Parameters
    ----------
    product
        Format name of what will be written, such as "etalumis-posterior".
    force
        Overwrite any regular file.
    difference
        Called with an existing file of the same format. It returns in words how that file differs (such as in seed or
        engine), or None.

    Raises
    ------
    StorageError
        If the file cannot be written.
    DatasetError
        If it would overwrite another product.
    """
    require_writable(path, f"file of format {product!r}")
    if force or not path.exists():
        return
    other: str | None
    try:
        found = format_of(path)
        if found != product:
            other = f"is a finished {found!r} file" if found else f"is not a file of format {product!r}"
        else:
            other = difference(path) if difference is not None else None
    except (OSError, EtalumisError) as error:
        other = f"cannot be read ({error})"
    if other is not None:
        raise DatasetError(f"{path} already exists and {other}; name another output, or overwrite it with --force")


def check_output_folder(path: Path) -> None:
    """Check that a command may write files into the folder `path`; missing folders above it are created.

    Raises
    ------
    StorageError
        If `path` is a file, lies below one, or cannot be written.
    """
    require_writable(path, "set of files", folder=True)


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

    `fill` writes into a file in memory, whose bytes are then written to disk: on a full disk, HDF5 itself may crash the
    process when it closes a file.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with h5py.File(path.name, "w", libver=libver, driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    with atomic_path(path) as temporary:
        temporary.write_bytes(image)
