# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The folder of a simulator must match the configuration and the files that it is used with."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from etalumis.config import SimulatorConfig
from etalumis.errors import SimulatorError
from etalumis.simulator import write_simulator_config
from etalumis.simulator.built import BuiltSimulator
from etalumis.simulator.couple import record_of, write_record
from etalumis.simulator.settings import differences, simulator_settings

QUIET = SimulatorConfig(noise_gev=0.1)
LOUD = SimulatorConfig(noise_gev=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a simulator, without the program."""
    (tmp_path / "build.json").write_text(json.dumps({"simulator_build_id": "b0"}), encoding="utf-8")
    write_simulator_config(QUIET, tmp_path / "sherpa_tau.conf")
    return tmp_path


def test_prefix_timeout_and_retries_are_not_part_of_the_digest(folder: Path) -> None:
    same = QUIET.model_copy(update={"prefix": "elsewhere", "timeout_s": 1.0, "start_timeout_s": 1.0, "retries": 0})
    assert BuiltSimulator(folder, same).config_digest == BuiltSimulator(folder, QUIET).config_digest
    quiet = BuiltSimulator(folder, QUIET).config_digest
    write_simulator_config(LOUD, folder / "sherpa_tau.conf")
    assert BuiltSimulator(folder, LOUD).config_digest != quiet


def test_another_configuration_is_refused_with_the_key_that_differs(folder: Path) -> None:
    with pytest.raises(SimulatorError, match=r"sherpa_tau\.conf: .*noise_gev: expected 0\.2, found 0\.1;.*config"):
        BuiltSimulator(folder, LOUD)
    (folder / "sherpa_tau.conf").unlink()
    with pytest.raises(SimulatorError, match=r"sherpa_tau\.conf: cannot be read"):
        BuiltSimulator(folder, QUIET)


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read as JSON"), ("{}", "no key simulator_build_id")])
def test_an_invalid_build_record_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "build.json").write_text(text, encoding="utf-8")
    with pytest.raises(SimulatorError, match=f"build.json: .*{message}.*etalumis simulator build"):
        BuiltSimulator(folder, QUIET)


def test_misfit_reports_build_or_keys(folder: Path) -> None:
    built = BuiltSimulator(folder, QUIET)
    assert built.misfit("b0", built.config_digest) is None
    assert built.misfit("", "") is None
    assert "expected simulator build b0" in str(built.misfit("b1", built.config_digest))
    assert "expected config digest" in str(built.misfit("b0", "0123456789abcdef"))
    settings = json.dumps(simulator_settings(LOUD))
    assert built.misfit("b0", "0123456789abcdef", settings) == "simulator.noise_gev: expected 0.1, found 0.2"


def test_differences_of_nested_sections() -> None:
    expected, found = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5}, "e": 7}
    shown = ["b.c: expected 2, found 5", "b.d: expected 3, found none", "e: expected none, found 7"]
    assert list(differences(expected, found)) == shown


def test_a_copy_of_the_folder_opens(sherpa_simulator: Path, tmp_path: Path) -> None:
    shutil.copytree(sherpa_simulator, tmp_path / "copy", symlinks=True)
    # built with the defaults of the simulator (config/test.yaml changes none)
    built = BuiltSimulator(tmp_path / "copy", SimulatorConfig())
    with built.start() as simulator:
        assert simulator.name
    assert built.build_id == json.loads((sherpa_simulator / "build.json").read_text())["simulator_build_id"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_simulator_that_does_not_start_in_time_names_the_key_that_gives_it_more(tmp_path: Path, workers: int) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "{endpoint}"]
    write_record(record_of(command, "slow", []), tmp_path)
    built = BuiltSimulator(tmp_path, SimulatorConfig(start_timeout_s=0.3))
    with pytest.raises(SimulatorError, match=r"within 0\.3 s(.|\n)*simulator\.start_timeout_s"):
        built.start(workers)
