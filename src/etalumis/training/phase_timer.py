# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Measurement of the phases of each iteration on every rank; rank 0 writes those of all ranks."""

import time
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

from etalumis.training.phases import COLUMNS, PHASES, append_phases
from etalumis.typing import Array

BUFFER_ITERATIONS = 1024
"""Iterations after which rows are written, if no checkpoint is due before: 80 kB on each rank."""


class PhaseTimer:
    """Times the phases of this rank.

    Rows are kept until `write`; only rank 0 then reads the whole file, and forgets it again.

    Parameters
    ----------
    comm
        The ranks, which take the same iterations.
    path
        File of the phases; rank 0 writes it.
    iteration
        Number of iterations before the first one that is timed.
    device
        What computes; a phase ends when a GPU has computed it.
    """

    def __init__(self, comm: MPI.Comm, path: Path, iteration: int, device: torch.device | None = None) -> None:
        self._gpu = device if device is not None and device.type == "cuda" else None
        self._comm, self._path, self._written = comm, path, iteration
        self._rows = np.zeros((BUFFER_ITERATIONS, len(COLUMNS)))
        self._used = 0
        self._last = 0.0
        self.interval = np.zeros(len(COLUMNS))
        """Sums over the iterations since the last `start_interval`, in the order of `COLUMNS`."""

    def begin(self) -> None:
        """Start an iteration."""
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Add the time since the previous call to a phase."""
        if self._gpu is not None:
            torch.cuda.synchronize(self._gpu)
        now = time.perf_counter()
        self._rows[self._used, PHASES.index(phase)] += now - self._last
        self._last = now

    def end(self, traces: int, tokens: int, touched_rows: int, flops: int) -> Array:
        """End an iteration with the counts of its minibatch; return its row. If the buffer is full, all ranks write."""
        row = self._rows[self._used]
        row[len(PHASES) :] = traces, tokens, touched_rows, flops
        self.interval += row
        ended: Array = row.copy()
        self._used += 1
        if self._used == BUFFER_ITERATIONS:
            self.write()
        return ended

    def start_interval(self) -> None:
        """Set the sums of the interval to zero."""
        self.interval[:] = 0.0

    @property
    def interval_s(self) -> float:
        """Time in all phases of the interval."""
        return float(self.interval[: len(PHASES)].sum())

    def interval_share(self, *phases: str) -> float:
        """Return the share of the interval's time in some phases; 0 if it has no iteration."""
        seconds = sum(float(self.interval[PHASES.index(phase)]) for phase in phases)
        return seconds / self.interval_s if self.interval_s else 0.0

    def write(self) -> None:
        """Append the rows of all ranks to the file; all ranks call it together.

        Raises
        ------
        StorageError
            If the file cannot be written; on rank 0 only.
        """
        if not self._used:
            return
        rows = np.ascontiguousarray(self._rows[: self._used])
        gathered: Array | None = np.empty((self._comm.size, *rows.shape)) if self._comm.rank == 0 else None
        self._comm.Gather(rows, gathered, root=0)
        if gathered is not None:
            append_phases(self._path, self._written, gathered.transpose(1, 0, 2))
        self._written += self._used
        self._rows[: self._used] = 0.0
        self._used = 0
