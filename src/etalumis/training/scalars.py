# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The history of a training for TensorBoard, while it trains."""

from dataclasses import asdict
from pathlib import Path

from etalumis.errors import NetworkError
from etalumis.refusals import storage_errors
from etalumis.training.history import HistoryRow

FOLDER = "tensorboard"
"""Folder of the event files, in that of the network."""
_GROUPS = {"loss": "loss", "share": "time"}
"""Endings of the names of columns that are shown together, and their heading."""


class Scalars:
    """Writes the numbers of each row of the history, with the iteration as step.

    Parameters
    ----------
    network
        Folder of the network.
    iteration
        Iteration from which the training goes on; later steps of an earlier attempt are marked as void.

    Raises
    ------
    NetworkError
        If the package tensorboardX is missing.
    StorageError
        If the folder cannot be written.
    """

    def __init__(self, network: Path, iteration: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise NetworkError(
                "training.tensorboard: scalars: expected the package tensorboardX, which is not installed; install it "
                "with `pip install 'etalumis[tensorboard]'`, or remove the key"
            ) from None
        self._folder = network / FOLDER
        with storage_errors(self._folder, "written"):
            # the name has only the second: an attempt that follows within it must not replace the file before it
            self._writer = SummaryWriter(
                str(self._folder), purge_step=iteration + 1, filename_suffix=f".{iteration:012d}"
            )

    def add(self, row: HistoryRow) -> None:
        """Write a row."""
        with storage_errors(self._folder, "written"):
            for name, value in asdict(row).items():
                if name == "iteration":
                    continue
                first, _, last = name.rpartition("_")
                self._writer.add_scalar(f"{_GROUPS[last]}/{first}" if last in _GROUPS else name, value, row.iteration)
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
