# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The programs that a benchmark runs, built if necessary."""

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from etalumis.errors import SimulatorError
from etalumis.simulator.checkout import cache_folder
from etalumis.simulator.cmake import (
    build_folder,
    build_sherpa_targets,
    build_targets,
    locked_folder,
    sherpa_build_folder,
)
from etalumis.simulator.fetch import fetch_sherpa

_TIMEOUT_S = 60.0


def examples_folder(given: Path | None, programs: Sequence[str]) -> Path:
    """Return the folder of the C++ examples, built in the cache unless one is given.

    Raises
    ------
    SimulatorError
        If one of `programs` is missing, or the build fails.
    """
    folder = given.resolve() if given is not None else _built_examples(programs)
    missing = [name for name in programs if not (folder / name).is_file()]
    if missing:
        raise SimulatorError(
            f"{folder}: expected the built C++ examples, but {', '.join(missing)} is missing; "
            "omit --simulator-examples to build them"
        )
    return folder


def _built_examples(targets: Sequence[str]) -> Path:
    build = build_folder(cache_folder(), "bench")
    with locked_folder(build):
        build_targets(build, targets, {})
    return build / "examples"


def bare_sherpa(prefix: str) -> Path:
    """Build the program that measures Sherpa alone; return its path. `prefix` is the key `simulator.prefix`."""
    cache = cache_folder()
    build = sherpa_build_folder(cache)
    with locked_folder(build):
        build_sherpa_targets(fetch_sherpa(cache, Path(prefix) if prefix else None), build, ["sherpa_tau_measure"])
    return build / "sherpa_tau" / "sherpa_tau_measure"


def line_of(command: Sequence[str], timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
    """Run a program that prints one line of JSON; return the object.

    Raises
    ------
    SimulatorError
        If it fails or prints something else.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    try:
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
    except ValueError:
        pass  # reported below
    raise SimulatorError(
        f"{' '.join(command)}: expected a line of JSON, found exit code {done.returncode} and "
        f"{(done.stderr or done.stdout).strip()[-500:]!r}"
    )


class Measurer:
    """A program that reads lines `KIND SECONDS` and answers each with a line of JSON. A context manager."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, kind: str, seconds: float) -> dict[str, Any]:
        """Return the answer to one line.

        Raises
        ------
        SimulatorError
            If the program has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended: reading its output fails below
            self._process.stdin.write(f"{kind} {seconds}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SimulatorError(f"{' '.join(self._command)}: ended with exit code {self._process.wait()}; see above")
        return dict(json.loads(line))

    def __enter__(self) -> "Measurer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
