# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Steps of a chain that the model makes by itself, many at a time, and that the chain then comes to one by one.

The model's front end has the kernel too: the same target, moves and acceptance probability, other random numbers. A
message for each step costs several times what a fast model does.
"""

import time
from collections import deque
from collections.abc import Collection

from etalumis.errors import InferenceError
from etalumis.inference.controllers import check_not_broken_off
from etalumis.inference.kernel import Settings
from etalumis.inference.runner import Runner
from etalumis.inference.state import State
from etalumis.plan import Moves, PlannedTrace, StepFlag, Stepper, Steps

WANTED_S = 0.05
"""Seconds that the steps of a message are to take."""
MOST = 128
"""Steps in a message at most."""

Outcome = tuple[int, int, PlannedTrace | None]
"""Position of the entry to change (-1: all), `StepFlag`, and the trace that the step led to, if it did."""


class Ahead:
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

    def __init__(self, runner: Runner, stepper: Stepper, seed: int, focus: Collection[str] | None) -> None:
        self._runner, self._stepper, self._seed = runner, stepper, seed
        self._focus = None if focus is None else tuple(sorted(focus))
        self._made: deque[Outcome] = deque()
        self._count = 1
        self.done = 0

    def next(self, state: State, settings: Settings, beta: float) -> Outcome:
        """Return the next step of a chain that is at `state`."""
        if not self._made:
            self._make(state, settings, beta)
        self.done += 1
        return self._made.popleft()

    def snapshot(self) -> dict[str, int]:
        """Return what is needed to go on, JSON-able."""
        return {"seed": self._seed, "done": self.done}

    def _make(self, state: State, settings: Settings, beta: float) -> None:
        observed = self._runner.observations.values
        moves = Moves(*settings, focus=self._focus, beta=beta)
        began = time.perf_counter()
        steps, traces = self._runner.take_steps(
            self._stepper, Steps(state.rows, observed, moves, self._seed, self.done, self._count)
        )
        each = (time.perf_counter() - began) / self._count
        self._count = max(1, min(MOST, 2 * self._count, int(WANTED_S / each)))
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
