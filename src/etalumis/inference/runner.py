# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Running a model again and again for an engine: shared tables, checks, and a fresh process after a failure."""

import logging
import math
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from etalumis.address import AddressTable
from etalumis.errors import InferenceError, ProtocolError, SimulatorError
from etalumis.execution import BaseTable, Controller, Model, run
from etalumis.inference.observations import Observations
from etalumis.trace import Trace

logger = logging.getLogger(__name__)
C = TypeVar("C", bound=Controller)


@runtime_checkable
class Restartable(Protocol):
    """A model that runs in a process of its own, which can be replaced by a fresh one."""

    def restart(self) -> None:
        """End the process and start a fresh one."""
        ...


class Runner:
    """Run `model` under one controller after another, with the same address numbers throughout.

    A simulator that dies, hangs or sends rubbish is replaced by a fresh process and the run is repeated with the same
    draws, at most `retries` times; a run is never dropped, since that would bias the weights.

    Attributes
    ----------
    runs
        Completed runs.
    failures
        Runs that were repeated on a fresh process.
    """

    def __init__(self, model: Model, observations: Observations, seed: int, retries: int = 3) -> None:
        self.model, self.observations, self.retries = model, observations, retries
        self._origin, self._runs_before = f"seed {seed}", 0
        self.addresses = AddressTable()
        self._bases = BaseTable(self.addresses)
        self._names_checked = False
        self.runs = 0
        self.failures = 0

    def begin(self, seed: int, of: str) -> None:
        """Say that the runs from here on draw from `seed`, that of the part `of` of the work (for messages)."""
        self._origin, self._runs_before = f"seed {seed} ({of})", self.runs

    def run(self, rng: np.random.Generator, make: Callable[[], C]) -> tuple[Trace, C]:
        """Run once under `make()` and return the trace and its controller.

        `make` is called anew, with `rng` set back, for every attempt.

        Raises
        ------
        InferenceError
            A likelihood is NaN, or the observations do not fit the model.
        SimulatorError, ProtocolError
            The simulator failed `retries` + 1 times in a row.
        """
        state = rng.bit_generator.state
        for attempt in range(self.retries + 1):
            controller = make()
            try:
                trace = run(self.model, controller, self.addresses, self._bases)
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt)
                rng.bit_generator.state = state
                continue
            self.runs += 1
            self._check(trace)
            return trace, controller
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def _recover(self, error: Exception, attempt: int) -> None:
        if attempt == self.retries or not isinstance(self.model, Restartable):
            logger.error("%s: %s failed for good", self.model.name, self._place(self.runs))
            raise error
        self.failures += 1
        logger.warning(
            "%s: %s failed (%s); repeating it on a fresh process (%d of %d)",
            self.model.name, self._place(self.runs), error, attempt + 1, self.retries,
        )  # fmt: skip
        self.model.restart()

    def _place(self, run: int) -> str:
        return f"run {run - self._runs_before} of {self._origin}"

    def _check(self, trace: Trace) -> None:
        if not self._names_checked:
            self.observations.check_names()
            self._names_checked = True
        for observed in trace.observes:
            if math.isnan(observed.log_prob):
                raise InferenceError(
                    f"{self.model.name}: the log likelihood of observe {observed.name!r} at {observed.address} is NaN "
                    f"in {self._place(self.runs - 1)}; expected a number or -inf. The model computes a "
                    "parameter of this distribution from invalid numbers."
                )
