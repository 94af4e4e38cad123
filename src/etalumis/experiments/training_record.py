# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the figures read of a finished training of the experiments."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.errors import NetworkError
from etalumis.experiments.machine import Machine
from etalumis.network.checkpoint import read_manifest
from etalumis.training.history import HistoryRow, read_history
from etalumis.typing import Array


@dataclass(frozen=True)
class TrainingRecord:
    """A finished training.

    Attributes
    ----------
    folder
        Its folder.
    manifest
        Description of the network.
    history
        Its validations; at least one.
    machine
        The machine on which it ran.
    """

    folder: Path
    manifest: dict[str, Any]
    history: list[HistoryRow]
    machine: Machine

    @classmethod
    def load(cls, folder: Path) -> "TrainingRecord":
        """Read a training from its folder.

        Raises
        ------
        NetworkError
            If the folder has no finished training of the experiments.
        """
        history = read_history(folder / "history.csv")
        if not history:
            raise NetworkError(
                f"{folder}: expected a training with at least one validation, found none; train it again"
            )
        return cls(folder, read_manifest(folder), history, Machine.load_from(folder))

    @property
    def architecture(self) -> dict[str, Any]:
        """The architecture of the network, by key of the section `network`."""
        return dict(self.manifest["network"])

    @property
    def training(self) -> dict[str, Any]:
        """The record of the training."""
        return dict(self.manifest["training"])

    @property
    def minibatch(self) -> int:
        """Traces per iteration, over all ranks."""
        return int(self.training["hyperparameters"]["batch_size"]) * int(self.training["world_size"])

    @property
    def seed(self) -> int | None:
        """The seed of the run; None if an earlier version, which did not record it, trained."""
        return self.training.get("seed")

    @property
    def gpu(self) -> str | None:
        """Model of the GPU that the training used; None if it used the processor."""
        return str(self.training["processor"]) if self.training.get("device") == "cuda" else None

    def column(self, name: str) -> Array:
        """Return one column of the history (validation,)."""
        return np.array([getattr(row, name) for row in self.history])


def load_all(folders: Sequence[Path]) -> list[TrainingRecord]:
    """Read trainings; raise as `TrainingRecord.load` does."""
    return [TrainingRecord.load(folder) for folder in folders]


def require_same(records: Iterable[TrainingRecord], what: str, value: Callable[[TrainingRecord], Hashable]) -> None:
    """Check that trainings which one figure compares have something in common.

    Raises
    ------
    NetworkError
        If they differ in it.
    """
    found = {value(record): record.folder for record in records}
    if len(found) > 1:
        listed = "; ".join(f"{key} in {folder}" for key, folder in found.items())
        raise NetworkError(
            f"expected trainings with the same {what}, found {listed}; train them with one configuration"
        )


def settings_sentence(record: TrainingRecord) -> str:
    """Return optimizer, schedule, minibatch and embedding of a training in words."""
    keys = record.training["hyperparameters"]
    return (
        f"Optimizer {keys['optimizer']}, schedule {keys['schedule']} from {keys['learning_rate']:g} to "
        f"{keys['learning_rate_end']:g}, {record.minibatch:,} traces per iteration, observation embedding "
        f"{record.architecture['embedding']} of size {record.architecture['observation_embedding']}, "
        f"{record.training['arithmetic']}."
    )


def seed_sentence(records: Sequence[TrainingRecord]) -> str:
    """Return the seeds of the trainings in words."""
    seeds = sorted({record.seed for record in records if record.seed is not None})
    if not seeds:
        return "The seed was not recorded."
    return f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."


def machine_sentence(records: Sequence[TrainingRecord]) -> str:
    """Return the machine of the trainings in words, with the GPU that they used, and the range of its load."""
    loads = [record.machine.load for record in records]
    first = records[0].machine.sentence.partition("; load")[0]
    if records[0].gpu is not None:
        first = first.replace("Machine: ", f"Machine: trained on {records[0].gpu}, in a machine with ", 1)
    others = len({(record.gpu, record.machine.cpu) for record in records}) > 1
    more = "; the trainings ran on different processors, of which this is the first" if others else ""
    return f"{first}{more}; load at the starts {min(loads):.1f} to {max(loads):.1f}."
