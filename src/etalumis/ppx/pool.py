# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Several simulator processes, forked from one, as one model that carries out plans."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from etalumis.address import AddressTable
from etalumis.delegation import MAX_BATCH_RUNS, Answer, RunPlan
from etalumis.errors import EtalumisError, ProtocolError, SimulatorError
from etalumis.execution import Site, StatementReceiver
from etalumis.ppx.connection import PeerEnded, PeerSilent
from etalumis.ppx.delegated import DelegatedTrace
from etalumis.ppx.encode import encode
from etalumis.ppx.messages import Message, Reset
from etalumis.ppx.session import Conversation
from etalumis.ppx.supervisor import POLL_INTERVAL_S, Supervisor
from etalumis.ppx.work_queue import Work
from etalumis.ppx.worker import Worker, WorkerState
from etalumis.rows import as_structs

T = TypeVar("T")

_RESET = encode(Reset())
_RESET_TIMEOUT_S = 2.0
"""How long a worker may take to confirm that a run is abandoned."""
_REFILL_INTERVAL_S = 0.005
"""How often tasks are assigned to workers while the caller reads results that have arrived already."""


class Pool:
    """A simulator in `workers` processes, forked from one after its initialisation. A context manager.

    A worker that dies, hangs or sends invalid messages is replaced, and its runs are repeated one by one by other
    workers. This does not affect results: the same plan and seed give the same trace on every worker. Not thread-safe;
    the thread that starts the pool must outlive it.

    Parameters
    ----------
    command
        Program and arguments, see `Simulator`. ``--workers N`` is appended; the program must use
        ``ppx::serve_workers``.
    workers
        Number of processes.
    endpoint
        Worker i listens on this endpoint with ``.i`` appended (ipc) or i added to the port (tcp). By default a new
        ``ipc://`` path in a private temporary folder.
    timeout_s
        Timeout of a run, in seconds.
    start_timeout_s
        Timeout of the start, until all workers have answered, and of the start of a worker that replaces another one.
    retries
        How often a failed run is repeated. Also how often in a row the whole program is restarted.
    pin
        Whether worker i is pinned to core i, modulo the number of cores.
    scratch
        Parent of the private folder (sockets, logs, temporary files).

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

    # ------------------------------------------------------------------ the interface of a model

    @property
    def name(self) -> str:
        """Name of the model, from the handshake."""
        return self._supervisor.name

    @property
    def pid(self) -> int | None:
        """Process id of the parent of all workers."""
        return self._supervisor.pid

    @property
    def pids(self) -> list[int | None]:
        """Process ids of the workers; None for a worker that is being replaced."""
        return [worker.process.pid if worker.process is not None else None for worker in self._supervisor.workers]

    @property
    def replaced(self) -> int:
        """Number of workers replaced so far."""
        return self._supervisor.replaced

    delegates = True
    """The pool carries out plans by itself."""
    batch_runs = MAX_BATCH_RUNS
    takes_proposals = False
    stepper = None

    @property
    def concurrent(self) -> Self:
        """The pool: it runs in several processes."""
        return self

    def carry_out(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> list[DelegatedTrace]:
        """Run once per seed, on all workers; return the traces in the order of the seeds."""
        return list(self._results(Work(plan, seeds, addresses), bounded=False))

    def carry_out_each(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> list[DelegatedTrace]:
        """Run every plan once with its seed, in parallel; return the traces in the order of the requests."""
        plans = [plan for plan, _ in requests]
        work = Work(plans, [seed for _, seed in requests], addresses, self._order(plans))
        return list(self._results(work, bounded=False))

    def stream(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> Iterator[DelegatedTrace]:
        """Yield the trace of each seed, in order, with a bounded number of runs ahead.

        If a run fails repeatedly, the traces before it are yielded first.
        """
        return self._results(Work(plan, seeds, addresses), bounded=True)

    def run(self, execution: StatementReceiver) -> float | None:
        """Run one worker once, interactively, as `Simulator.run` does; a failed run is not repeated."""
        result = self._run_one_worker(None, lambda session, exchange: session.run_interactively(execution, exchange))
        if result is None:
            return None
        if result.size > 1:
            execution.tag("result", result)
            return None
        return float(result.reshape(()))

    def assist(
        self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable
    ) -> DelegatedTrace:
        """Run one worker once, with answers to controlled draws, as `Simulator.assist` does."""
        return self._run_one_worker(
            addresses, lambda session, exchange: session.assist(plan, seed, answer, addresses, exchange)
        )

    @property
    def can_restart(self) -> bool:
        """Whether the processes can be replaced: always True."""
        return True

    def restart(self) -> None:
        """End all processes and start new ones; runs in progress are repeated."""
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
        assigned_at = 0.0
        try:
            for position in range(len(work.seeds)):
                # The bound leaves a next task for every worker while the slowest one finishes its present one.
                limit = position + 2 * supervisor.count * work.size + 1 if bounded else None
                now = time.monotonic()
                if position in work.results and now - assigned_at > _REFILL_INTERVAL_S:
                    supervisor.poll(0.0)
                    self._assign_tasks(work, limit)
                    assigned_at = now
                while position not in work.results:
                    self._assign_tasks(work, limit)
                    supervisor.poll(POLL_INTERVAL_S)
                found = work.results.pop(position)
                if isinstance(found, EtalumisError):
                    raise found
                yield found
        finally:
            work.cancel()

    def _assign_tasks(self, work: Work, limit: int | None) -> None:
        ready = self._supervisor.ready
        while ready and (task := work.take(self._supervisor.count, limit)) is not None:
            preferred = self._preferred_worker(task.plan)
            worker = preferred if preferred in ready else ready[0]
            ready.remove(worker)
            self._supervisor.assign(worker, task)

    def _preferred_worker(self, plan: RunPlan) -> Worker | None:
        """Return the worker whose vocabulary the rows of a plan use, so that they need no translation."""
        rows = as_structs(plan.rows)
        keys = rows.keys if rows is not None else None
        for worker in self._supervisor.workers if keys is not None else ():
            if worker.session is not None and worker.session.vocabulary is keys:
                return worker
        return None

    def _order(self, plans: Sequence[RunPlan]) -> list[int]:
        """Return an order in which plans with different preferred workers come first."""
        first, later, taken = [], [], set()
        for position, plan in enumerate(plans):
            worker = self._preferred_worker(plan)
            if worker is None or worker.number in taken:
                later.append(position)
            else:
                taken.add(worker.number)
                first.append(position)
        return first + later

    def _run_one_worker(
        self, addresses: AddressTable | None, talk: Callable[[Conversation, Callable[[bytes], Message]], T]
    ) -> T:
        """Run one worker interactively: `talk` is called with its session and a function that exchanges messages."""
        supervisor = self._supervisor
        supervisor.require_running()
        while not (ready := supervisor.ready):
            supervisor.poll(POLL_INTERVAL_S)
        worker = ready[0]
        session, worker.state = worker.session, WorkerState.BROKEN  # until the end: an exception may interrupt this
        assert session is not None
        finished = False
        try:
            if addresses is not None:
                session = worker.session_for(addresses)
            result = talk(session, worker.exchange)
            finished = True
        except (PeerEnded, PeerSilent) as error:
            where = session.where()
            supervisor.replace(worker, str(error))
            raise SimulatorError(f"the simulator {self.name}: a worker {error} {where}") from error
        finally:
            if not finished:
                session.invalidate()
            if worker.state is WorkerState.BROKEN and (finished or _confirms_end(worker)):
                worker.state = WorkerState.READY
        return result


def _confirms_end(worker: Worker) -> bool:
    """Return whether a worker confirms that its run is over; if not, the supervisor replaces the worker."""
    try:
        return isinstance(worker.exchange(_RESET, _RESET_TIMEOUT_S), Reset)
    except (SimulatorError, ProtocolError):
        return False  # the exception in progress says why the run ended
