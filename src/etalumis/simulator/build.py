# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Build sherpa_tau and record what it was built from."""

import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etalumis import __version__
from etalumis.config import SimulatorConfig
from etalumis.errors import SimulatorError
from etalumis.files import atomic_path, digest, sha256_of, write_json_atomic, write_text_atomic
from etalumis.simulator.checkout import resource
from etalumis.simulator.cmake import build_sherpa_targets, locked_folder
from etalumis.simulator.config_file import RUN_CARD, SITES, simulator_config_text
from etalumis.simulator.fetch import check_prefix
from etalumis.simulator.labels import products_label

logger = logging.getLogger(__name__)

BUILD_FORMAT = {"format": "etalumis-simulator", "version": 1}


def build_simulator(sherpa_prefix: Path, out: Path, build_dir: Path) -> dict[str, Any]:
    """Build sherpa_tau against a Sherpa installation and install it into a folder.

    Parameters
    ----------
    sherpa_prefix
        Prefix of Sherpa 3, see `fetch_sherpa`.
    out
        Output folder: bin/sherpa_tau, links to Sherpa, copies of the run card and the site table, build.json.
    build_dir
        CMake's build folder, which the next call reuses. Concurrent calls with one folder wait for each other.

    Returns
    -------
    dict
        Content of build.json: `simulator_build_id` (16 hex digits, a digest of the program, Sherpa's version and
        libraries, the run card and the site table), its parts, the compiler, and `channels`: index, name, probability
        and products (PDG numbers) of each tau decay channel, in the order of the latent "channel".

    Raises
    ------
    SimulatorError
        If a tool or header is missing, the build fails, or the program does not start.
    """
    prefix = check_prefix(sherpa_prefix.resolve())
    with locked_folder(build_dir):
        compiler = build_sherpa_targets(prefix, build_dir, ["sherpa_tau"])
        program = out / "bin" / "sherpa_tau"
        _copy(build_dir / "sherpa_tau" / "sherpa_tau", program)
    link_sherpa(prefix, out)
    for name in (RUN_CARD, SITES):
        _copy(resource("sherpa", name), out / name)
    parts = {
        "program_sha256": sha256_of(program),
        "sherpa_version": _sherpa_version(prefix),
        "sherpa_libraries": _libraries_digest(prefix),
        "run_card_sha256": sha256_of(out / RUN_CARD),
        "site_table_sha256": sha256_of(out / SITES),
    }
    record = {
        **BUILD_FORMAT,
        "producer": f"etalumis {__version__}",
        "simulator_build_id": digest(parts),
        **parts,
        "compiler": compiler,
        "channels": _channels(program, out),
    }
    write_json_atomic(out / "build.json", record)
    return record


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    target.chmod(target.stat().st_mode | (0o111 if os.access(source, os.X_OK) else 0))


def link_sherpa(prefix: Path, out: Path) -> None:
    """Create the links by which the program in ``out/bin`` finds Sherpa's libraries.

    The relative link survives a move of a folder that holds both, such as a checkout with its cache. The absolute link
    survives a copy of `out`. See src/cpp/sherpa_tau/CMakeLists.txt.
    """
    links = out / "sherpa"
    links.mkdir(parents=True, exist_ok=True)
    for name, target in (("relative", os.path.relpath(prefix, links.resolve())), ("absolute", str(prefix))):
        temporary = links / f".{name}.{os.getpid()}"
        temporary.symlink_to(target)
        temporary.replace(links / name)


def _sherpa_version(prefix: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:  # Sherpa leaves files in its working directory
        text = _output([prefix / "bin" / "Sherpa", "--version"], Path(folder), "Sherpa")
    found = re.search(r"Sherpa version (\S+)", text)
    if found is None:
        raise SimulatorError(
            f"{prefix}/bin/Sherpa --version: expected a line `Sherpa version ...`, found {text[-300:]!r}"
        )
    return found.group(1)


def _libraries_digest(prefix: Path) -> str:
    folder = next(prefix / name for name in ("lib64/SHERPA-MC", "lib/SHERPA-MC") if (prefix / name).is_dir())
    files = sorted({file.resolve() for file in folder.glob("*.so*")})
    return digest([[file.name, sha256_of(file)] for file in files])


def _channels(program: Path, out: Path) -> list[dict[str, Any]]:
    # the channels depend on the run card only, so any valid configuration will do
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "sherpa_tau.conf"
        write_text_atomic(
            config,
            simulator_config_text(SimulatorConfig(), str((out / RUN_CARD).resolve()), str((out / SITES).resolve())),
        )
        text = _output([program.resolve(), "--channels", "--config", config], Path(folder), "the simulator")
    rows = [json.loads(line) for line in text.splitlines()]
    return [{**row, "name": products_label(row["products"]), "sherpa_name": row["name"]} for row in rows]


def _output(command: Sequence[Path | str], folder: Path, what: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )
    if done.returncode != 0:
        raise SimulatorError(
            f"{what} does not start: {' '.join(str(word) for word in command)} (exit code {done.returncode}):\n"
            f"{(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return done.stdout
