# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs of a model from its prior, each with a seed of its own."""

import logging
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from etalumis.address import AddressTable
from etalumis.batches import is_restartable, restart, run_in_batches
from etalumis.delegation import carries_out_plans
from etalumis.distributions import ArrayDistribution
from etalumis.errors import ProtocolError, SimulatorError
from etalumis.execution import BaseTable, Model, PriorController, run
from etalumis.seeds import derive
from etalumis.trace import Trace
from etalumis.traces.block import EXPECTED
from etalumis.traces.recording.recording import Recording

logger = logging.getLogger(__name__)


class PriorRecording(PriorController):
    """Controller that draws every entry from its prior, and values of those observations only that are stored noisy."""

    def __init__(self, rng: np.random.Generator, recording: Recording | None = None) -> None:
        super().__init__(rng)
        self._recording = recording if recording is not None else Recording()

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> np.ndarray | None:
        """Return None if the expected observation is stored, else a draw from the likelihood."""
        return None if self._recording.storage(distribution) == EXPECTED else distribution.sample(self.rng)


class _Seeds(Sequence[int]):
    """The seeds of consecutive traces, derived on demand."""

    def __init__(self, run_seed: int, stage: str, indices: range) -> None:
        self._run_seed, self._stage, self._indices = run_seed, stage, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> list[int]: ...

    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [derive(self._run_seed, self._stage, index) for index in self._indices[at]]
        return derive(self._run_seed, self._stage, self._indices[at])


class PriorRuns:
    """Runs of a model from its prior; run i has the seed `derive(run_seed, "traces/<split>", i)`.

    Parameters
    ----------
    model
        The model. If it can carry out plans by itself, it does; else every draw is made here.
    run_seed, split
        They determine the seeds.
    retries
        Maximum number of retries of a failed run, with the same seed, before the error is raised.
    recording
        What is kept of each trace.
    """

    def __init__(self, model: Model, run_seed: int, split: str, retries: int, recording: Recording) -> None:
        self._model, self._retries, self.recording = model, retries, recording
        self._run_seed, self._stage = run_seed, f"traces/{split}"
        self._addresses = AddressTable()
        self._bases = BaseTable(self._addresses)

    def traces(self, indices: range) -> Iterator[tuple[int, int, Trace]]:
        """Yield (index, seed, trace) of these runs, in order; a failed run is repeated in a new process.

        Runs are made on demand, so the range may be longer than what is taken.
        """
        origins = _Seeds(self._run_seed, self._stage, indices)
        yield from zip(indices, origins, self._runs(indices, origins), strict=True)

    def _runs(self, indices: range, origins: Sequence[int]) -> Iterator[Trace]:
        def on_failure(error: Exception, number: int, failures: int) -> None:
            self._recover(error, indices[number], origins[number], failures)

        if carries_out_plans(self._model):
            yield from run_in_batches(self._model, self.recording.plan, origins, self._addresses, on_failure)
            return
        for number, seed in enumerate(origins):
            failures = 0
            while True:
                rng = np.random.Generator(np.random.PCG64(seed))
                try:
                    trace = run(self._model, PriorRecording(rng, self.recording), self._addresses, self._bases)
                except (SimulatorError, ProtocolError) as error:
                    failures += 1
                    on_failure(error, number, failures)
                else:
                    break
            yield trace

    def _recover(self, error: Exception, index: int, seed: int, failures: int) -> None:
        # skipping the trace instead would bias the dataset towards runs that do not fail
        if failures > self._retries or not is_restartable(self._model):
            logger.error("trace %d (seed %d) failed %d times, giving up", index, seed, failures)
            raise error
        if failures:
            logger.warning("trace %d (seed %d) failed, attempt %d: %s", index, seed, failures, error)
        restart(self._model, self._retries - failures)
