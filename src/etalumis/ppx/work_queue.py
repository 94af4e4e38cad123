# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs that a pool is asked for, and the pieces in which its workers do them."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from etalumis.address import AddressTable
from etalumis.batches import MOST, WANTED_S
from etalumis.delegation import RunPlan
from etalumis.errors import EtalumisError
from etalumis.ppx.delegated import DelegatedTrace


class Work:
    """Runs asked for in one call, and what has come of them.

    Parameters
    ----------
    plans
        One for each seed, or one for all.
    order
        Order in which they are handed out; those of several plans go one by one.

    Attributes
    ----------
    found
        By position of the seed: its trace, or why there is none.
    again
        Runs to repeat, before all others.
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
        self.found: dict[int, DelegatedTrace | EtalumisError] = {}
        self.again: deque[Task] = deque()
        self.wanted = True

    def take(self, workers: int, limit: int | None) -> "Task | None":
        """Return what a worker may do next, of `workers`; None where there is nothing before position `limit`."""
        if self.again:
            return self.again.popleft()
        first, left = self._next, len(self.seeds) - self._next
        if not left or (limit is not None and first >= limit):
            return None
        if not isinstance(self._plans, RunPlan):
            self._next += 1
            position = first if self._order is None else self._order[first]
            return Task(self, self._plans[position], position, (self.seeds[position],), 0)
        # towards the end the pieces get smaller, so that the workers end together
        size = max(1, min(self.size, left // (2 * workers)))
        self._next += size
        return Task(self, self._plans, first, tuple(self.seeds[first : first + size]), 0)

    def came(self, task: "Task", traces: Sequence[DelegatedTrace], seconds: float) -> None:
        """Keep the traces of a task, and learn from it how many runs make a good one."""
        if self.wanted:
            self.found.update(enumerate(traces, task.first))
        size = len(task.seeds)
        self.size = max(1, min(MOST, 2 * size, int(WANTED_S * size / max(seconds, 1e-6))))

    def repeat(self, task: "Task") -> None:
        """Have the runs of a task that came to nothing done once more, one by one."""
        if self.wanted:
            self.again.extend(task._replace(first=task.first + i, seeds=(seed,)) for i, seed in enumerate(task.seeds))

    def fail(self, task: "Task", error: EtalumisError) -> None:
        """Keep that a run has failed for good."""
        if self.wanted:
            self.found[task.first] = error

    def drop(self) -> None:
        """Have nothing more to do with what is still under way."""
        self.wanted = False
        self.again.clear()
        self.found.clear()


class Task(NamedTuple):
    """Runs that one worker does in one go: those from position `first` of a work."""

    work: Work
    plan: RunPlan
    first: int
    seeds: tuple[int, ...]
    failures: int

    def __str__(self) -> str:
        return f"the run with seed {self.seeds[0]}" if len(self.seeds) == 1 else f"{len(self.seeds)} runs"
