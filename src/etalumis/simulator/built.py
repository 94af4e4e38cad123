# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A simulator's folder, made by `etalumis simulator build` (Sherpa) or `couple`, held against what is in force."""

import json
from pathlib import Path
from typing import Any

from etalumis.config import SimulatorConfig
from etalumis.errors import SimulatorError
from etalumis.files import digest, read_json
from etalumis.ppx import Pool, Simulator
from etalumis.simulator.config_file import RUN_CARD, SITES, simulator_config_text
from etalumis.simulator.couple import coupled_command
from etalumis.simulator.settings import differences, simulator_settings


class BuiltSimulator:
    """A folder with bin/sherpa_tau, build.json and sherpa_tau.conf, checked against a configuration.

    Or one with the build.json of a coupled simulator alone, of whose settings the configuration says nothing but how it
    is watched.

    Parameters
    ----------
    folder
        Made by `etalumis simulator build` or `etalumis simulator couple`.
    config
        The section `simulator` of the configuration that is in force.

    Attributes
    ----------
    build_id
        Identity of program, Sherpa, run card and site table.
    settings
        JSON-able settings that a trace depends on.
    config_digest
        Digest of `settings`: files with another one do not belong to this simulator.
    noise
        The noise model in words.

    Raises
    ------
    SimulatorError
        Where there is no built simulator, or its sherpa_tau.conf says something else than the configuration: the runs
        would not be those that their files claim to hold. Likewise where a coupled simulator's files have changed.
    """

    def __init__(self, folder: Path, config: SimulatorConfig) -> None:
        self._folder, self._config = folder, config
        record = _read_record(folder / "build.json")
        self.build_id = str(record["simulator_build_id"])
        if "command" in record:
            self._command = coupled_command(record, folder / "build.json")
            self.settings: dict[str, Any] = {}
            self.noise = "as the simulator's observe statements say"
        else:
            _require_sherpa(folder / "sherpa")
            _require_same(folder / "sherpa_tau.conf", config)
            self._command = [str(folder / "bin" / "sherpa_tau"), "--config", str(folder / "sherpa_tau.conf")]
            self.settings = simulator_settings(config)
            self.noise = f"independent normal, standard deviation {config.noise_gev} GeV a voxel"
        self.config_digest = digest(self.settings)

    def start(self, workers: int = 1, pin: bool = False) -> Simulator | Pool:
        """Start a simulator process, or as many as there are to be workers (a context manager, which ends them).

        Raises
        ------
        SimulatorError
            Where it cannot be started; several workers want a simulator that serves by ``ppx::serve_workers``.
        """
        timeout_s, start_timeout_s = self._config.timeout_s, self._config.start_timeout_s
        if workers == 1:
            return Simulator(self._command, timeout_s=timeout_s, start_timeout_s=start_timeout_s)
        return Pool(
            self._command,
            workers,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            retries=self._config.retries,
            pin=pin,
        )

    def misfit(self, build_id: str, config_digest: str, settings: str = "") -> str | None:
        """Say how a file made with a simulator differs from this one; None where it does not.

        Parameters
        ----------
        build_id, config_digest
            What the file says of its simulator; "" where no simulator made it (measured data).
        settings
            JSON of the file's settings, to name the keys that differ; "" where it has none.
        """
        if build_id not in ("", self.build_id):
            return f"expected simulator build {self.build_id} ({self._folder}), found {build_id}"
        if config_digest in ("", self.config_digest):
            return None
        keys = "; ".join(differences(self.settings, json.loads(settings), "simulator.")) if settings else ""
        return keys or f"expected config digest {self.config_digest} (section simulator), found {config_digest}"


def _read_record(record: Path) -> dict[str, Any]:
    again = f"make it with `etalumis simulator build --config FILE --output {record.parent}`, or `simulator couple`"
    if not record.is_file():
        raise SimulatorError(f"{record}: expected the record of a built simulator, found none; {again}")
    try:
        content = read_json(record)
    except ValueError as error:
        raise SimulatorError(f"{record}: cannot be read as JSON ({error}); {again}") from error
    if not isinstance(content, dict) or "simulator_build_id" not in content:
        raise SimulatorError(f"{record}: not a build record, as it has no key simulator_build_id; {again}")
    return content


def _require_sherpa(links: Path) -> None:
    """Check that the program finds its libraries: the loader's own message does not say what to do."""
    if links.is_dir() and not any(link.exists() for link in links.iterdir()):
        targets = " or ".join(sorted({str(link.readlink()) for link in links.iterdir()}))
        raise SimulatorError(
            f"{links}: expected links to the Sherpa of this simulator, but it is no longer at {targets}; run "
            f"`etalumis simulator build --config FILE --output {links.parent}` again"
        )


def _require_same(path: Path, config: SimulatorConfig) -> None:
    again = (
        f"write it anew with `etalumis simulator config --config FILE --output {path.parent}`, or give the "
        "configuration it is of"
    )
    try:
        found = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SimulatorError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    differing = list(differences(_lines(simulator_config_text(config, RUN_CARD, SITES)), _lines(found)))
    if differing:
        raise SimulatorError(f"{path}: is not of this configuration: {'; '.join(differing)}; {again}")


def _lines(text: str) -> dict[str, str]:
    rows = (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value.strip() for key, _, value in rows}
