# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The Makefile in a folder without .git, such as an unpacked tarball."""

import os
import shutil
import subprocess

import pytest

TOOLS = ("python", "ruff", "mypy", "snakefmt", "clang-format", "codespell", "snakemake")


@pytest.fixture
def folder(tmp_path, checkout):
    """A folder with the Makefile, a C++ source, results, and tools that record their arguments."""
    shutil.copy(checkout / "Makefile", tmp_path)
    for name in ("src/cpp/ppx/a.cpp", "results/README.md", "results/demo/format.json", "results/.hidden", "build/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "tools").mkdir()
    for name in TOOLS:
        tool = tmp_path / "tools" / name
        tool.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n')
        tool.chmod(0o755)
    return tmp_path


def make(folder, target, code=0):
    command = ["make", target, "VENV=tools", "PYTHON=tools/python"]
    # not the options of a `make check` that runs this test
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("target", ["lint", "format"])
def test_every_tool_gets_files(folder, target):
    done = make(folder, target)
    calls = (folder / "calls").read_text().splitlines()
    (clang,) = [call for call in calls if call.startswith("clang-format")]
    assert clang.split()[-1] == "src/cpp/ppx/a.cpp"
    assert "codespell" not in calls, "codespell needs the names of files or folders"
    assert b"git" not in done.stderr


@pytest.mark.parametrize("fails", [None, "mypy", "python -m pytest"])
def test_check_is_lint_and_the_tests_of_its_lane(folder, fails):
    if fails is not None:
        tool = folder / "tools" / fails.split()[0]
        tool.write_text(tool.read_text() + ('[ "$1" != -m ]\n' if " " in fails else "false\n"))
    make(folder, "check", code=0 if fails is None else 2)
    calls = (folder / "calls").read_text().splitlines()
    assert any(call.startswith("python -m pytest") and call.endswith("--lane check") for call in calls)
    assert "mypy" in calls
    if fails != "mypy":
        assert "snakemake --lint" in calls


def test_clean_keeps_the_readme(folder):
    make(folder, "clean")
    assert [path.name for path in (folder / "results").iterdir()] == ["README.md"]
    assert not (folder / "build").exists()
