# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace files whose columns are wrong under right checksums, as another program might write them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from etalumis.traces.format import Checksum, file_checksum


def reseal(file: h5py.File) -> None:
    """Give a file the checksum that belongs to its header."""
    file.attrs["checksum"] = file_checksum(file)


def altered(source: Path, target: Path, column: str, change: Callable[[np.ndarray], object]) -> Path:
    """Copy a trace file, change one column in place, and put in the checksums that belong to it."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        content = file[column][()]
        assert change(content) is None, "change the array in place"
        file[column][...] = content
        checksum = Checksum()
        checksum.update(content)
        file[column].attrs["checksum"] = checksum.hex()
        reseal(file)
    return target


def put(place: int | tuple[int, ...] | slice, value: float) -> Callable[[np.ndarray], None]:
    """Return a change that writes one value."""

    def change(content: np.ndarray) -> None:
        content[place] = value

    return change
