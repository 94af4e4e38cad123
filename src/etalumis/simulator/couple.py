# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Record any command that serves PPX as a simulator, as `simulator build` does for Sherpa."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etalumis import __version__
from etalumis.errors import SimulatorError
from etalumis.files import digest, sha256_of, write_json_atomic
from etalumis.ppx.process import find_program
from etalumis.simulator.build import BUILD_FORMAT

_LONG_SHEBANG = b"'''exec' "
"""Start of the two lines that pip writes below ``#!/bin/sh`` if the interpreter's path is long or contains a space."""


def record_of(command: Sequence[str], model: str, depends_on: Sequence[Path]) -> dict[str, Any]:
    """Return the record of a coupled simulator.

    Parameters
    ----------
    command
        Program and arguments, as for `ppx.Simulator`. The path of a program is recorded as an absolute path; arguments
        are recorded unchanged.
    model
        Name of the model, from the handshake.
    depends_on
        Files that determine what the simulator does, in addition to its program and the arguments that are files.

    Raises
    ------
    SimulatorError
        If the program or a file is missing.
    """
    program = find_program(command)
    words = [program if "/" in command[0] else command[0], *command[1:]]
    files = [str(path) for path in depends_on] + [word for word in words[1:] if Path(word).is_file()]
    checksums = {words[0]: _checksum(Path(program)), **_checksums(set(files))}
    # A path is not part of what a simulator is: of a file, only the content counts.
    arguments = [checksums.get(word, word) for word in words[1:]]
    identity = [Path(program).name, *arguments, model, *sorted(checksums.values())]
    return {
        **BUILD_FORMAT,
        "producer": f"etalumis {__version__}",
        "simulator_build_id": digest(identity),
        "command": words,
        "model": model,
        "depends_on": [str(path) for path in depends_on],
        "files": checksums,
    }


def write_record(record: dict[str, Any], folder: Path) -> None:
    """Write build.json, from which the other verbs open the simulator."""
    write_json_atomic(folder / "build.json", record)


def coupled_command(record: dict[str, Any], path: Path) -> list[str]:
    """Return the command of a record, after checking that its files are unchanged.

    Raises
    ------
    SimulatorError
        If a file has changed or is missing.
    """
    command = [str(word) for word in record["command"]]
    now = record_of(command, record["model"], [Path(name) for name in record["depends_on"]])["files"]
    changed = sorted(name for name in {*now, *record["files"]} if now.get(name) != record["files"].get(name))
    if changed:
        raise SimulatorError(
            f"{path}: changed since the simulator was coupled: {', '.join(changed)}. Earlier traces and posteriors "
            f"belong to another simulator now. Couple it again (`etalumis simulator couple --output {path.parent} "
            "...`), in the folder where it was coupled."
        )
    return command


def _checksums(names: set[str]) -> dict[str, str]:
    missing = sorted(name for name in names if not Path(name).is_file())
    if missing:
        raise SimulatorError(f"no such file: {', '.join(missing)}; expected what the simulator depends on")
    return {name: _checksum(Path(name)) for name in sorted(names)}


def _checksum(file: Path) -> str:
    """Return a file's SHA-256; of a script, without the lines that name the path of its interpreter."""
    with file.open("rb") as stream:
        if stream.read(2) != b"#!":
            return sha256_of(file)
        stream.readline()
        rest = stream.read()
    if rest.startswith(_LONG_SHEBANG):
        rest = rest.split(b"\n", 2)[-1]
    return hashlib.sha256(rest).hexdigest()
