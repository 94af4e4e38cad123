# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Steps of a chain that the model itself makes, several per message, and that the chain then takes one by one.

The front end of the model implements the same kernel: target, moves and acceptance probability are equal, the random
numbers are not. One message per step would cost several times as much as a run of a fast model.
"""

import logging
import time
from collections import deque
from collections.abc import Collection, Sequence

from etalumis.batches import is_restartable, restart
from etalumis.delegation import StepFlag, Stepper, Steps, StepSettings
from etalumis.errors import InferenceError, ProtocolError, SimulatorError
from etalumis.inference.kernel import Settings
from etalumis.inference.replays import check_complete_replay
from etalumis.inference.runner import ModelRunner
from etalumis.inference.state import ChainState
from etalumis.trace import Trace

logger = logging.getLogger(__name__)

TARGET_S = 0.05
"""Target duration of the steps of one message, in seconds."""
MAX_STEPS = 128
"""Maximum number of steps per message."""

Outcome = tuple[int, int, Trace | None]
"""Position of the entry to change (-1: all), `StepFlag`, and the trace that the step led to, or None."""


class RemoteSteps:
    """Buffer of steps that the model has made in advance.

    Parameters
    ----------
    runner, stepper
        Run the model.
    seed
        Seed of the steps. Step n depends on it and on n only.
    focus
        Names of the focused entries; None for all entries with a name.
    steps_per_message
        Number of steps of the first message; later ones depend on its duration.

    Attributes
    ----------
    done
        Number of steps that the chain has taken.
    """

    def __init__(
        self,
        runner: ModelRunner,
        stepper: Stepper,
        seed: int,
        focus: Collection[str] | None,
        steps_per_message: int = 1,
    ) -> None:
        self._runner, self._stepper, self._seed = runner, stepper, seed
        self._focus = None if focus is None else tuple(sorted(focus))
        self._buffer: deque[Outcome] = deque()
        self._steps_per_message = steps_per_message
        self._single_requests = 0  # number of further steps to request one per message
        self.done = 0

    def next(self, state: ChainState, settings: Settings, beta: float) -> Outcome:
        """Return the next step of a chain that is at `state`."""
        if not self._buffer:
            self._fill(state, settings, beta)
        self.done += 1
        return self._buffer.popleft()

    def snapshot(self) -> dict[str, int]:
        """Return the JSON values needed to resume."""
        return {"seed": self._seed, "done": self.done}

    def _fill(self, state: ChainState, settings: Settings, beta: float) -> None:
        observed = self._runner.observations.values
        step_settings = StepSettings(*settings, focus=self._focus, beta=beta)
        steps, traces = self._request(
            Steps(state.rows, observed, step_settings, self._seed, self.done, self._steps_per_message)
        )
        if not steps:
            for trace in traces:
                check_complete_replay(trace)
            raise InferenceError(
                f"{self._runner.model.name}: replaying the trace of the chain gave a different one; expected a model "
                "that does the same when given the same values"
            )
        remaining = iter(traces)
        for position, flags in steps:
            has_trace = flags & (StepFlag.ACCEPTED | StepFlag.BROKEN)
            self._buffer.append((position, flags, next(remaining) if has_trace else None))

    def _request(self, requested: Steps) -> tuple[Sequence[tuple[int, int]], Sequence[Trace]]:
        """Request steps. If a message fails, perhaps because it asked for too many, request only the first step.

        The others follow one by one, which identifies the step that fails. The chain is the same.
        """
        if requested.number > 1 and not self._single_requests:
            began = time.perf_counter()
            try:
                found = self._stepper.take_steps(requested, self._runner.addresses)
            except (SimulatorError, ProtocolError) as error:
                self._restart_after(error, requested.number)
            else:
                self._adapt_count(time.perf_counter() - began)
                return found
        began = time.perf_counter()
        found = self._runner.take_steps(self._stepper, requested._replace(number=1))
        if self._single_requests:
            self._single_requests -= 1
        else:
            self._adapt_count(time.perf_counter() - began)
        return found

    def _adapt_count(self, seconds: float) -> None:
        """Choose the number of steps of the next message from the duration of this one."""
        self._steps_per_message = max(
            1, min(MAX_STEPS, 2 * self._steps_per_message, int(TARGET_S * self._steps_per_message / seconds))
        )

    def _restart_after(self, error: SimulatorError | ProtocolError, count: int) -> None:
        runner = self._runner
        if not is_restartable(runner.model):
            raise error
        logger.warning("%s: %d steps at once failed (%s); making them one by one", runner.model.name, count, error)
        runner.failures += 1
        self._single_requests = count
        restart(runner.model, runner.retries)
