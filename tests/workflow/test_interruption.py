# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What `make demo` runs, killed in the middle and called again, gives what it gives undisturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from projects import Project, fill_project

from etalumis.config import load
from etalumis.traces.reader import TraceDataset
from etalumis.workflow import trace_files

pytestmark = pytest.mark.slow
SETTINGS = ["--config", "config/test.yaml", "--no-report", "sorted"]
WAIT_S = 120


def start(project: Project) -> subprocess.Popen[bytes]:
    command = [sys.executable, "scripts/run_workflow.py", *SETTINGS]
    return subprocess.Popen(
        command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def test_killed_and_called_again(tmp_path: Path, checkout: Path, sherpa_simulator: Path) -> None:
    assert (sherpa_simulator / "build.json").exists()
    project = Project(fill_project(tmp_path, checkout))
    (project.root / "scripts").symlink_to(checkout / "scripts")
    config = load(checkout / "config" / "test.yaml")
    paths = project.paths("test")
    traces = paths.traces("train", 0).parent

    first = start(project)
    deadline = time.monotonic() + WAIT_S
    while not (traces.is_dir() and any(traces.iterdir())):
        assert first.poll() is None, "it ended before it made a trace"
        assert time.monotonic() < deadline, "no trace was made"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not paths.sorted_index("train").exists()

    # jobs may outlive Snakemake for a moment; while they do, a second call must refuse to run beside them
    while True:
        done = subprocess.run(
            [sys.executable, "scripts/run_workflow.py", *SETTINGS],
            cwd=project.root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode == 0:
            break
        assert "is running in this folder" in done.stdout, done.stdout + done.stderr
        assert time.monotonic() < deadline + WAIT_S
        time.sleep(0.5)

    for split, count in (("train", config.traces.train), ("valid", config.traces.valid)):
        generated = TraceDataset(trace_files(paths, config, split))
        assert len(generated) == count
        assert np.array_equal(np.sort(generated.column("index")), np.arange(count))
        assert len(TraceDataset(paths.sorted_index(split))) == count
