# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is shown of a running workflow, from files like those that jobs and Snakemake write."""

import os
import time

import pytest

from etalumis import console
from etalumis.console import Console, Progress, last_progress
from etalumis.paths import Paths

LINES = [
    "18:35:08 ic job 0  26,280/100,000 runs   26%  516.6 runs/s  left 2 m 23 s  best_log_weight=-5214.3",
    "18:35:13 ic job 0 is not the last line with a rate",
]


@pytest.fixture
def paths(tmp_path):
    return Paths("demo", tmp_path)


def written(paths, stage, name, lines, seconds=None, age_s=0.0):
    """Write the log of a job, and its timing if it has finished."""
    files = [(paths.log(stage, name), "".join(f"{line}\n" for line in lines))]
    if seconds is not None:
        files.append((paths.benchmark(stage, name), f"s\th:m:s\n{seconds}\t0\n"))
    for path, text in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if age_s:
            os.utime(path, (time.time() - age_s,) * 2)


def test_progress_comes_from_the_last_line_with_a_rate():
    assert last_progress(LINES) == Progress("26%", "516.6 runs/s", "2 m 23 s")
    training = "18:34:05 training  355,200 traces  597.6 traces/s  iteration=2775  loss=2.74  left=5.7 s"
    assert last_progress([training]) == Progress("", "597.6 traces/s", "5.7 s")
    assert last_progress(["18:34:05 nothing here", ""]) == Progress()


def test_finished_jobs_have_a_line_each_and_running_ones_are_shown_below(paths, tmp_path, monkeypatch):
    output, text = tmp_path / "out", []
    written(paths, "traces", "old", LINES, 3.0, age_s=60.0)  # of an earlier call
    shown = Console(paths, output, text.append, live=False)
    output.write_text("Job stats:\njob    count\ntotal             23\n", encoding="utf-8")
    written(paths, "traces", "train-000", ["18:19:23 generating  50,000 traces in 12.6 s  3,973.1 traces/s"], 12.6)
    written(paths, "posteriors", "ic-00", LINES)
    monkeypatch.setattr(console, "EVERY_S", 0.0)
    shown.poll()
    first, second = "".join(text).splitlines()
    assert first.split() == ["1/22", "traces", "train-000", "done", "in", "12.6", "s", "3,973.1", "traces/s"]
    assert second.split() == ["posteriors", "ic-00", "26%", "left", "2", "m", "23", "s", "516.6", "runs/s"]
    text.clear()
    written(paths, "posteriors", "ic-00", LINES, 100.0)
    shown.poll()
    shown.close()
    assert "".join(text).split()[:4] == ["2/22", "posteriors", "ic-00", "done"]
    assert "".join(text).count("\n") == 1  # nothing is said twice
    assert not any("\x1b" in part for part in text)


def test_a_job_without_a_rate_shows_what_it_said_last(paths, tmp_path, monkeypatch):
    text = []
    shown = Console(paths, tmp_path / "out", text.append, live=False)
    monkeypatch.setattr(console, "EVERY_S", 0.0)
    stage = "smc job 1  channel 11  stage 9: inverse temperature 0.384, log evidence -2109.37, 92 lineages, 2192 runs/s"
    written(paths, "posteriors", "smc-01", [f"21:30:37 {stage}", "of two lines"])
    shown.poll()
    assert "".join(text) == f"         posteriors  smc-01            runs  {stage[:80].rstrip()}\n"


def test_on_a_terminal_the_lines_of_running_jobs_are_replaced(paths, tmp_path):
    text = []
    shown = Console(paths, tmp_path / "out", text.append, live=True)
    written(paths, "posteriors", "ic-00", LINES)
    shown.poll()
    text.clear()
    shown.poll()
    assert text[0] == "\x1b[1F\x1b[J"
    text.clear()
    shown.close()
    assert text == ["\x1b[1F\x1b[J"]


def test_the_error_of_the_job_that_failed_is_shown_not_of_those_that_were_stopped_for_it(paths, tmp_path):
    shown = Console(paths, tmp_path / "out", lambda text: None, live=False)
    written(paths, "posteriors", "ic-00", [*LINES, "etalumis: error: terminated by SIGTERM; the same command resumes"])
    written(paths, "posteriors", "ic-01", [*LINES, "etalumis: error: posteriors/ic-01.h5: cannot be written"])
    (error,) = shown.errors()
    assert "ic-01.log" in error
    assert error.endswith("posteriors/ic-01.h5: cannot be written")
