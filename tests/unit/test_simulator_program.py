# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The command line of sherpa_tau: configuration file, errors, signals, temporary files."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from etalumis.config import SimulatorConfig
from etalumis.simulator.config_file import simulator_config_text

CARD, SITES = "tau.yaml", "tau_sites.txt"


def call(simulator: Path, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the program and return its exit code and output."""
    command = [str(word) for word in (simulator / "bin" / "sherpa_tau", *arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def config_text(sherpa_simulator: Path) -> str:
    """A valid configuration file."""
    return simulator_config_text(SimulatorConfig(), str(sherpa_simulator / CARD), str(sherpa_simulator / SITES))


def test_every_key_of_the_configuration_is_accepted(sherpa_simulator: Path, config_text: str, tmp_path: Path) -> None:
    keys = {line.split()[0] for line in config_text.splitlines() if not line.startswith("#")}
    calorimeter = {f"calorimeter_{key}" for key in SimulatorConfig().calorimeter.model_dump()}
    assert keys == {"run_card", "sites", "px_gev", "py_gev", "pz_gev", "noise_gev"} | calorimeter
    file = tmp_path / "right.conf"
    file.write_text(config_text)
    done = call(sherpa_simulator, "--local", 1, "--config", file)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("key", "line", "message"),
    [
        ("noise_gev", "nose_gev 0.2", "unknown key 'nose_gev'; did you mean 'noise_gev'?"),
        ("calorimeter_em_width_cm", "", "missing key 'calorimeter_em_width_cm'"),
        ("noise_gev", "noise_gev -0.2", "noise_gev: out of range: expected a number from 1e-06 to 1e+06, found -0.2"),
        ("noise_gev", "noise_gev loud", "noise_gev: expected a number from 1e-06 to 1e+06, found 'loud'"),
        ("noise_gev", "noise_gev nan", "noise_gev: expected a number from 1e-06 to 1e+06, found 'nan'"),
        ("noise_gev", "noise_gev 0.2 0.3", "noise_gev: expected 1 value(s), found '0.2 0.3'"),
        ("noise_gev", "noise_gev 0.2\nnoise_gev 0.2", "noise_gev: given twice"),
        ("px_gev", "px_gev 3.0 -3.0", "px_gev: expected LOW < HIGH, found 3.0 -3.0"),
        ("run_card", "run_card absent.yaml", "run_card: expected a readable file, found nothing at"),
    ],
)
def test_errors_in_the_configuration_are_reported(
    sherpa_simulator: Path, config_text: str, tmp_path: Path, key: str, line: str, message: str
) -> None:
    wrong, replaced = re.subn(rf"^{key} .*$", line, config_text, flags=re.MULTILINE)
    assert replaced == 1
    file = tmp_path / "wrong.conf"
    file.write_text(wrong)
    done = call(sherpa_simulator, "--local", 1, "--config", file)
    assert done.returncode == 1
    assert message in done.stderr
    assert str(file) in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("EVENT_TYPE: HadronDecay", "EVENT_TYPE: Nonsense", "tau.yaml: Sherpa did not start"),
        ("EVENT_TYPE: HadronDecay", "EVENT_TYPE: [HadronDecay", "tau.yaml: Sherpa did not start"),
        ("EVENT_TYPE: HadronDecay", "EXTERNAL_RNG: None", "tau.yaml: the run card sets EXTERNAL_RNG; remove it"),
    ],
)
def test_invalid_run_cards_are_refused(
    sherpa_simulator: Path, config_text: str, tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "tau.yaml").write_text((sherpa_simulator / CARD).read_text().replace(old, new))
    (tmp_path / "a.conf").write_text(config_text.replace(str(sherpa_simulator / CARD), "tau.yaml"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = call(sherpa_simulator, "--local", 1, "--config", tmp_path / "a.conf", env=environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config FILE is missing"),
        (("--bogus",), "unknown argument '--bogus'"),
        (("--config", "x"), "expected exactly one of ENDPOINT, --local N, --channels"),
        (("--config", "x", "--local", "many"), "--local: expected a whole number, found 'many'"),
        (("--config", "x", "--local"), "--local: a value is missing"),
    ],
)
def test_errors_in_the_command_line(sherpa_simulator: Path, arguments: tuple[str, ...], message: str) -> None:
    done = call(sherpa_simulator, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "usage: sherpa_tau" in done.stderr


def test_help(sherpa_simulator: Path) -> None:
    done = call(sherpa_simulator, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: sherpa_tau ENDPOINT --config FILE")


def test_concurrent_processes_leave_no_files(sherpa_simulator: Path, tmp_path: Path) -> None:
    temporary, home = tmp_path / "tmp", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    command = [
        sherpa_simulator / "bin" / "sherpa_tau",
        "--local",
        "2",
        "--config",
        sherpa_simulator / "sherpa_tau.conf",
    ]
    processes = [
        subprocess.Popen(
            [str(word) for word in command],
            cwd=home,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(outputs)) == 1, "the same seeds give the same events in every process"
    out, err = outputs[0]
    assert err == ""
    assert [json.loads(line)["seed"] for line in out.splitlines()] == [1, 2]
    assert not list(temporary.iterdir())
    assert not list(home.iterdir())


@pytest.mark.parametrize("during_set_up", [True, False])
def test_signals_end_the_program_cleanly(sherpa_simulator: Path, tmp_path: Path, during_set_up: bool) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    socket = tmp_path / "socket"
    process = subprocess.Popen(
        [sherpa_simulator / "bin" / "sherpa_tau", f"ipc://{socket}", "--config", sherpa_simulator / "sherpa_tau.conf"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        # the scratch directory exists only during initialisation, the socket once the program serves
        deadline = time.monotonic() + 60
        while not (any(temporary.iterdir()) if during_set_up else socket.exists()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        assert process.wait(timeout=60) in ((-signal.SIGTERM, 0) if during_set_up else (0,))
        assert process.communicate() == (b"", b"")
    finally:
        process.kill()
    assert not list(temporary.iterdir())
