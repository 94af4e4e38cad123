# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tasks in forked processes: results, errors, killed workers, and the end of all of them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from etalumis.errors import InferenceError, SimulatorError, StorageError
from etalumis.task_workers import carry_out


@contextmanager
def resource(folder: Path):
    """A resource of which one can see where it is open."""
    mark = folder / str(os.getpid())
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink()


def square(_: object, task: int) -> tuple[int, int]:
    if task == 3:
        raise InferenceError("three cannot be squared")
    return task * task, os.getpid()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_has_its_result_or_its_error(tmp_path, workers):
    with closing(carry_out(range(8), lambda: resource(tmp_path), square, workers)) as results:
        found = dict(results)
    assert set(found) == set(range(8))
    assert str(found.pop(3)) == "three cannot be squared"
    assert {task: value for task, (value, _) in found.items()} == {task: task * task for task in found}
    processes = {process for _, process in found.values()}
    assert processes == {os.getpid()} if workers == 1 else os.getpid() not in processes
    assert list(tmp_path.iterdir()) == []


def test_tasks_run_at_the_same_time(tmp_path):
    """Each waits until the other has begun."""

    def meet(_, task):
        (tmp_path / str(task)).touch()
        deadline = time.monotonic() + 60
        while not (tmp_path / str(1 - task)).exists():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return task

    assert sorted(carry_out([0, 1], nullcontext, meet, 2)) == [(0, 0), (1, 1)]


def test_neither_tasks_nor_functions_are_pickled():
    tasks = [lambda: 1, lambda: 2]
    assert sorted(result for _, result in carry_out(tasks, nullcontext, lambda _, task: task(), 2)) == [1, 2]


def test_a_worker_that_is_killed_loses_its_task_only(tmp_path):
    def work(_, task):
        if task == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    found = dict(carry_out(range(6), lambda: resource(tmp_path), work, 2))
    assert isinstance(found[1], SimulatorError)
    assert "was ended by SIGKILL" in str(found.pop(1))
    assert found == {task: task for task in (0, 2, 3, 4, 5)}


def test_a_resource_that_cannot_be_opened_is_the_error_of_the_call():
    @contextmanager
    def start():
        raise StorageError("no simulator here")
        yield

    with pytest.raises(StorageError, match="no simulator here"):
        list(carry_out(range(4), start, square, 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_closing_a_resource_is_raised(workers):
    @contextmanager
    def start():
        yield
        raise SimulatorError("it did not end")

    found = []
    with pytest.raises(SimulatorError, match="it did not end"):
        found.extend(carry_out([1, 1], start, lambda _, task: task, workers))
    assert (1, 1) in found  # what was done is not lost


def test_an_error_of_the_program_has_its_traceback(capfd):
    def work(_, task):
        return 1 // task

    with pytest.raises(RuntimeError, match="a worker process failed; its traceback is above"):
        list(carry_out([0, 0], nullcontext, work, 2))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_closing_ends_the_workers_and_their_resources(tmp_path):
    results = carry_out(range(3), lambda: terminable(tmp_path), all_but_the_first_wait(tmp_path), 2)
    assert next(results) == (0, 0)
    results.close()
    assert [file.name for file in tmp_path.iterdir()] == ["waiting"]


def test_closing_ends_a_worker_whose_first_signal_comes_just_before_it_waits(tmp_path):
    """Python runs the handler of such a signal at the end of the wait."""

    @contextmanager
    def start():
        with terminable(tmp_path) as opened:
            handler = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, handler))
            yield opened

    results = carry_out(range(2), start, all_but_the_first_wait(tmp_path), 2)
    assert next(results) == (0, 0)
    results.close()
    assert [file.name for file in tmp_path.iterdir()] == ["waiting"]


def all_but_the_first_wait(folder: Path):
    """Return work whose task 0 ends when another one has begun, and whose other tasks do not end."""
    waiting = folder / "waiting"

    def work(_, task):
        if task:
            waiting.touch()
            time.sleep(3600)
        deadline = time.monotonic() + 60
        while not waiting.exists():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return task

    return work


@contextmanager
def terminable(folder: Path):
    """A resource that is closed by SIGTERM too, as under the command line."""
    from etalumis.cli.termination import terminating

    with terminating(), resource(folder) as opened:
        yield opened


def test_workers_end_with_their_parent(tmp_path):
    program = f"""
import os, signal, time
from contextlib import nullcontext
from pathlib import Path
from etalumis.task_workers import carry_out

def work(_, task):
    Path({str(tmp_path)!r}, str(os.getpid())).touch()
    time.sleep(600)

list(carry_out([0, 1], nullcontext, work, 2))
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while len(found := list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    while any(Path("/proc", file.name).exists() for file in found):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_pinned_workers_have_a_core_each():
    def core(_, task):
        time.sleep(0.1)  # so that both work
        return tuple(os.sched_getaffinity(0))

    cores = {result for _, result in carry_out(range(4), nullcontext, core, 2, pin=True)}
    assert cores == {(core,) for core in sorted(os.sched_getaffinity(0))[:2]}
