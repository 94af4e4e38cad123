# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Adds the rows of the history while a training runs: for history.csv, for TensorBoard, and for its checkpoints."""

from pathlib import Path

import numpy as np
from mpi4py import MPI

from etalumis.training.evaluate import Evaluation
from etalumis.training.history import HistoryRow, write_history
from etalumis.training.phase_timer import PhaseTimer
from etalumis.training.phases import PHASES
from etalumis.training.scalars import Scalars
from etalumis.training.state import TrainingState
from etalumis.training.synchronize import Synchronizer
from etalumis.typing import Array

FILE = "history.csv"
"""Name of the file, in the folder of the network."""


class HistoryRecorder:
    """Records the history of a training. All ranks call it together; rank 0 writes.

    Parameters
    ----------
    output
        Folder of the network.
    comm, ranks
        The ranks, and their sums.
    tensorboard
        Whether the rows are also written for TensorBoard.
    iteration
        Iteration from which the training goes on.

    Attributes
    ----------
    by_rank
        (rank, 2). Loss and traces since the last row.

    Raises
    ------
    NetworkError, StorageError
        As `Scalars`.
    """

    def __init__(self, output: Path, comm: MPI.Comm, ranks: Synchronizer, tensorboard: bool, iteration: int) -> None:
        self._file, self._comm, self._ranks = output / FILE, comm, ranks
        self._scalars = Scalars(output, iteration) if tensorboard and comm.rank == 0 else None
        self.by_rank = np.zeros((comm.size, 2))

    def count(self, by_rank: Array) -> None:
        """Count the loss and the traces (rank, 2) of an iteration."""
        self.by_rank += by_rank

    def add(self, state: TrainingState, evaluation: Evaluation, rate: float, addresses: int, timer: PhaseTimer) -> None:
        """Add a row to the history of `state`, and begin the next interval."""
        busy_s, shares = self._interval(timer)
        state.history.append(
            HistoryRow(
                iteration=state.iteration,
                traces=state.traces,
                epoch=state.position.epoch,
                elapsed_s=state.elapsed_s,
                train_loss=state.loss_sum / max(state.loss_traces, 1),
                valid_loss=evaluation.mean_loss,
                prior_loss=evaluation.mean_prior_loss,
                learning_rate=rate,
                traces_per_s=state.loss_traces / busy_s if busy_s else 0.0,
                **shares,
                addresses=addresses,
                discarded=state.discarded,
            )
        )
        state.loss_sum, state.loss_traces = 0.0, 0
        self.write(state)
        if self._scalars is not None:
            self._scalars.add(state.history[-1])

    def write(self, state: TrainingState) -> None:
        """Write all rows."""
        if self._comm.rank == 0:
            write_history(self._file, state.history)

    def close(self) -> None:
        """Close the files of TensorBoard."""
        if self._scalars is not None:
            self._scalars.close()

    def _interval(self, timer: PhaseTimer) -> tuple[float, dict[str, float]]:
        """End an interval; return its time and the share of each phase, both means over the ranks."""
        means = self._ranks.total(timer.interval[: len(PHASES)]) / self._comm.size
        timer.start_interval()
        self.by_rank[:] = 0.0
        seconds = dict(zip(PHASES, means.tolist(), strict=True))
        busy_s = sum(seconds.values())
        seconds["sync"] = seconds.pop("sync_wait") + seconds.pop("sync_move")
        return busy_s, {f"{name}_share": spent / busy_s if busy_s else 0.0 for name, spent in seconds.items()}
