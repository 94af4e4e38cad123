# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Measured phases of trainings with several numbers of ranks, without their first iterations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from etalumis.errors import NetworkError
from etalumis.experiments.training_record import TrainingRecord
from etalumis.training.phases import FILE, Phases, read_phases
from etalumis.typing import FloatArray

_START_SHARE = 0.1
"""Share of the iterations at the start that is left out: memory is allocated and kernels are chosen in them."""


@dataclass(frozen=True)
class RankTimings:
    """Phases of a training, without its first `left_out` iterations."""

    record: TrainingRecord
    phases: Phases
    left_out: int

    @classmethod
    def load(cls, folder: Path) -> "RankTimings":
        """Read the phases of a training.

        Raises
        ------
        NetworkError
            If it is not finished, or its number of ranks changed.
        DatasetError
            If its file of phases cannot be read.
        """
        record, phases = TrainingRecord.load(folder), read_phases(folder / FILE)
        left_out = max(1, round(_START_SHARE * len(phases.iteration)))
        kept = between(phases, left_out)
        if len(kept.iteration) == 0 or not np.isfinite(kept.work).all():
            raise NetworkError(
                f"{folder}: expected phases of the same ranks in all iterations, found {len(phases.iteration)} "
                "iterations, some without times; remove the folder and train again"
            )
        return cls(record, kept, left_out)

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return int(self.phases.traces.shape[1])

    @property
    def step_s(self) -> FloatArray:
        """Seconds (iteration,) of each iteration, waiting included: the mean over ranks, which all end together."""
        total: FloatArray = np.stack(list(self.phases.seconds.values())).sum(axis=0)
        return np.asarray(total.mean(axis=1))

    @property
    def traces_per_s(self) -> float:
        """Traces per second over all ranks and iterations."""
        return float(self.phases.traces.sum() / self.step_s.sum())

    @property
    def gflops(self) -> float:
        """10^9 operations per second and rank."""
        return float(self.phases.flops.sum() / self.step_s.sum() / self.ranks / 1e9)


def between(phases: Phases, first: int, end: int | None = None) -> Phases:
    """Return the phases of iterations `first` to `end` - 1, counted from 0; all later ones if no end is given."""
    seconds = {name: column[first:end] for name, column in phases.seconds.items()}
    columns = {
        name: getattr(phases, name)[first:end] for name in ("iteration", "traces", "tokens", "touched_rows", "flops")
    }
    return replace(phases, seconds=seconds, **columns)


def load_all(folders: Sequence[Path]) -> list[RankTimings]:
    """Read trainings in the order of their numbers of ranks; raise as `RankTimings.load` does."""
    return sorted((RankTimings.load(folder) for folder in folders), key=lambda timings: timings.ranks)
