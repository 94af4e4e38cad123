# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from etalumis.errors import SimulatorError
from etalumis.ppx import process as process_module
from etalumis.ppx.process import SimulatorProcess


def script(folder, body, name="simulator"):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def alive(pid):
    """Return whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_missing_program_is_named():
    with pytest.raises(SimulatorError, match="no/such/simulator was not found"):
        SimulatorProcess(["no/such/simulator"])


def test_program_without_permission_is_named(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("no program")
    with pytest.raises(SimulatorError, match=r"data\.txt is not executable"):
        SimulatorProcess([str(path)])


def test_file_that_cannot_be_executed_says_so(tmp_path):
    path = tmp_path / "broken"
    path.write_bytes(b"\x7fELF rubbish")
    path.chmod(0o755)
    process = SimulatorProcess([str(path)], scratch=tmp_path)
    assert wait_for(process.ended)
    assert "cannot execute" in process.report()
    process.stop()


def test_endpoint_is_the_first_argument_or_replaces_the_placeholder(tmp_path):
    program = script(tmp_path, f'echo "$@" > {tmp_path}/arguments; sleep 60')
    written = tmp_path / "arguments"
    for arguments, expected in ((["--a", "1"], "{} --a 1"), (["--a", "--to={endpoint}"], "--a --to={}")):
        process = SimulatorProcess([program, *arguments], scratch=tmp_path)
        assert wait_for(lambda: written.exists() and written.read_text().endswith("\n"))
        assert written.read_text().strip() == expected.format(process.endpoint)
        written.unlink()
        process.stop()


@pytest.mark.parametrize(
    ("body", "how"), [("exit 7", "exited with code 7"), ("kill -ABRT $$", "was killed by SIGABRT")]
)
def test_end_is_described_without_reaping(tmp_path, body, how):
    process = SimulatorProcess([script(tmp_path, body)], scratch=tmp_path)
    assert wait_for(process.ended)
    assert process.ended() == how
    assert process.ended() == how
    process.stop()
    assert not Path(f"/proc/{process.pid}").exists()


def test_stop_ends_the_whole_group_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "_TERMINATION_TIMEOUT_S", 0.2)
    body = f"trap '' TERM; (trap '' TERM; echo $$ >&2; sleep 600) & echo $! > {tmp_path}/child; sleep 600"
    process = SimulatorProcess([script(tmp_path, body)], scratch=tmp_path)
    child = tmp_path / "child"
    assert wait_for(lambda: child.exists() and child.read_text().strip())
    pid = int(child.read_text())
    assert alive(pid)
    assert process.ended() is None
    process.stop()
    process.stop()
    assert wait_for(lambda: not alive(pid))
    assert not Path(f"/proc/{process.pid}").exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(("stream", "redirection"), [("standard error", ">&2"), ("standard output", "")])
def test_the_report_has_the_last_lines_of_a_stream_and_a_flood_is_trimmed(tmp_path, stream, redirection):
    program = script(tmp_path, f"seq 1 100000 {redirection}")
    process = SimulatorProcess([program], scratch=tmp_path)
    assert wait_for(process.ended)
    command, title, *tail = process.report().splitlines()
    assert command == f"  command: {program} (endpoint {process.endpoint})"
    assert title == f"  it wrote to {stream}:"
    assert tail == [f"    {line}" for line in range(99_981, 100_001)]
    process.stop()
    process = SimulatorProcess([script(tmp_path, f"head -c 17000000 /dev/zero {redirection}")], scratch=tmp_path)
    assert wait_for(process.ended)
    logs = sorted(tmp_path.glob("etalumis-*/std*"))
    assert sorted(log.stat().st_size for log in logs) == [0, 17_000_000]
    process.trim_logs()
    assert [log.stat().st_size for log in logs] == [0, 0]
    process.stop()


def test_the_report_has_both_streams_or_says_that_there_is_nothing(tmp_path):
    process = SimulatorProcess([script(tmp_path, "echo out; echo error >&2")], scratch=tmp_path)
    assert wait_for(process.ended)
    lines = process.report().splitlines()[1:]
    assert lines == ["  it wrote to standard error:", "    error", "  it wrote to standard output:", "    out"]
    process.stop()
    process = SimulatorProcess([script(tmp_path, "exit 1")], scratch=tmp_path)
    assert wait_for(process.ended)
    assert process.report().splitlines()[1:] == ["  it wrote nothing to standard error or standard output"]
    process.stop()


def test_long_temporary_folder_still_gives_a_socket_that_fits(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    process = SimulatorProcess([script(tmp_path, "sleep 60")])
    assert len(process.endpoint.removeprefix("ipc://")) <= 107
    process.stop()
    with pytest.raises(SimulatorError, match="shorter scratch folder"):
        SimulatorProcess([script(tmp_path, "sleep 60")], scratch=deep)


STARTER = """
import sys, time
from pathlib import Path
from etalumis.ppx.process import SimulatorProcess
process = SimulatorProcess([sys.argv[1]], scratch=Path(sys.argv[2]))
print(process.pid, flush=True)
{ending}
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_simulator_dies_with_a_killed_inference_side(tmp_path, number):
    code = STARTER.format(ending="time.sleep(600)")
    program = script(tmp_path, "trap '' TERM; while true; do sleep 600; done")
    with subprocess.Popen(
        [sys.executable, "-c", code, program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/bin/sh"))
        starter.send_signal(number)
        starter.wait()
        assert wait_for(lambda: not alive(pid))


@pytest.mark.parametrize(
    "ending", ["sys.exit(0)", "raise SystemError", "del process; time.sleep(0.1)", "process.stop()"]
)
def test_simulator_ends_with_the_interpreter(tmp_path, ending):
    code = STARTER.format(ending=ending)
    program = script(tmp_path, "sleep 600")
    done = subprocess.run([sys.executable, "-c", code, program, str(tmp_path)], capture_output=True, text=True)
    assert wait_for(lambda: not alive(int(done.stdout)))
    assert not list(tmp_path.glob("etalumis-*"))


def test_a_forked_child_leaves_the_simulator_alone(tmp_path):
    ending = textwrap.dedent("""
        import os
        if os.fork() == 0:
            sys.exit(0)
        os.wait()
        print(process.ended())
    """)
    done = subprocess.run(
        [sys.executable, "-c", STARTER.format(ending=ending), script(tmp_path, "sleep 600"), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[1:] == ["None"], done.stderr


def test_signals_are_as_the_system_sets_them(tmp_path):
    process = SimulatorProcess([script(tmp_path, "grep SigIgn /proc/self/status >&2")], scratch=tmp_path)
    assert wait_for(process.ended)
    # signals 1 to 31; 32 belongs to the C library, and GNU make leaves it ignored in what it starts
    ignored = process.report().splitlines()[-1].split()
    assert ignored[0] == "SigIgn:"
    assert int(ignored[1], 16) & 0x7FFF_FFFF == 0
    process.stop()


def test_process_is_in_a_group_of_its_own(tmp_path):
    process = SimulatorProcess([script(tmp_path, "sleep 60")], scratch=tmp_path)
    assert os.getpgid(process.pid) == process.pid != os.getpgrp()
    process.stop()
