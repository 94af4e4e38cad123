# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Time and work of every rank in every iteration, in the columnar file `phases.h5` beside the history.

The file has one HDF5 dataset per column, (iteration, rank), and `iteration` (iteration,). Rows are appended to a copy
of the file, which then takes its name, so a reader never sees a part of an append. Appends precede checkpoints: when an
interrupted training resumes, rows after the checkpoint are dropped and made again.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from etalumis import __version__
from etalumis.errors import DatasetError
from etalumis.files import atomic_path
from etalumis.traces.format import reading, writing
from etalumis.typing import Array

FORMAT, VERSION = "etalumis-phases", 1
FILE = "phases.h5"

PHASES = ("read", "forward", "backward", "sync_wait", "sync_move", "update")
"""What a rank does in an iteration, in order.

``read``: wait for the minibatch. ``sync_wait``: wait for the other ranks, in a collective call of a few bytes that no
rank leaves before all have entered it. ``sync_move``: sum the gradients. ``update``: clip them and apply them.
"""
WORK = ("read", "forward", "backward", "update")
"""The phases in which a rank works by itself (SC'19, section 6.1)."""
COUNTS = ("traces", "tokens", "touched_rows", "flops")
COLUMNS = (*PHASES, *COUNTS)
_KIND = "file of phases"
_CHUNK = 1024
_SLACK_BYTES = 1 << 16
"""Room for the metadata of HDF5 that an append may add."""


@dataclass(frozen=True)
class Phases:
    """Times and counts of a training.

    If a training was resumed with another number of ranks, the columns have as many ranks as there ever were; the
    seconds of an absent rank are NaN and its counts 0.

    Attributes
    ----------
    iteration
        int64 (iteration,). Numbers of the iterations, from 1, increasing.
    seconds
        float64 (iteration, rank) for each of `PHASES`.
    traces, tokens, touched_rows
        int64 (iteration, rank). Traces in the minibatch, their tokens with a layer, and the layers that these touch.
    flops
        int64 (iteration, rank). Operations of forward and backward pass (`etalumis.network.flops`).
    """

    iteration: Array
    seconds: dict[str, Array]
    traces: Array
    tokens: Array
    touched_rows: Array
    flops: Array

    @property
    def work(self) -> Array:
        """float64 (iteration, rank): seconds in which the rank worked by itself."""
        return np.asarray(np.sum([self.seconds[name] for name in WORK], axis=0))

    def actual_s(self) -> float:
        """Return the time of all iterations without movement: each takes as long as its slowest rank (section 6.2)."""
        return float(np.nanmax(self.work, axis=1).sum()) if len(self.iteration) else 0.0

    def best_s(self) -> float:
        """Return the time that `actual_s` would be if the ranks of each iteration shared its work evenly."""
        return float(np.nanmean(self.work, axis=1).sum()) if len(self.iteration) else 0.0


def read_phases(path: Path) -> Phases:
    """Read a file of phases; it may belong to a training that is still running.

    Raises
    ------
    DatasetError
        If the file is missing, damaged, or of another format or version.
    StorageError
        If the system refuses to read it.
    """
    with reading(path, kind=_KIND), h5py.File(path, "r") as file:
        _require_format(path, file)
        columns = {name: np.asarray(file[name][()]) for name in ("iteration", *COLUMNS)}
    iteration = columns.pop("iteration")
    return Phases(iteration, {name: columns.pop(name) for name in PHASES}, **columns)


def append_phases(path: Path, after: int, rows: Array) -> None:
    """Append rows to a file, which is made if it does not exist; rows of later iterations are dropped before.

    Parameters
    ----------
    path
        The file.
    after
        Number of the last iteration that stays; 0 starts a new file.
    rows
        float64 (iteration, rank, column) of the iterations `after` + 1, `after` + 2, ..., in the order of `COLUMNS`.

    Raises
    ------
    DatasetError
        If the existing file is damaged or foreign.
    StorageError
        If it cannot be written.
    """
    with atomic_path(path) as temporary:
        if after > 0 and path.exists():
            shutil.copyfile(path, temporary)
            with reading(path, kind=_KIND), h5py.File(temporary, "r") as file:
                _require_format(path, file)
        else:
            with writing(path, _KIND), h5py.File(temporary, "w") as file:
                _create(file)
        _reserve(temporary, rows)
        with writing(path, _KIND), h5py.File(temporary, "r+") as file:
            _append(file, after, rows)


def _create(file: h5py.File) -> None:
    file.attrs.update({"format": FORMAT, "version": VERSION, "producer": f"etalumis {__version__}"})
    # each chunk has its own checksum, so that appending need not read the file
    options = {"fletcher32": True, "chunks": (_CHUNK,), "maxshape": (None,)}
    file.create_dataset("iteration", (0,), np.int64, **options)
    options |= {"chunks": (_CHUNK, 1), "maxshape": (None, None)}
    for name in COLUMNS:
        dtype, fill = (np.float64, np.nan) if name in PHASES else (np.int64, 0)
        file.create_dataset(name, (0, 0), dtype, fillvalue=fill, **options)


def _reserve(path: Path, rows: Array) -> None:
    """Reserve the space of an append: if the disk is full, this fails, whereas HDF5 may crash the process."""
    chunks = 2 + len(rows) // _CHUNK
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), size, chunks * _CHUNK * 8 * rows.shape[1] * len(COLUMNS) + _SLACK_BYTES)


def _append(file: h5py.File, after: int, rows: Array) -> None:
    kept = int(np.searchsorted(file["iteration"][()], after, side="right"))
    stop, ranks = kept + len(rows), max(file[PHASES[0]].shape[1], rows.shape[1])
    file["iteration"].resize((stop,))
    file["iteration"][kept:] = after + 1 + np.arange(len(rows))
    for number, name in enumerate(COLUMNS):
        # what is cut off first comes back as the fill value
        file[name].resize((kept, ranks))
        file[name].resize((stop, ranks))
        file[name][kept:, : rows.shape[1]] = rows[:, :, number]


def _require_format(path: Path, file: h5py.File) -> None:
    found = file.attrs.get("format"), file.attrs.get("version")
    if found != (FORMAT, VERSION):
        raise DatasetError(
            f"{path}: expected a file of format {FORMAT!r}, version {VERSION}, found {found[0]!r}, version {found[1]}; "
            "`etalumis network train` writes one"
        )
