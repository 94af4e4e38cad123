# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace files with wrong content under valid checksums, as another program might write them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from etalumis.traces.format import Checksum, file_checksum


def reseal(file: h5py.File) -> None:
    """Update the checksum of the header."""
    file.attrs["checksum"] = file_checksum(file)


def change_sums(path: Path, *names: str) -> None:
    """Update the checksums of columns, and that of the header."""
    with h5py.File(path, "r+") as file:
        for name in names:
            checksum = Checksum()
            checksum.update(file[name][()])
            file[name].attrs["checksum"] = checksum.hex()
        reseal(file)


def change_column(path: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    """Change a column in place, and update the checksums."""
    with h5py.File(path, "r+") as file:
        content = file[name][()]
        assert change(content) is None, "change the array in place"
        file[name][...] = content
    change_sums(path, name)


def altered(source: Path, target: Path, column: str, change: Callable[[np.ndarray], object]) -> Path:
    """Copy a trace file, and change a column of the copy."""
    shutil.copy(source, target)
    change_column(target, column, change)
    return target


def put(place: int | tuple[int, ...] | slice, value: float) -> Callable[[np.ndarray], None]:
    """Return a change that writes one value."""

    def change(content: np.ndarray) -> None:
        content[place] = value

    return change
