# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A simulator as a model whose process is killed or stopped, again and again, at every kind of message.

`Tormented` stands between an engine and a simulator: it is itself a model that can be restarted, so whatever runs
models, one by one or many, can be tormented by it.
"""

import os
import random
import signal
import threading
import time
from collections import Counter

MOMENTS = ("run", "sample", "observe", "tag", "result", "any", "handshake")
"""When it strikes: before the run is asked for; while the simulator waits for the answer to a statement of that kind;
after its result; at any time, by a clock of its own; while a fresh process starts."""
HANDSHAKE_S = 0.04
"""About as long as an example takes from its start to its first answer."""
RUN_S = 0.002
WORST_IN_A_ROW = 2
"""Strikes at one run and its repetitions; engines are allowed more failures than that."""
STOP_EVERY = 25
"""Of so many strikes one stops the process, which then hangs, instead of killing it: a timeout is slow to wait for."""
PASSING = {"sample": 3, "observe": 2, "tag": 1}
"""Which statement of a kind is struck at the most: the model has to have so many."""


class Strikes:
    """Decides, from a seed, which runs are struck, when and how; counts what it did.

    Parameters
    ----------
    share
        Share of the attempts at a run that are struck.
    moments
        Among which each hand of strikes is dealt anew, so that every one has its turn.
    """

    def __init__(self, seed: int, share: float, moments: tuple[str, ...] = MOMENTS) -> None:
        self._rng = random.Random(seed)
        self._share, self._moments = share, moments
        self._hand: list[str] = []
        self._planned = 0
        self._stop_due = False
        self._in_a_row = 0
        self.done: Counter[str] = Counter()

    def plan(self) -> tuple[str, int, signal.Signals] | None:
        """Return (moment, how many statements of that kind pass before, signal) of a strike at the next attempt."""
        spared = self._planned > 0 and self._rng.random() >= self._share  # the first attempt never is
        if spared or self._in_a_row >= WORST_IN_A_ROW:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        self._planned += 1
        if not self._hand:
            self._hand = self._rng.sample(self._moments, len(self._moments))
        moment = self._hand.pop()
        self._stop_due = self._stop_due or self._planned % STOP_EVERY == STOP_EVERY // 2
        stopping = self._stop_due and moment != "handshake"  # a start may take a minute before it counts as hanging
        self._stop_due = self._stop_due and not stopping
        return moment, self._rng.randrange(PASSING.get(moment, 1)), signal.SIGSTOP if stopping else signal.SIGKILL

    def delay(self, longest: float) -> float:
        """Return a moment within `longest` seconds."""
        return self._rng.uniform(0.0, longest)

    def strike(self, moment: str, pid: int | None, number: signal.Signals) -> None:
        """Send the signal."""
        if pid is None:
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        self.done[f"{moment} {number.name}"] += 1


class Tormented:
    """A model: `simulator`, struck as planned."""

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
