# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Steps of a chain that the model makes by itself, many at a time, and that the chain then comes to one by one.

The model's front end has the kernel too: the same target, moves and acceptance probability, other random numbers. A
message for each step costs several times what a fast model does.
"""

import logging
import time
from collections import deque
from collections.abc import Collection, Sequence

from etalumis.batches import is_restartable, restart
from etalumis.delegation import Moves, PlannedTrace, StepFlag, Stepper, Steps
from etalumis.errors import InferenceError, ProtocolError, SimulatorError
from etalumis.inference.controllers import check_not_broken_off
from etalumis.inference.kernel import Settings
from etalumis.inference.runner import ModelRunner
from etalumis.inference.state import ChainState

logger = logging.getLogger(__name__)

WANTED_S = 0.05
"""Seconds that the steps of a message are to take."""
MOST = 128
"""Steps in a message at most."""

Outcome = tuple[int, int, PlannedTrace | None]
"""Position of the entry to change (-1: all), `StepFlag`, and the trace that the step led to, if it did."""


class RemoteSteps:
    """The steps that were made already.

    Parameters
    ----------
    runner, stepper
        Run the model.
    seed
        Of the steps: step n does what is drawn from it and n alone.
    focus
        Names of the entries that get the focus share; None: all that have a name.

    Attributes
    ----------
    done
        Steps that the chain has come to.
    """

    def __init__(self, runner: ModelRunner, stepper: Stepper, seed: int, focus: Collection[str] | None) -> None:
        self._runner, self._stepper, self._seed = runner, stepper, seed
        self._focus = None if focus is None else tuple(sorted(focus))
        self._made: deque[Outcome] = deque()
        self._count = 1
        self._alone = 0  # steps to come that are made one by one
        self.done = 0

    def next(self, state: ChainState, settings: Settings, beta: float) -> Outcome:
        """Return the next step of a chain that is at `state`."""
        if not self._made:
            self._make(state, settings, beta)
        self.done += 1
        return self._made.popleft()

    def snapshot(self) -> dict[str, int]:
        """Return what is needed to go on, JSON-able."""
        return {"seed": self._seed, "done": self.done}

    def _make(self, state: ChainState, settings: Settings, beta: float) -> None:
        observed = self._runner.observations.values
        moves = Moves(*settings, focus=self._focus, beta=beta)
        steps, traces = self._taken(Steps(state.rows, observed, moves, self._seed, self.done, self._count))
        if not steps:
            for trace in traces:
                check_not_broken_off(trace)
            raise InferenceError(
                f"{self._runner.model.name}: the chain's trace came out otherwise when it was replayed; expected a "
                "model that does the same when given the same values"
            )
        led = iter(traces)
        for position, flags in steps:
            leads = flags & (StepFlag.ACCEPTED | StepFlag.BROKEN)
            self._made.append((position, flags, next(led) if leads else None))

    def _taken(self, wanted: Steps) -> tuple[Sequence[tuple[int, int]], Sequence[PlannedTrace]]:
        """Take the steps that are wanted; of a message that fails, which may be too much at once, only the first.

        The others follow one by one, so that the one that fails is known by its number. The chain is the same.
        """
        if wanted.number > 1 and not self._alone:
            began = time.perf_counter()
            try:
                found = self._stepper.take_steps(wanted, self._runner.addresses)
            except (SimulatorError, ProtocolError) as error:
                self._failed(error, wanted.number)
            else:
                self._grow(time.perf_counter() - began)
                return found
        began = time.perf_counter()
        found = self._runner.take_steps(self._stepper, wanted._replace(number=1))
        if self._alone:
            self._alone -= 1
        else:
            self._grow(time.perf_counter() - began)
        return found

    def _grow(self, seconds: float) -> None:
        """Choose how many steps the next message asks for, from what this one took."""
        self._count = max(1, min(MOST, 2 * self._count, int(WANTED_S * self._count / seconds)))

    def _failed(self, error: SimulatorError | ProtocolError, count: int) -> None:
        runner = self._runner
        if not is_restartable(runner.model):
            raise error
        logger.warning("%s: %d steps at once failed (%s); making them one by one", runner.model.name, count, error)
        runner.failures += 1
        self._alone = count
        restart(runner.model, runner.retries)
