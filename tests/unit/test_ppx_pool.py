# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The parts of the pool that need no simulator: assignment of runs, endpoints, identity of processes."""

import os
import signal
import subprocess
import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalumis.address import AddressTable
from etalumis.cli import main
from etalumis.delegation import MAX_BATCH_RUNS, RunPlan
from etalumis.errors import SimulatorError
from etalumis.ppx import Pool
from etalumis.ppx.process import OtherProcess
from etalumis.ppx.supervisor import worker_endpoint
from etalumis.ppx.work_queue import Work

PLAN = RunPlan()


@given(data=st.data(), count=st.integers(0, 300), workers=st.integers(1, 9))
def test_every_run_is_done_once_in_spite_of_failures_and_slow_workers(data, count, workers):
    seeds = [1000 + i for i in range(count)]
    work = Work(PLAN, seeds, AddressTable())
    under_way, done = deque(), {}
    while len(work.results) < count:
        while len(under_way) < workers and (task := work.take(workers, None)) is not None:
            assert 1 <= len(task.seeds) <= MAX_BATCH_RUNS
            under_way.append(task)
        under_way.rotate(data.draw(st.integers(0, workers)))
        task = under_way.popleft()
        if data.draw(st.integers(0, 5)) == 0:
            work.repeat(task)
            continue
        for i, seed in enumerate(task.seeds, task.first):
            assert i not in done
            done[i] = seed
        work.complete(task, task.seeds, data.draw(st.floats(0.0, 0.3)))
    assert not under_way
    assert work.take(workers, None) is None
    assert [work.results[i] for i in range(count)] == seeds


def test_a_failed_task_is_repeated_run_by_run_before_all_others():
    work = Work(PLAN, range(100), AddressTable())
    work.size = 8
    task = work.take(2, None)
    assert task.seeds == tuple(range(8))
    work.repeat(task)
    assert [work.take(2, 0).seeds for _ in range(8)] == [(i,) for i in range(8)]
    assert work.take(2, 8) is None  # not before position 8
    assert work.take(2, 9).first == 8


def test_a_few_runs_are_divided_among_all_workers():
    work = Work(PLAN, range(40), AddressTable())
    work.size = 256
    taken = [len(work.take(4, None).seeds) for _ in range(8)]
    assert max(taken) <= 5


def test_several_plans_are_assigned_one_by_one_in_the_given_order():
    plans = [PLAN._replace(prefix=i) for i in range(4)]
    work = Work(plans, [7, 8, 9, 10], AddressTable(), order=[2, 0, 3, 1])
    taken = [work.take(4, None) for _ in range(4)]
    assert [(task.plan.prefix, task.first, task.seeds) for task in taken] == [
        (2, 2, (9,)), (0, 0, (7,)), (3, 3, (10,)), (1, 1, (8,)),
    ]  # fmt: skip


def test_results_that_arrive_after_a_cancellation_are_dropped():
    work = Work(PLAN, range(10), AddressTable())
    task = work.take(1, None)
    work.cancel()
    work.complete(task, task.seeds, 0.1)
    work.repeat(task)
    work.fail(task, SimulatorError("late"))
    assert not work.results
    assert not work.repeated


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("ipc:///tmp/x/ppx", "ipc:///tmp/x/ppx.3"),
        ("ipc://@name", "ipc://@name.3"),
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5558"),
        ("tcp://[::1]:5555", "tcp://[::1]:5558"),
    ],
)
def test_endpoints_of_workers(endpoint, expected):
    assert worker_endpoint(endpoint, 3) == expected


@pytest.mark.parametrize("endpoint", ["ipc://*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:65533", "inproc://x", "5555"])
def test_an_endpoint_without_room_for_worker_endpoints_is_refused(endpoint):
    with pytest.raises(SimulatorError, match="no endpoint for worker 3"):
        worker_endpoint(endpoint, 3)


def test_an_ended_process_is_not_mistaken_for_another_one():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = OtherProcess(process.pid)
    assert not other.ended()
    other.kill()
    assert other.ended(5.0)
    assert process.wait() == -signal.SIGKILL  # its id may be reused from here on
    process.stdin.close()
    other.kill()
    assert other.ended()
    assert OtherProcess(process.pid).ended()
    assert not OtherProcess(os.getpid()).ended()


def test_a_pool_needs_workers():
    with pytest.raises(SimulatorError, match="one worker or more"):
        Pool(["true"], 0)


def test_the_command_line_needs_workers(capsys):
    with pytest.raises(SystemExit):
        main(["traces", "generate", "--config", "c", "--simulator", "s", "--split", "test", "--output", "o",
              "--workers", "0"])  # fmt: skip
    assert "expected a whole number from 1" in capsys.readouterr().err
