# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The runs requested from a pool, and the tasks into which they are divided."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from etalumis.address import AddressTable
from etalumis.batches import TARGET_BATCH_S
from etalumis.delegation import MAX_BATCH_RUNS, RunPlan
from etalumis.errors import EtalumisError
from etalumis.ppx.delegated import DelegatedTrace

_MAX_RUNS_PER_MESSAGE = 128
"""While the simulator carries out the runs of one message, this side reads the answer to the previous one."""
_MIN_RUNS_PER_MESSAGE = 64
"""Lower bound, if that many runs are left: a message costs as much as a few fast runs."""


class Work:
    """The runs requested in one call, and their results.

    Parameters
    ----------
    plans
        One plan per seed, or one for all.
    order
        Order in which runs are assigned to workers, if there are several plans.

    Attributes
    ----------
    results
        Trace, or error, by the position of the seed.
    repeated
        Tasks to repeat, before all others.
    """

    def __init__(
        self,
        plans: RunPlan | Sequence[RunPlan],
        seeds: Sequence[int],
        addresses: AddressTable,
        order: Sequence[int] | None = None,
    ) -> None:
        self.seeds, self.addresses = seeds, addresses
        self._plans = plans
        self._order = order
        self._next = 0
        self.size = 1
        self.results: dict[int, DelegatedTrace | EtalumisError] = {}
        self.repeated: deque[Task] = deque()
        self.is_active = True

    def take(self, workers: int, limit: int | None) -> "Task | None":
        """Return the next task for one of `workers` workers; None if no seed is left before position `limit`."""
        if self.repeated:
            return self.repeated.popleft()
        first, left = self._next, len(self.seeds) - self._next
        if not left or (limit is not None and first >= limit):
            return None
        if not isinstance(self._plans, RunPlan):
            self._next += 1
            position = first if self._order is None else self._order[first]
            return Task(self, self._plans[position], position, (self.seeds[position],), 0)
        # the last tasks are smaller, so that all workers finish at about the same time
        size = max(1, min(self.size, left // (2 * workers)))
        self._next += size
        return Task(self, self._plans, first, tuple(self.seeds[first : first + size]), 0)

    def complete(self, task: "Task", traces: Sequence[DelegatedTrace], seconds: float) -> None:
        """Store the traces of a task, and adapt the number of runs per task to the time it took."""
        if self.is_active:
            self.results.update(enumerate(traces, task.first))
        size = len(task.seeds)
        self.size = max(1, min(MAX_BATCH_RUNS, 2 * size, int(TARGET_BATCH_S * size / max(seconds, 1e-6))))

    def repeat(self, task: "Task") -> None:
        """Repeat the runs of a failed task one by one."""
        if self.is_active:
            self.repeated.extend(
                task._replace(first=task.first + i, seeds=(seed,)) for i, seed in enumerate(task.seeds)
            )

    def fail(self, task: "Task", error: EtalumisError) -> None:
        """Store the error of a task with one run that is not repeated."""
        if self.is_active:
            self.results[task.first] = error

    def cancel(self) -> None:
        """Drop all results, including those of tasks that are still in progress."""
        self.is_active = False
        self.repeated.clear()
        self.results.clear()


class Task(NamedTuple):
    """Runs that one worker does in one request: those of `work` from position `first` on."""

    work: Work
    plan: RunPlan
    first: int
    seeds: tuple[int, ...]
    failures: int

    def __str__(self) -> str:
        return f"the run with seed {self.seeds[0]}" if len(self.seeds) == 1 else f"{len(self.seeds)} runs"


def split(seeds: Sequence[int], alone: bool) -> list[Sequence[int]]:
    """Return the seeds of each message; `alone`: the first message has one seed.

    The last messages get smaller, because the simulator is idle while this side reads the last one.
    """
    pieces, start = [], 0
    while left := len(seeds) - start:
        size = (
            1 if alone and not start else max(min(_MAX_RUNS_PER_MESSAGE, left // 2), min(_MIN_RUNS_PER_MESSAGE, left))
        )
        pieces.append(seeds[start : start + size])
        start += size
    return pieces
