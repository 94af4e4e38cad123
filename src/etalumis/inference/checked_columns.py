# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Compressed columns of a posterior file, each with the checksum of its bytes."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.errors import DatasetError
from etalumis.names import to_link_name
from etalumis.typing import Array


def write_column(group: Any, name: str, array: Array) -> None:
    """Write `array` as a dataset of an HDF5 group."""
    options = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if array.ndim and array.size else {}
    dataset = group.create_dataset(to_link_name(name), data=array, **options)
    dataset.attrs["checksum"] = _checksum(array)


def _checksum(array: Array) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def read_column(path: Path, group: Any, name: str) -> Array:
    """Return a dataset of an HDF5 group, given the name of its link.

    Raises
    ------
    DatasetError
        If it was altered.
    """
    array = np.asarray(group[name][()])
    if group[name].attrs.get("checksum") != _checksum(array):
        raise DatasetError(
            f"{path}: column {name!r} does not match its checksum; the file was altered. Create it again."
        )
    return array
