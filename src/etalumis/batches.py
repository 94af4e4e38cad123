# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Many runs of one plan: in batches of adaptive size, with a new process after a failure."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from etalumis.address import AddressTable
from etalumis.delegation import PlannedModel, RunPlan
from etalumis.errors import ProtocolError, SimulatorError
from etalumis.trace import Trace

logger = logging.getLogger(__name__)

TARGET_BATCH_S = 0.1
"""Target duration of a batch in seconds: long compared with a round trip, short for a user who presses Ctrl-C."""

OnFailure = Callable[[Exception, int, int], None]
"""Called with (error, index of the run, number of its consecutive failures); raises or replaces the model's process."""


@runtime_checkable
class Restartable(Protocol):
    """A model in a process that may be replaced by a new one."""

    @property
    def can_restart(self) -> bool:
        """Whether the process can be replaced: False if another program started it."""
        ...

    def restart(self) -> None:
        """End the process and start a new one."""
        ...


def is_restartable(model: object) -> bool:
    """Return whether the process of a model can be replaced after a failure."""
    return isinstance(model, Restartable) and model.can_restart


def restart(model: object, retries: int) -> None:
    """Replace the process of a restartable model; if the new process fails to start, retry up to `retries` times."""
    assert isinstance(model, Restartable)  # the caller has checked `is_restartable`
    for left in range(max(retries, 0), -1, -1):
        try:
            model.restart()
            return
        except (SimulatorError, ProtocolError) as error:
            if left == 0:
                raise
            logger.warning("a new process failed as well (%s); %d attempts left", error, left)


def run_in_batches(
    model: PlannedModel, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable, on_failure: OnFailure
) -> Iterator[Trace]:
    """Yield the trace of each seed under `plan`, in order.

    The runs of a failed batch are repeated one by one, so that an error names the seed of the failing run. A model in
    several processes repeats failed runs by itself and raises when it gives up.
    """
    if model.concurrent is not None:
        yield from model.concurrent.stream(plan, seeds, addresses)
        return
    size, done = 1, 0
    while done < len(seeds):
        batch = seeds[done : done + size]
        began = time.perf_counter()
        try:
            traces = model.carry_out(plan, batch, addresses)
        except (SimulatorError, ProtocolError) as error:
            if len(batch) == 1:
                traces = _retry(model, plan, batch[0], addresses, on_failure, error, done)
            else:
                logger.warning("%d runs at once failed (%s); repeating them one by one", len(batch), error)
                on_failure(error, done, 0)
                for index, seed in enumerate(batch, done):
                    yield from _run_single(model, plan, seed, addresses, on_failure, index)
                done += len(batch)
                continue
        each = (time.perf_counter() - began) / len(batch)
        yield from traces
        done += len(batch)
        size = max(1, min(model.batch_runs, 2 * size, int(TARGET_BATCH_S / each)))


def _run_single(
    model: PlannedModel, plan: RunPlan, seed: int, addresses: AddressTable, on_failure: OnFailure, index: int
) -> Sequence[Trace]:
    try:
        return model.carry_out(plan, (seed,), addresses)
    except (SimulatorError, ProtocolError) as error:
        return _retry(model, plan, seed, addresses, on_failure, error, index)


def _retry(
    model: PlannedModel,
    plan: RunPlan,
    seed: int,
    addresses: AddressTable,
    on_failure: OnFailure,
    error: Exception,
    index: int,
) -> Sequence[Trace]:
    failures = 0
    while True:
        failures += 1
        on_failure(error, index, failures)
        try:
            return model.carry_out(plan, (seed,), addresses)
        except (SimulatorError, ProtocolError) as another:
            error = another
