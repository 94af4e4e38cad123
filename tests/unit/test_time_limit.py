# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A command in a SLURM job stops before its time limit; tests/slurm has the same on a real SLURM."""

import os
import subprocess
import sys
import threading

import pytest

from etalumis.cli import time_limit
from etalumis.cli.time_limit import MARGIN, parse_duration, seconds_left, stopping_in_time

PROGRAM = """
import time
from etalumis.cli.termination import Terminated, terminating
from etalumis.cli.time_limit import stopping_in_time

try:
    with terminating(), stopping_in_time():
        time.sleep(SECONDS)
    print("completed")
except Terminated:
    print("stopped")
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:05", 5.0),
        ("59:42", 3582.0),
        ("1:00:00", 3600.0),
        ("2-03:04:05", 183_845.0),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("INVALID", None),
        ("", None),
        ("-1:00", None),
    ],
)
def test_durations_of_slurm(text, seconds):
    assert parse_duration(text) == seconds


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Return a function that makes a `squeue` with an answer for each call; the last one answers all later calls.

    The answer None is a failure.
    """

    def make(*answers):
        lines = ["exit 1" if answer is None else f"echo {answer}" for answer in answers]
        cases = "\n".join(f"{number}) {line} ;;" for number, line in enumerate(lines))
        program = tmp_path / "squeue"
        program.write_text(
            f'#!/bin/sh\ncalls={tmp_path}/calls\nnumber=$(wc -l < $calls)\necho "$@" >> $calls\n'
            f"case $number in\n{cases}\n*) {lines[-1]} ;;\nesac\n",
            encoding="utf-8",
        )
        program.chmod(0o755)
        (tmp_path / "calls").touch()
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        # these tests may run in a job of SLURM themselves
        for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID", MARGIN):
            monkeypatch.delenv(name, raising=False)

    return make


def run(seconds, **variables):
    program = PROGRAM.replace("SECONDS", str(seconds))
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **variables}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def test_it_asks_for_its_own_job(squeue, tmp_path):
    squeue("1:00:10")
    assert seconds_left("17") == 3610.0
    assert (tmp_path / "calls").read_text(encoding="utf-8") == "--noheader --jobs=17 --format=%L\n"


def test_a_command_near_its_limit_stops(squeue):
    squeue("0:05", "0:01")
    done = run(600, **{MARGIN: "2"})
    assert done.stdout == "stopped\n"
    assert "SLURM ends job 17 in 1 s: stopping now" in done.stderr


def test_a_command_that_begins_near_its_limit_has_half_of_the_time(squeue):
    squeue("0:04", "0:02")
    done = run(600)
    assert done.stdout == "stopped\n"
    assert "SLURM ends job 17 in 2 s" in done.stderr


def test_a_limit_that_was_raised_meanwhile_is_obeyed(squeue, tmp_path):
    squeue("0:05", "1:00:00")
    assert run(5, **{MARGIN: "2"}).stdout == "completed\n"
    assert len((tmp_path / "calls").read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize("answer", ["UNLIMITED", None], ids=["no limit", "no answer"])
def test_without_a_known_limit_it_goes_on(squeue, answer):
    squeue(answer)
    done = run(1)
    assert (done.stdout, done.stderr) == ("completed\n", "")


def test_a_failed_call_is_repeated(squeue, tmp_path, monkeypatch):
    squeue(None, None, "UNLIMITED")
    monkeypatch.setattr(time_limit, "_RETRY_S", 0.01)
    time_limit._watch("17", 1.0, threading.Event())
    assert len((tmp_path / "calls").read_text(encoding="utf-8").splitlines()) == 3


def test_without_an_answer_there_is_one_warning(squeue, tmp_path, monkeypatch, caplog):
    squeue(None)
    monkeypatch.setattr(time_limit, "_RETRY_S", 0.01)
    time_limit._watch("17", 1.0, threading.Event())
    assert len((tmp_path / "calls").read_text(encoding="utf-8").splitlines()) == time_limit._ATTEMPTS
    (warning,) = caplog.messages
    assert "SLURM job 17: its time limit is not known" in warning
    assert "make squeue work where the job runs, or request more time" in warning


def test_without_squeue_there_is_a_warning_at_once(squeue, tmp_path, monkeypatch):
    squeue("0:01")
    (tmp_path / "squeue").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run(1)
    assert done.stdout == "completed\n"
    assert done.stderr.count("its time limit is not known") == 1


def test_a_known_limit_is_kept_if_slurm_stops_answering(squeue):
    squeue("0:03", None)
    done = run(600, **{MARGIN: "2"})
    assert done.stdout == "stopped\n"
    assert "SLURM ends job 17 in 2 s: stopping now" in done.stderr


def test_only_rank_0_asks(squeue, tmp_path):
    squeue("0:01")
    assert run(1, SLURM_PROCID="1").stdout == "completed\n"
    assert (tmp_path / "calls").read_text(encoding="utf-8") == ""


def test_a_task_of_an_array_asks_for_itself(squeue, tmp_path):
    """The number of the last task is that of the whole array."""
    squeue("0:02", "0:01")
    done = run(600, SLURM_ARRAY_JOB_ID="17", SLURM_ARRAY_TASK_ID="2")
    assert "SLURM ends job 17_2 in 1 s" in done.stderr
    assert "--jobs=17_2 " in (tmp_path / "calls").read_text(encoding="utf-8")


def test_outside_a_job_nothing_is_asked(squeue, tmp_path, monkeypatch):
    squeue("0:01")
    monkeypatch.delenv("SLURM_JOB_ID")
    with stopping_in_time():
        assert "time limit" not in [thread.name for thread in threading.enumerate()]
    assert (tmp_path / "calls").read_text(encoding="utf-8") == ""


def test_a_margin_that_is_no_number_is_a_warning(squeue):
    squeue("0:02", "0:01")
    done = run(600, **{MARGIN: "soon"})
    assert done.stdout == "stopped\n"
    assert f"{MARGIN}: expected a number of seconds, found 'soon'; using 60" in done.stderr
