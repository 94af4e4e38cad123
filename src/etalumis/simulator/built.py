# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Open the folder of a simulator, written by `etalumis simulator build` (Sherpa) or `couple`, and check it."""

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
    """The folder of a simulator, checked against a configuration.

    For Sherpa the folder holds bin/sherpa_tau, build.json and sherpa_tau.conf. For a coupled simulator it holds only
    build.json; of the configuration, only `timeout_s` and `retries` apply to it.

    Parameters
    ----------
    folder
        Folder written by `etalumis simulator build` or `etalumis simulator couple`.
    config
        Section `simulator` of the configuration.

    Attributes
    ----------
    build_id
        Digest of the program, Sherpa, the run card and the site table.
    settings
        Settings that a trace depends on, JSON-able.
    config_digest
        Digest of `settings`. Files with another digest do not belong to this simulator.
    noise
        Description of the noise model.

    Raises
    ------
    SimulatorError
        If the folder holds no simulator, if its sherpa_tau.conf disagrees with the configuration, or if files of a
        coupled simulator have changed.
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
            _check_sherpa(folder / "sherpa")
            _check_settings(folder / "sherpa_tau.conf", config)
            self._command = [str(folder / "bin" / "sherpa_tau"), "--config", str(folder / "sherpa_tau.conf")]
            self.settings = simulator_settings(config)
            self.noise = f"independent normal, standard deviation {config.noise_gev} GeV a voxel"
        self.config_digest = digest(self.settings)

    def start(self, workers: int = 1, pin: bool = False) -> Simulator | Pool:
        """Start one simulator process, or a pool of `workers` processes. The result is a context manager.

        Raises
        ------
        SimulatorError
            If it cannot be started. More than one worker requires a simulator that uses ``ppx::serve_workers``.
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
        """Return how the simulator that produced a file differs from this one, or None if it does not differ.

        Parameters
        ----------
        build_id, config_digest
            Build id and digest in the file; "" for measured data.
        settings
            Settings in the file as JSON, to name the keys that differ; "" if the file has none.
        """
        if build_id not in ("", self.build_id):
            return f"expected simulator build {self.build_id} ({self._folder}), found {build_id}"
        if config_digest in ("", self.config_digest):
            return None
        keys = "; ".join(differences(self.settings, json.loads(settings), "simulator.")) if settings else ""
        return keys or f"expected config digest {self.config_digest} (section simulator), found {config_digest}"


def _read_record(record: Path) -> dict[str, Any]:
    remedy = f"create it with `etalumis simulator build --config FILE --output {record.parent}`, or `simulator couple`"
    if not record.is_file():
        raise SimulatorError(f"{record}: expected the record of a built simulator, found none; {remedy}")
    try:
        content = read_json(record)
    except ValueError as error:
        raise SimulatorError(f"{record}: cannot be read as JSON ({error}); {remedy}") from error
    if not isinstance(content, dict) or "simulator_build_id" not in content:
        raise SimulatorError(f"{record}: not a build record: it has no key simulator_build_id; {remedy}")
    return content


def _check_sherpa(links: Path) -> None:
    """Check that the program finds its libraries: the loader's own message does not say what to do."""
    if links.is_dir() and not any(link.exists() for link in links.iterdir()):
        targets = " or ".join(sorted({str(link.readlink()) for link in links.iterdir()}))
        raise SimulatorError(
            f"{links}: expected links to the Sherpa of this simulator, but it is no longer at {targets}; run "
            f"`etalumis simulator build --config FILE --output {links.parent}` again"
        )


def _check_settings(path: Path, config: SimulatorConfig) -> None:
    remedy = (
        f"rewrite it with `etalumis simulator config --config FILE --output {path.parent}`, or use the configuration "
        "that it was written from"
    )
    try:
        found = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SimulatorError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    differing = list(differences(_lines(simulator_config_text(config, RUN_CARD, SITES)), _lines(found)))
    if differing:
        raise SimulatorError(f"{path}: does not match the configuration: {'; '.join(differing)}; {remedy}")


def _lines(text: str) -> dict[str, str]:
    rows = (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value.strip() for key, _, value in rows}
