# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/setup.py, in a folder that is no checkout, without installing anything."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from projects import load_script


@pytest.fixture
def script(tmp_path: Path, checkout: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(checkout / "scripts" / "setup.py", tmp_path / "scripts")
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    return tmp_path / "scripts" / "setup.py"


def call(script: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script], env={"PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_machine_without_compiler_gets_one_line_to_paste(script: Path, tmp_path: Path) -> None:
    done = call(script, str(tmp_path / "nothing"))
    assert done.returncode == 1
    line = next(line for line in done.stderr.splitlines() if "apt-get install" in line)
    assert all(name in line.split() for name in ("g++", "cmake", "libzmq3-dev", "libflatbuffers-dev"))
    assert "environment.yml" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_second_call_does_nothing(script: Path, tmp_path: Path) -> None:
    module = load_script(script)
    (tmp_path / ".venv").mkdir()
    module.STAMP.write_text(module.stamp(), encoding="utf-8")
    start = time.monotonic()
    # with no program to be found, doing anything would fail
    done = call(script, str(tmp_path / "nothing"))
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - start < 1


def test_a_changed_pyproject_is_set_up_again(script: Path, tmp_path: Path) -> None:
    module = load_script(script)
    before = module.stamp()
    with (tmp_path / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert module.stamp() != before


@pytest.mark.parametrize(
    ("test", "there"),
    [
        ("program:c++", True),
        ("program:no-such-program", False),
        ("header:zmq.h", True),
        ("header:no/such.h", False),
        ("module:ensurepip", True),
        ("module:no_such_module", False),
    ],
)
def test_presence(script: Path, test: str, there: bool) -> None:
    assert load_script(script).present(test) is there
