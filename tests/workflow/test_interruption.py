# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A workflow that is killed and resumed gives the same results as an uninterrupted one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from projects import Project, Run, fill_project

from etalumis.config import load
from etalumis.inference.posterior import Posterior
from etalumis.paths import ENGINES
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.workflow import trace_files

SETTINGS = ["--configfile", "config/test.yaml", "--no-report"]
WAIT_S = 120


def start(project: Project, output: IO[str], target: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "scripts/run_workflow.py", *SETTINGS, target]
    return subprocess.Popen(
        command,
        cwd=project.root,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=restore_sigint,
    )


def restore_sigint() -> None:
    """Restore SIGINT, which a shell lets its background jobs, and so their children, ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(project: Project, target: str) -> None:
    """Run the workflow until it succeeds: it refuses to start while jobs of a killed Snakemake are still running."""
    deadline = time.monotonic() + 2 * WAIT_S
    while True:
        done = subprocess.run(
            [sys.executable, "scripts/run_workflow.py", *SETTINGS, target],
            cwd=project.root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode == 0:
            return
        assert "is running in this folder" in done.stdout, done.stdout + done.stderr
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_killed_and_called_again(
    tmp_path: Path, checkout: Path, sherpa_simulator: Path, number: signal.Signals
) -> None:
    assert (sherpa_simulator / "build.json").exists()
    project = Project(fill_project(tmp_path, checkout))
    config = load(checkout / "config" / "test.yaml")
    paths = project.paths("test")
    traces = paths.traces("train", 0).parent

    output = (tmp_path / "output").open("w+", encoding="utf-8")
    first = start(project, output, "sorted")
    deadline = time.monotonic() + WAIT_S
    while not (traces.is_dir() and any(traces.iterdir())):
        assert first.poll() is None, "it ended before it made a trace"
        assert time.monotonic() < deadline, "no trace was made"
        time.sleep(0.05)
    os.killpg(first.pid, number)
    try:
        assert first.wait(WAIT_S) != 0
    except subprocess.TimeoutExpired:
        os.killpg(first.pid, signal.SIGKILL)
        raise
    if number != signal.SIGKILL:
        output.seek(0)
        said = output.read()
        assert "run the same command again to resume" in said
        assert "Traceback" not in said
    output.close()
    assert not paths.sorted_index("train").exists()

    finish(project, "sorted")

    for split, count in (("train", config.traces.train), ("valid", config.traces.valid)):
        generated = TraceDataset(trace_files(paths, config, split))
        assert len(generated) == count
        assert np.array_equal(np.sort(generated.column("index")), np.arange(count))
        assert len(TraceDataset(paths.sorted_index(split))) == count


def test_killed_again_and_again(tmp_path: Path, checkout: Path, run: Run) -> None:
    """Whenever it is killed, training and posteriors are those of the uninterrupted run."""
    project = Project(fill_project(tmp_path, checkout))
    paths = project.paths("test")
    rng = np.random.default_rng(8)
    stages = set()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        with (tmp_path / "output").open("w+", encoding="utf-8") as output:
            call = start(project, output, "posteriors")
            # long enough to get somewhere, as the jobs before are done: Snakemake alone takes some seconds
            time.sleep(float(rng.uniform(6.0, 14.0)))
            if call.poll() is None:
                os.killpg(call.pid, number)
                call.wait(WAIT_S)
                stages.update(folder.name for folder in paths.root.iterdir() if folder.is_dir())
            elif call.returncode == 0:
                break
    assert "traces" in stages, "no traces were made before it was killed"
    finish(project, "posteriors")
    for engine in ENGINES:
        mine, theirs = (Posterior.load(where.posterior(engine)) for where in (paths, run.paths))
        assert np.array_equal(mine.log_weight, theirs.log_weight)
        assert np.array_equal(mine.log_likelihood, theirs.log_likelihood)
        assert mine.trace_type.tolist() == theirs.trace_type.tolist()
