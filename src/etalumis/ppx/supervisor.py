# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The processes of a pool: started, polled, watched, replaced and ended."""

import contextlib
import logging
import re
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import zmq

from etalumis.errors import ProtocolError, RefusedError, SimulatorError
from etalumis.ppx.connection import is_busy, more_time
from etalumis.ppx.process import SimulatorProcess
from etalumis.ppx.session import RequestRefused
from etalumis.ppx.work_queue import Task
from etalumis.ppx.worker import Context, Worker, WorkerState

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.02
"""How often processes are checked: a dead one is noticed within two intervals."""
_REPORT_TIMEOUT_S = 0.5
"""How long after the end of a worker its parent may take to report how it ended."""
_WORKERS_HINT = (
    "several workers need a program with the option --workers N (ppx::serve_workers); models served by "
    "`etalumis serve` run in one process: leave out --workers"
)


class Supervisor:
    """The workers of one program and the process that forked them; see `Pool` for the parameters.

    Attributes
    ----------
    name
        Name of the model, from the handshake.
    workers
        Empty if no process runs.
    replaced
        Number of workers replaced so far.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        endpoint: str | None,
        timeout_s: float,
        start_timeout_s: float,
        retries: int,
        scratch: Path | None,
    ) -> None:
        self._command, self.count, self._endpoint, self._scratch = command, count, endpoint, scratch
        self._timeout_s, self._start_timeout_s, self._retries = timeout_s, start_timeout_s, retries
        self.name = Path(command[0]).name
        self.workers: list[Worker] = []
        self.replaced = 0
        self._process: SimulatorProcess | None = None
        self._context: Context = zmq.Context()
        self._end = weakref.finalize(self, self._context.destroy, linger=0)
        self._last_check = 0.0
        self._starts = 0  # consecutive restarts, without a completed task in between

    @property
    def pid(self) -> int | None:
        """Process id of the parent of all workers."""
        return self._process.pid if self._process is not None else None

    @property
    def ready(self) -> list[Worker]:
        """The workers that can take a task."""
        return [worker for worker in self.workers if worker.state is WorkerState.READY]

    def require_running(self) -> None:
        """Raise `SimulatorError` if no process runs."""
        if self._process is None:
            raise SimulatorError(f"the pool of {self.name} is not running: call restart()")

    # ------------------------------------------------------------------ start and end

    def restart(self) -> None:
        """End all processes and start new ones; tasks in progress are repeated."""
        self.stop()
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self._start()
            on_failure.pop_all()

    def stop(self) -> None:
        """End all processes; tasks in progress are repeated after the next start."""
        for worker in self.workers:
            if worker.task is not None:
                worker.task.work.repeat(worker.task)
            worker.close()
        self.workers = []
        if self._process is not None:
            self._process.stop()
            self._process = None

    def _start(self) -> None:
        for number in range(self.count if self._endpoint is not None else 0):
            if is_busy(place := worker_endpoint(str(self._endpoint), number)):
                raise SimulatorError(
                    f"cannot start {self.name}: another process listens on {place}. End it, or choose another endpoint."
                )
        self._process = process = SimulatorProcess(self._command, self._endpoint, self._scratch, own_temporary=True)
        endpoints = [worker_endpoint(process.endpoint, number) for number in range(self.count)]
        self.workers = [
            Worker(number, endpoint, process.pid, self.name, self._context, self._timeout_s)
            for number, endpoint in enumerate(endpoints)
        ]
        deadline = time.monotonic() + self._start_timeout_s
        # Only the first worker at first: attempts to connect to all of them would slow down the start.
        self._await_ready(process, self.workers[:1], deadline)
        self._await_ready(process, self.workers[1:], deadline)
        session = self.workers[0].session
        self.name = (session.handshake.model_name if session is not None else "") or self.name

    def _await_ready(self, process: SimulatorProcess, workers: list[Worker], deadline: float) -> None:
        for worker in workers:
            worker.start_session()
        while missing := [worker.number for worker in workers if worker.state is not WorkerState.READY]:
            self._receive_answers(POLL_INTERVAL_S)
            if (why := process.ended()) is not None:
                raise SimulatorError(self._report(f"{why} before all of its workers had answered: {_WORKERS_HINT}"))
            if process.endpoint.startswith("ipc://") and is_busy(process.endpoint):
                raise SimulatorError(
                    self._report(f"ignores --workers and serves at its endpoint itself: {_WORKERS_HINT}")
                )
            if time.monotonic() > deadline:
                late = f"did not start within {self._start_timeout_s:g} s: workers {missing} did not answer"
                raise SimulatorError(self._report(f"{late}; {_WORKERS_HINT}") + more_time("start_timeout_s"))
            for worker in workers:
                self._check(worker, time.monotonic())

    def _restart_after(self, why: str) -> None:
        """Restart after the end of the parent, which also ended all workers."""
        report = self._report(why)
        while True:
            self._starts += 1
            if self._starts > self._retries:
                raise SimulatorError(report)
            logger.warning("%s; restarting it (%d of %d)", _first_line(report), self._starts, self._retries)
            try:
                self.restart()
            except SimulatorError as error:
                report = str(error)
            else:
                return

    # ------------------------------------------------------------------ work

    def assign(self, worker: Worker, task: Task) -> None:
        """Assign a task to a ready worker."""
        try:
            worker.assign(task)
        except (SimulatorError, ProtocolError) as error:
            self.replace(worker, str(error))

    def poll(self, wait_s: float) -> None:
        """Receive answers for up to `wait_s` seconds, and check the processes at intervals.

        Raises
        ------
        SimulatorError
            If the processes end repeatedly.
        """
        self._receive_answers(wait_s)
        now = time.monotonic()
        if now - self._last_check < POLL_INTERVAL_S:
            return
        self._last_check = now
        if self._process is None:
            raise SimulatorError(f"the simulators {self.name} are not running: call restart()")
        self._process.trim_logs()
        if (why := self._process.ended()) is not None:
            self._restart_after(why)
            return
        for worker in self.workers:
            self._check(worker, now)

    def _receive_answers(self, wait_s: float) -> None:
        sockets = {
            worker.socket: worker
            for worker in self.workers
            if worker.state in (WorkerState.HANDSHAKE, WorkerState.BUSY)
        }
        if not sockets:
            time.sleep(wait_s)
            return
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        for socket, _ in poller.poll(int(1000 * wait_s)):
            self._receive(sockets[socket])

    def _receive(self, worker: Worker) -> None:
        try:
            was_busy = worker.state is WorkerState.BUSY
            if worker.receive() and was_busy:
                self._starts = 0
        except RequestRefused as error:
            self._refused(worker, error)
        except (SimulatorError, ProtocolError) as error:
            self.replace(worker, f"sent an invalid answer ({error})")

    def _check(self, worker: Worker, now: float) -> None:
        if worker.check(now) is None:
            return
        if worker.state in (WorkerState.HANDSHAKE, WorkerState.BUSY):
            self._receive(worker)  # its last message
        if (why := worker.check(now)) is not None:
            self.replace(worker, why)
        elif worker.state is WorkerState.HANDSHAKE and now - worker.lost_at > self._start_timeout_s:
            raise SimulatorError(self._report(f"did not replace worker {worker.number}"))

    def replace(self, worker: Worker, why: str) -> None:
        """End a worker, wait for its replacement, and repeat its task."""
        worker.state = WorkerState.BROKEN
        report = self._report(f"has lost a process: {worker.label} {self._kill(worker) or why}", worker.task)
        self.replaced += 1
        worker.failures += 1
        task = worker.task
        if task is None:
            if worker.failures > self._retries + 1:
                raise SimulatorError(report)
            logger.warning("%s", _first_line(report))
        elif len(task.seeds) == 1 and task.failures == self._retries:
            logger.error("%s; giving up after %d attempts", _first_line(report), task.failures + 1)
            task.work.fail(task, SimulatorError(report))
        else:
            alone = len(task.seeds) == 1
            logger.warning("%s; repeating %s", _first_line(report), "it" if alone else "them one by one")
            task.work.repeat(task._replace(failures=task.failures + 1) if alone else task)
        worker.start_session()

    def _refused(self, worker: Worker, error: RequestRefused) -> None:
        """Begin a new session with a worker that refused a task. A task with one run fails, others are split."""
        task = worker.task
        assert task is not None  # the answer was to a task
        if len(task.seeds) == 1:
            task.work.fail(task, RefusedError(f"{self._report('refused a run', task)}\n  {error}"))
        else:
            task.work.repeat(task)
        worker.start_session()

    def _kill(self, worker: Worker) -> str | None:
        """End the process of a worker; return how it ended if it had ended before."""
        process = worker.process
        if process is None:
            return None
        if process.ended():
            return self._how_it_ended(worker.label)
        process.kill()
        process.ended(_REPORT_TIMEOUT_S)
        return None

    def _how_it_ended(self, label: str) -> str | None:
        """Return what the parent reports about the end of a worker."""
        assert self._process is not None
        deadline = time.monotonic() + _REPORT_TIMEOUT_S
        while self._process.ended() is None and time.monotonic() < deadline:
            report = self._process.last_line(f"{label} ")
            if report is not None and re.match(r"was killed by|exited with", report):
                return report
            time.sleep(0.002)
        return None

    def _report(self, what: str, task: Task | None = None) -> str:
        lines = [f"the simulator {self.name} {what}" + (f" in {task}" if task is not None else "")]
        if self._process is not None:
            lines.append(self._process.report())
        return "\n".join(lines)


def worker_endpoint(endpoint: str, number: int) -> str:
    """Return the endpoint of worker `number` of a program with the endpoint `endpoint`.

    Raises
    ------
    SimulatorError
        If it is neither ``ipc://path`` nor ``tcp://host:port``.
    """
    scheme, _, address = endpoint.partition("://")
    if scheme == "ipc" and address not in ("", "*"):
        return f"{endpoint}.{number}"
    host, _, port = address.rpartition(":")
    with contextlib.suppress(ValueError):
        if scheme == "tcp" and 1 <= int(port) <= 65535 - number:
            return f"tcp://{host}:{int(port) + number}"
    raise SimulatorError(f"{endpoint!r} gives no endpoint for worker {number}; expected ipc://PATH or tcp://HOST:PORT")


def _first_line(report: str) -> str:
    return report.splitlines()[0]
