# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A command that is ended leaves no process and no temporary file, and goes on when it is called again."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etalumis.traces.reading.dataset import TraceDataset

TRACES = 100_000  # far more than are drawn before the signal
WAIT_S = 60.0


def start(folder: Path, simulator: Path, temporary: Path) -> subprocess.Popen[str]:
    words = ["traces", "generate", "--config", "config.yaml", "--simulator", simulator, "--split", "test"]
    return subprocess.Popen(
        [sys.executable, "-m", "etalumis", *map(str, words), "--output", "traces.h5"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # a shell starts what runs in the background with SIGINT ignored; so would be the tests' own processes
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def held(journal: Path) -> int:
    """Return how many traces the frames of a journal hold: as many as the machine had time for."""
    return sum(int(count) for count in re.findall(rb'\{"traces": (\d+), "first"', journal.read_bytes()))


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGTERM, 143, "terminated by SIGTERM"), (signal.SIGINT, 130, "interrupted")],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_ends_it_cleanly(
    tmp_path: Path, sherpa_simulator: Path, number: signal.Signals, code: int, message: str
) -> None:
    (tmp_path / "config.yaml").write_text(f"traces: {{test: {TRACES}}}\n", encoding="utf-8")
    temporary = tmp_path / "t"
    temporary.mkdir()
    process = start(tmp_path, sherpa_simulator, temporary)
    pieces = tmp_path / "traces.h5.part"
    deadline = time.monotonic() + WAIT_S
    # the journal is there, and so are the simulator, its private folder and a temporary file
    while not (pieces.is_dir() and any(pieces.iterdir())):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert any(temporary.iterdir())
    process.send_signal(number)
    _, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, error
    assert f"etalumis: error: {message}" in error
    assert "Traceback" not in error
    assert list(temporary.iterdir()) == []
    # what was drawn stays for the next call; nothing half-written does
    assert [path.suffix for path in pieces.iterdir()] == [".journal"]
    assert sorted(path.name for path in tmp_path.glob("*traces.h5*")) == ["traces.h5.part"]
    assert sorted(path.name for path in tmp_path.glob(".*traces.h5*")) == []

    count = sum(held(path) for path in pieces.iterdir()) + 3
    (tmp_path / "config.yaml").write_text(f"traces: {{test: {count}}}\n", encoding="utf-8")
    again = start(tmp_path, sherpa_simulator, temporary)
    _, error = again.communicate(timeout=WAIT_S)
    assert again.returncode == 0, error
    assert len(TraceDataset(tmp_path / "traces.h5")) == count
    assert list(temporary.iterdir()) == []


SWALLOWED = """
import os, signal, sys, time, weakref
from etalumis.cli.termination import terminating

class Thing:
    pass

def callback(reference):
    os.kill(os.getpid(), int(sys.argv[1]))
    for _ in range(10**5):  # Python runs the handler here, and discards what it raises
        pass

with terminating():
    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_that_python_discards_in_a_callback_still_ends_it(number: signal.Signals) -> None:
    command = [sys.executable, "-c", SWALLOWED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S / 2, check=False)
    assert done.returncode == (143 if number == signal.SIGTERM else -number)
    assert "Exception ignored" not in done.stderr
