# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What `make demo` runs, killed in the middle and called again, gives what it gives undisturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from projects import Project, fill_project

from etalumis.config import load
from etalumis.traces.reader import TraceDataset
from etalumis.workflow import trace_files

pytestmark = pytest.mark.slow
SETTINGS = ["--config", "config/test.yaml", "--no-report", "sorted"]
WAIT_S = 120


def start(project: Project, output: IO[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "scripts/run_workflow.py", *SETTINGS]
    return subprocess.Popen(
        command,
        cwd=project.root,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )


def hear_ctrl_c() -> None:
    """A shell starts what runs in the background with SIGINT ignored, and so would be the tests' own processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_killed_and_called_again(
    tmp_path: Path, checkout: Path, sherpa_simulator: Path, number: signal.Signals
) -> None:
    assert (sherpa_simulator / "build.json").exists()
    project = Project(fill_project(tmp_path, checkout))
    (project.root / "scripts").symlink_to(checkout / "scripts")
    config = load(checkout / "config" / "test.yaml")
    paths = project.paths("test")
    traces = paths.traces("train", 0).parent

    output = (tmp_path / "output").open("w+", encoding="utf-8")
    first = start(project, output)
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
        assert "call it again: it goes on where it was" in said
        assert "Traceback" not in said
    output.close()
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
