# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Standard output and error that are full, closed or in another encoding: no traceback, no output in other files."""

import os
import subprocess
import sys

import pytest

FULL = "etalumis: error: standard output: cannot be written (No space left on device)\n"
# longer than a buffer, with characters that Latin-1 lacks
LONG = "config schema"
SHORT = "config show --config 'run={name: x}'"


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        ("> /dev/full", 1, FULL),
        (">&-", 0, ""),
        ("> /dev/null 2>/dev/full", 0, ""),
        ("> /dev/null 2>&-", 0, ""),
        ("0<&- 1>&- 2>&-", 0, ""),
        ("| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
@pytest.mark.parametrize("verb", [LONG, SHORT])
def test_output_that_cannot_be_written(checkout, verb, redirection, code, error):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m etalumis {verb} {redirection}"],
        cwd=checkout, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, "", error)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command", ["-m etalumis --version", "-m etalumis posteriors --help", "scripts/run_workflow.py --help"]
)
def test_help_that_cannot_be_written(checkout, command, unbuffered):
    # argparse itself ignores the error, which it sees only if standard output has no buffer
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {command} > /dev/full"],
        cwd=checkout, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, FULL)


def test_characters_that_the_encoding_lacks_are_escaped(checkout):
    done = subprocess.run(
        [sys.executable, "-m", "etalumis", "config", "schema"],
        cwd=checkout, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"Sherpa \u03c4 decays" in done.stdout
