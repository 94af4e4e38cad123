# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Many simulator processes, forked from one, as one model that carries out plans."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from etalumis.address import AddressTable
from etalumis.delegation import Answer, RunPlan
from etalumis.errors import EtalumisError, ProtocolError, SimulatorError
from etalumis.execution import Execution, Site
from etalumis.ppx.connection import PeerEnded, PeerSilent
from etalumis.ppx.delegated import DelegatedTrace
from etalumis.ppx.encode import encode
from etalumis.ppx.messages import Message, Reset
from etalumis.ppx.session import Conversation
from etalumis.ppx.supervisor import SLICE_S, Supervisor
from etalumis.ppx.work_queue import Work
from etalumis.ppx.worker import Worker, WorkerState

T = TypeVar("T")

_RESET = encode(Reset())
_ABANDON_S = 2.0
"""How long a worker may take to agree that a run is abandoned."""
_REFILL_S = 0.005
"""How often workers get something to do while somebody takes traces that are there already."""


class Pool:
    """A simulator in `workers` processes, forked from one that has set itself up. A context manager.

    A worker that dies, hangs or sends rubbish is replaced, and its runs are repeated one by one by whoever is free; the
    results of the others are not touched. The same plan and seed give the same trace, whoever runs it. Not for use by
    several threads at once; the thread that starts the pool has to outlive it.

    Parameters
    ----------
    command
        Program and arguments, as of `Simulator`; it gets ``--workers N`` and has to serve by ``ppx::serve_workers``.
    workers
        How many processes.
    endpoint
        Worker i listens here with ``.i`` appended (ipc) or i added to the port (tcp). By default a fresh ``ipc://``
        path in a private temporary folder.
    timeout_s
        How long, in seconds, a run may take.
    start_timeout_s
        How long the start may take, until all workers have answered; likewise that of a worker's replacement.
    retries
        How often a run that failed by itself is repeated. Also how often in a row the whole program is started anew.
    pin
        Whether worker i keeps to core i, modulo the number of cores.
    scratch
        Folder in which the private folder (sockets, log of standard error, temporary files) is made.

    Raises
    ------
    SimulatorError
        If it cannot be started, or a run fails repeatedly, with its seed, how its process ended and the last lines that
        the program wrote to standard error and standard output.
    RefusedError
        If a worker refuses a run.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        endpoint: str | None = None,
        timeout_s: float = 60.0,
        start_timeout_s: float = 60.0,
        retries: int = 3,
        pin: bool = False,
        scratch: Path | None = None,
    ) -> None:
        if workers < 1:
            raise SimulatorError(f"expected one worker or more, found {workers}")
        command = [*command, "--workers", str(workers), *(["--pin"] if pin else [])]
        self._supervisor = Supervisor(command, workers, endpoint, timeout_s, start_timeout_s, retries, scratch)
        self.restart()

    # ------------------------------------------------------------------ what a model has

    @property
    def name(self) -> str:
        """Name of the model, as the simulator gave it in the handshake."""
        return self._supervisor.name

    @property
    def pid(self) -> int | None:
        """Process id of the parent of all workers."""
        return self._supervisor.pid

    @property
    def pids(self) -> list[int | None]:
        """Process ids of the workers; None for one that is being replaced."""
        return [worker.process.pid if worker.process is not None else None for worker in self._supervisor.workers]

    @property
    def replaced(self) -> int:
        """Number of workers that were replaced so far."""
        return self._supervisor.replaced

    @property
    def delegates(self) -> bool:
        """That they carry out plans: always."""
        return True

    def carry_out(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> list[DelegatedTrace]:
        """Run once for each seed, on all workers; return the traces in that order."""
        return list(self._results(Work(plan, seeds, addresses), bounded=False))

    def carry_out_all(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> list[DelegatedTrace]:
        """Run every plan once, with its seed, all at the same time; return the traces in that order."""
        plans = [plan for plan, _ in requests]
        work = Work(plans, [seed for _, seed in requests], addresses, self._order(plans))
        return list(self._results(work, bounded=False))

    def stream(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Iterator[DelegatedTrace]:
        """Yield the trace of each seed, in order; few are held back until their turn comes.

        Where a run fails for good, the traces before it are yielded first.
        """
        return self._results(Work(plan, seeds, addresses), bounded=True)

    def run(self, execution: Execution) -> float | None:
        """Run one worker once, interactively, as `Simulator.run` does; a failure is for the caller to repeat."""
        result = self._alone(None, lambda session, say: session.converse(execution, say))
        if result is None:
            return None
        if result.size > 1:
            execution.tag("result", result)
            return None
        return float(result.reshape(()))

    def assist(
        self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable
    ) -> DelegatedTrace:
        """Run one worker once, asked for controlled draws, as `Simulator.assist` does."""
        return self._alone(addresses, lambda session, say: session.assist(plan, seed, answer, addresses, say))

    @property
    def can_restart(self) -> bool:
        """Whether its processes can be replaced: always."""
        return True

    def restart(self) -> None:
        """End all processes and start afresh; runs under way are repeated."""
        self._supervisor.restart()

    def close(self) -> None:
        """End all processes. May be called twice."""
        self._supervisor.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ work

    def _results(self, work: Work, *, bounded: bool) -> Iterator[DelegatedTrace]:
        supervisor = self._supervisor
        supervisor.require_running()
        handed_out = 0.0
        try:
            for position in range(len(work.seeds)):
                # Few are held back: enough for every worker's next piece while the slowest one is at its present one.
                limit = position + 2 * supervisor.count * work.size + 1 if bounded else None
                now = time.monotonic()
                if position in work.found and now - handed_out > _REFILL_S:
                    supervisor.pump(0.0)
                    self._hand_out(work, limit)
                    handed_out = now
                while position not in work.found:
                    self._hand_out(work, limit)
                    supervisor.pump(SLICE_S)
                found = work.found.pop(position)
                if isinstance(found, EtalumisError):
                    raise found
                yield found
        finally:
            work.drop()

    def _hand_out(self, work: Work, limit: int | None) -> None:
        ready = self._supervisor.ready
        while ready and (task := work.take(self._supervisor.count, limit)) is not None:
            home = self._home(task.plan)
            worker = home if home in ready else ready[0]
            ready.remove(worker)
            self._supervisor.give(worker, task)

    def _home(self, plan: RunPlan) -> Worker | None:
        """Return the worker that numbers a plan's rows as they are: no need to put them into its own numbers."""
        keys = plan.rows.keys if plan.rows is not None else None
        for worker in self._supervisor.workers if keys is not None else ():
            if worker.session is not None and worker.session.vocabulary is keys:
                return worker
        return None

    def _order(self, plans: Sequence[RunPlan]) -> list[int]:
        """Return an order in which each plan finds its home free, unless one before it has the same."""
        first, later, taken = [], [], set()
        for position, plan in enumerate(plans):
            home = self._home(plan)
            if home is None or home.number in taken:
                later.append(position)
            else:
                taken.add(home.number)
                first.append(position)
        return first + later

    def _alone(
        self, addresses: AddressTable | None, talk: Callable[[Conversation, Callable[[bytes], Message]], T]
    ) -> T:
        """Talk with one worker, draw by draw."""
        supervisor = self._supervisor
        supervisor.require_running()
        while not (ready := supervisor.ready):
            supervisor.pump(SLICE_S)
        worker = ready[0]
        session, worker.state = worker.session, WorkerState.BROKEN  # until the end: something may break this off
        assert session is not None
        finished = False
        try:
            if addresses is not None:
                session = worker.speaking(addresses)
            result = talk(session, worker.say)
            finished = True
        except (PeerEnded, PeerSilent) as error:
            where = session.where()
            supervisor.lose(worker, str(error))
            raise SimulatorError(f"the simulator {self.name}: a worker {error} {where}") from error
        finally:
            if not finished:
                session.break_off()
            if worker.state is WorkerState.BROKEN and (finished or _agrees(worker)):
                worker.state = WorkerState.READY
        return result


def _agrees(worker: Worker) -> bool:
    """Return whether a worker agrees that its run is over. If not, it is replaced when somebody looks after it."""
    try:
        return isinstance(worker.say(_RESET, _ABANDON_S), Reset)
    except (SimulatorError, ProtocolError):
        return False  # the exception under way says why the run ended
