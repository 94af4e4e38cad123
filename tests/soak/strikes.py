# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A simulator whose process is killed or stopped repeatedly, at every kind of message.

`StruckSimulator` wraps a simulator and is itself a model that can be restarted, so it can replace the simulator in all
engines.
"""

import os
import random
import signal
import threading
import time
from collections import Counter

MOMENTS = ("run", "sample", "observe", "tag", "result", "any", "handshake")
"""Moments of strikes: before a run is requested; while the simulator waits for the answer to a statement of a kind;
after the result; at a random time; while a new process starts."""
HANDSHAKE_S = 0.04
"""Typical time from the start of an example to its first answer."""
RUN_S = 0.002
MAX_IN_A_ROW = 2
"""Maximum number of strikes at one run and its repetitions, fewer than the retries of the engines."""
STOP_EVERY = 25
"""One of so many strikes stops the process instead of killing it, so that it hangs; rare, because timeouts are slow."""
PASSING = {"sample": 3, "observe": 2, "tag": 1}
"""Maximum number of the struck statement of a kind; the model must have so many."""


class Strikes:
    """Decides, from a seed, which runs are struck, when and how; counts the strikes.

    Parameters
    ----------
    share
        Fraction of the attempts at a run that are struck.
    moments
        Moments of strikes; all of them occur equally often.
    """

    def __init__(self, seed: int, share: float, moments: tuple[str, ...] = MOMENTS) -> None:
        self._rng = random.Random(seed)
        self._share, self._moments = share, moments
        self._moments_left: list[str] = []
        self._planned = 0
        self._stop_due = False
        self._in_a_row = 0
        self.done: Counter[str] = Counter()

    def plan(self) -> tuple[str, int, signal.Signals] | None:
        """Return (moment, number of statements of that kind before it, signal) of a strike at the next attempt."""
        spared = self._planned > 0 and self._rng.random() >= self._share  # the first attempt is always struck
        if spared or self._in_a_row >= MAX_IN_A_ROW:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        self._planned += 1
        if not self._moments_left:
            self._moments_left = self._rng.sample(self._moments, len(self._moments))
        moment = self._moments_left.pop()
        self._stop_due = self._stop_due or self._planned % STOP_EVERY == STOP_EVERY // 2
        stopping = self._stop_due and moment != "handshake"  # the timeout of a start is long
        self._stop_due = self._stop_due and not stopping
        return moment, self._rng.randrange(PASSING.get(moment, 1)), signal.SIGSTOP if stopping else signal.SIGKILL

    def delay(self, max_s: float) -> float:
        """Return a random time up to `max_s` seconds."""
        return self._rng.uniform(0.0, max_s)

    def strike(self, moment: str, pid: int | None, number: signal.Signals) -> None:
        """Send the signal."""
        if pid is None:
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        self.done[f"{moment} {number.name}"] += 1


class StruckSimulator:
    """The model `simulator`, struck as planned."""

    def __init__(self, simulator, strikes: Strikes) -> None:
        self._simulator, self._strikes = simulator, strikes
        self._at_start = False

    def __getattr__(self, name: str):
        return getattr(self._simulator, name)

    def run(self, execution):
        """An interactive run."""
        return self._struck(lambda hit: self._simulator.run(_Watched(execution, hit)))

    @property
    def delegates(self) -> bool:
        return self._simulator.delegates

    def carry_out(self, plan, seeds, addresses):
        """Delegated runs, struck before, at any time or after: they have no messages in between."""
        return self._struck(lambda hit: self._simulator.carry_out(plan, seeds, addresses))

    @property
    def stepper(self):
        return self if self._simulator.can_step else None

    def take_steps(self, steps, addresses):
        """Steps of a chain that the simulator makes by itself, struck as delegated runs are."""
        return self._struck(lambda hit: self._simulator.take_steps(steps, addresses))

    def assist(self, plan, seed, answer, addresses):
        """An assisted run, struck also before a draw is answered."""

        def assisted(hit):
            def answer_after(site):
                hit("sample")
                return answer(site)

            return self._simulator.assist(plan, seed, answer_after, addresses)

        return self._struck(assisted)

    def _struck(self, work):
        """Do `work(hit)`, which calls `hit(kind)` at every statement, under a strike if one is planned."""
        plan = self._strikes.plan()
        moment, passing, number = plan or ("", 0, signal.SIGKILL)
        pid = self._simulator.pid
        reached: Counter[str] = Counter()

        def hit(kind: str) -> None:
            if kind == moment and reached[kind] == passing:
                self._strikes.strike(kind, pid, number)
            reached[kind] += 1

        if moment in ("run", "handshake"):
            self._at_start = moment == "handshake"
            self._strikes.strike("run", pid, number)
        timer = threading.Timer(self._strikes.delay(RUN_S), self._strikes.strike, ("any", pid, number))
        if moment == "any":
            timer.start()
        try:
            result = work(hit)
        finally:
            if moment == "any":
                timer.join()
        if moment == "result":
            self._strikes.strike(moment, pid, number)
        return result

    @property
    def can_restart(self) -> bool:
        return True

    def restart(self) -> None:
        """Restart the simulator; the fresh process is struck too if that was the plan."""
        if not self._at_start:
            self._simulator.restart()
            return
        self._at_start = False
        old, over = self._simulator.pid, threading.Event()
        wait = self._strikes.delay(HANDSHAKE_S)

        def strike() -> None:
            while (pid := self._simulator.pid) in (old, None):
                if over.wait(0.0005):
                    return
            time.sleep(wait)
            self._strikes.strike("handshake", pid, signal.SIGKILL)

        thread = threading.Thread(target=strike)
        thread.start()
        try:
            self._simulator.restart()
        finally:
            over.set()
            thread.join()


class _Watched:
    """An execution that says which statement it has before it answers."""

    def __init__(self, execution, hit) -> None:
        self._execution, self._hit = execution, hit

    def __getattr__(self, name: str):
        return getattr(self._execution, name)

    def sample(self, *arguments, **options):
        self._hit("sample")
        return self._execution.sample(*arguments, **options)

    def observe(self, *arguments, **options):
        self._hit("observe")
        return self._execution.observe(*arguments, **options)

    def tag(self, *arguments, **options):
        self._hit("tag")
        return self._execution.tag(*arguments, **options)
