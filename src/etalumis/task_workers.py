# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Independent tasks in several processes, each of which has a resource of its own, such as a simulator."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from etalumis.errors import EtalumisError, SimulatorError

R = TypeVar("R")  # resource of a process
T = TypeVar("T")  # task
V = TypeVar("V")  # result

_PR_SET_PDEATHSIG = 1
_RETRY_S = 0.2
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class _Work(Generic[R, T, V]):
    """What a worker does; forked workers have it without pickling."""

    tasks: Sequence[T]
    start: Callable[[], AbstractContextManager[R]]
    work: Callable[[R, T], V]

    def carry_out(self, resource: R, number: int) -> V | EtalumisError:
        """Return the result of a task, or the error that it raised."""
        try:
            return self.work(resource, self.tasks[number])
        except EtalumisError as error:
            return error


@dataclass(frozen=True)
class _Started(Generic[V]):
    """What a worker with a resource sends; without one, it sends the error."""

    result: V | EtalumisError


def carry_out(
    tasks: Sequence[T],
    start: Callable[[], AbstractContextManager[R]],
    work: Callable[[R, T], V],
    workers: int = 1,
    *,
    pin: bool = False,
) -> Generator[tuple[T, V | EtalumisError], None, None]:
    """Yield each task with its result, or with the error that it raised, in the order of completion.

    With one worker, the tasks are carried out in this process. Several are forked from it, so that they share what it
    has loaded, such as a network; tasks and functions need not be picklable, but results do. If a worker is killed, its
    task has a SimulatorError, and another worker takes its place. Close the iterator (`contextlib.closing`) to end the
    workers early.

    Parameters
    ----------
    tasks
        The tasks.
    start
        Opens the resource of a process. It is closed after the last task.
    work
        Carries out a task with the resource.
    workers
        Number of processes; no more are started than there are tasks.
    pin
        With several workers: pin worker i to core i, modulo the number of cores.

    Raises
    ------
    EtalumisError
        If the resource cannot be opened.
    RuntimeError
        If a worker fails with another error; its traceback is on standard error.
    """
    todo = _Work(tasks, start, work)
    workers = min(workers, len(tasks))
    if workers > 1:
        results = _in_processes(todo, workers, pin)
        with closing(results):
            for number, result in results:
                yield tasks[number], result
    else:
        with start() as resource:
            for number, task in enumerate(tasks):
                yield task, todo.carry_out(resource, number)


def _in_processes(
    todo: _Work[R, T, V], workers: int, pin: bool
) -> Generator[tuple[int, V | EtalumisError], None, None]:
    pending = deque(range(len(todo.tasks)))
    cores = sorted(os.sched_getaffinity(0))
    busy: dict[Connection, _Worker[R, T, V]] = {}

    def begin(place: int) -> None:
        worker = _Worker(todo, place, {cores[place % len(cores)]} if pin else None)
        busy[worker.connection] = worker
        worker.give(pending.popleft())

    try:
        for place in range(workers):
            begin(place)
        while busy:
            for connection in [ready for ready in wait(list(busy)) if isinstance(ready, Connection)]:
                worker, is_last = busy[connection], not pending
                number = worker.task
                try:
                    result: V | EtalumisError = worker.receive()
                except EOFError:
                    del busy[connection]
                    result = worker.death()
                    if pending:
                        begin(worker.place)
                    yield number, result
                    continue
                if not is_last:
                    worker.give(pending.popleft())
                yield number, result  # before the end of the worker, which may fail
                if is_last:
                    del busy[connection]
                    worker.finish()
    finally:
        for worker in busy.values():
            worker.stop()


class _Worker(Generic[R, T, V]):
    """A forked process, and the task that it is working on."""

    def __init__(self, todo: _Work[R, T, V], place: int, cores: set[int] | None) -> None:
        self.place, self.task = place, -1
        self.connection, other = _FORK.Pipe()
        self._process = _FORK.Process(target=_serve, args=(todo, other, os.getpid(), cores), daemon=True)
        self._process.start()
        other.close()  # the end of the process is the end of the connection

    def give(self, task: int) -> None:
        """Let the process begin a task."""
        self.task = task
        with suppress(BrokenPipeError):  # it has ended: `receive` says so
            self.connection.send(task)

    def receive(self) -> V | EtalumisError:
        """Return the result of the task; raise EOFError if the process has ended, or the error of its start."""
        message: _Started[V] | EtalumisError = self.connection.recv()
        if isinstance(message, EtalumisError):
            raise message
        return message.result

    def death(self) -> SimulatorError:
        """Return the error of a process that ended during its task."""
        self._process.join()
        code = self._process.exitcode or 0
        if code >= 0:
            raise RuntimeError("a worker process failed; its traceback is above")
        return SimulatorError(
            f"the process that worked on it was ended by {signal.Signals(-code).name}; the machine may have run out of "
            "memory: use fewer --workers"
        )

    def finish(self) -> None:
        """Let the process close its resource and end; raise the error of closing it."""
        self.connection.send(None)
        error: EtalumisError | None = None
        with suppress(EOFError):  # it has ended without an error
            error = self.connection.recv()
        self._process.join()
        if error is not None:
            raise error

    def stop(self) -> None:
        """End the process in the middle of its task."""
        while self._process.is_alive():  # a signal just before a system call does not interrupt it; the next one does
            self._process.terminate()
            self._process.join(_RETRY_S)


def _serve(todo: _Work[R, T, V], connection: Connection, parent: int, cores: set[int] | None) -> None:
    """Carry out the tasks whose numbers arrive, until None arrives or the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            return
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        with todo.start() as resource:
            while (task := connection.recv()) is not None:
                connection.send(_Started(todo.carry_out(resource, task)))
    except EtalumisError as error:
        connection.send(error)
    except EOFError:
        pass  # the parent has ended
