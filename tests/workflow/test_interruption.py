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
import psutil
import pytest
from projects import Project, Run, fill_project
from same_results import require_same

from etalumis.config import load
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


def wait_for_jobs(project: Project) -> None:
    """Wait for the jobs of a killed Snakemake: the workflow refuses to start while one of them is running."""
    deadline = time.monotonic() + WAIT_S
    while any(process.info["cwd"] == str(project.root) for process in psutil.process_iter(["cwd"])):
        assert time.monotonic() < deadline, "a job goes on without Snakemake"
        time.sleep(0.05)


def finish(project: Project, target: str) -> None:
    """Resume the workflow and run it to its end."""
    wait_for_jobs(project)
    done = subprocess.run(
        [sys.executable, "scripts/run_workflow.py", *SETTINGS, target],
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_killed_workflow_resumes(
    tmp_path: Path, checkout: Path, sherpa_simulator: Path, number: signal.Signals
) -> None:
    assert (sherpa_simulator / "build.json").exists()
    project = Project(fill_project(tmp_path, checkout))
    config = load(checkout / "config" / "test.yaml")
    paths = project.paths("test")
    traces = paths.traces("train", 0).parent

    with (tmp_path / "output").open("w+", encoding="utf-8") as output:
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
        printed = (tmp_path / "output").read_text(encoding="utf-8")
        assert "run the same command again to resume" in printed
        assert "Traceback" not in printed, printed
    assert not paths.sorted_index("train").exists()

    finish(project, "sorted")

    for split, count in (("train", config.traces.train), ("valid", config.traces.valid)):
        generated = TraceDataset(trace_files(paths, config, split))
        assert len(generated) == count
        assert np.array_equal(np.sort(generated.column("index")), np.arange(count))
        assert len(TraceDataset(paths.sorted_index(split))) == count


# the product to be made, the file that tells when to kill, a text in it, the signal
MOMENTS = (
    ("posteriors/rmh-00.h5", "logs/posteriors/rmh-00.log", "conditioned on", signal.SIGKILL),
    ("network/manifest.json", "logs/network/train.log", "training traces", signal.SIGKILL),
    ("network/manifest.json", "network/history.csv", "\n10,", signal.SIGTERM),
    ("network/manifest.json", "logs/network/train.log", "training resumes from iteration", signal.SIGKILL),
    ("posteriors/ic-00.h5", "logs/posteriors/ic-00.log", "conditioned on", signal.SIGINT),
    ("posteriors/ic-01.h5", "logs/posteriors/ic-01.log", "conditioned on", signal.SIGKILL),
)


def test_a_workflow_killed_repeatedly_resumes(tmp_path: Path, checkout: Path, run: Run) -> None:
    """Whenever it is killed, training and posteriors are those of the uninterrupted run."""
    project = Project(fill_project(tmp_path, checkout))
    paths = project.paths("test")
    for product, name, text, number in MOMENTS:
        sign = paths.root / name
        sign.unlink(missing_ok=True)
        with (tmp_path / "output").open("w+", encoding="utf-8") as output:
            call = start(project, output, str((paths.root / product).relative_to(project.root)))
            deadline = time.monotonic() + WAIT_S
            while not (sign.exists() and text in sign.read_text(encoding="utf-8")):
                assert call.poll() is None, f"it ended without {text!r} in {sign}"
                assert time.monotonic() < deadline, f"no {text!r} in {sign}"
                time.sleep(0.02)
            os.killpg(call.pid, number)
            assert call.wait(WAIT_S) != 0
        wait_for_jobs(project)
    finish(project, "posteriors")
    for engine in run.config.posteriors.engines:
        require_same(paths.posterior(engine), run.paths.posterior(engine))
