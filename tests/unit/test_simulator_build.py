# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Building sherpa_tau: what is missing is named, what was built is on record."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from etalumis.errors import SimulatorError
from etalumis.simulator.build import INSTALL_LINE, build_simulator
from etalumis.simulator.checkout import cache_folder
from etalumis.simulator.fetch import fetch_sherpa
from etalumis.simulator.labels import products_label


def test_without_a_compiler_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = fetch_sherpa(cache_folder())
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorError) as caught:
        build_simulator(prefix, tmp_path / "out", tmp_path / "build")
    assert str(caught.value).startswith("no C++ compiler found")
    assert INSTALL_LINE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_compiler_that_fails_is_reported_with_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken-compiler"
    compiler.write_text("#!/bin/sh\necho this compiler is broken >&2\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(SimulatorError, match="this compiler is broken") as caught:
        build_simulator(fetch_sherpa(cache_folder()), tmp_path / "out", tmp_path / "build")
    assert INSTALL_LINE in str(caught.value)


def test_cmake_names_what_a_foreign_prefix_lacks(tmp_path: Path, checkout: Path) -> None:
    done = subprocess.run(
        ["cmake", "-S", checkout / "src" / "cpp", "-B", tmp_path / "build", f"-DETALUMIS_SHERPA_PREFIX={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    words = " ".join(done.stderr.split())
    assert "is not a Sherpa 3 prefix" in words
    assert "bin/Sherpa" in words


def test_the_record_names_what_was_built(sherpa_simulator: Path) -> None:
    record = json.loads((sherpa_simulator / "build.json").read_text())
    assert record["format"] == "etalumis-simulator"
    assert re.fullmatch(r"[0-9a-f]{16}", record["simulator_build_id"])
    assert record["sherpa_version"].startswith("3.")
    assert str(Path.home()) not in json.dumps(record)
    channels = record["channels"]
    assert [channel["index"] for channel in channels] == list(range(38))  # as many as in the paper
    assert sum(channel["probability"] for channel in channels) == pytest.approx(1.0, abs=1e-12)
    assert len({channel["name"] for channel in channels}) == 38
    by_products = {tuple(sorted(channel["products"])): channel["probability"] for channel in channels}
    # Particle Data Group 2022: B(tau -> pi pi0 nu) = 25.5 %, B(tau -> e nu nu) = 17.8 %
    assert by_products[-211, 16, 111] == pytest.approx(0.255, abs=0.005)
    assert by_products[-12, 11, 16] == pytest.approx(0.178, abs=0.003)


def test_a_second_build_gives_the_same_build_id(sherpa_simulator: Path, checkout: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "etalumis", "simulator", "build", "--config", "config/test.yaml", "--output", tmp_path],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    first, second = (json.loads((folder / "build.json").read_text()) for folder in (sherpa_simulator, tmp_path))
    assert first == second
    for name in ("sherpa_tau.conf", "tau.yaml", "tau_sites.txt"):
        assert (tmp_path / name).read_bytes() == (sherpa_simulator / name).read_bytes()
    assert os.access(tmp_path / "bin" / "sherpa_tau", os.X_OK)


def test_labels_count_equal_products_and_keep_a_fixed_order() -> None:
    assert products_label([16, 111, -211, 111]) == "π⁻ 2π⁰ \N{GREEK SMALL LETTER NU}_τ"
    assert products_label([-15, 22]) == "\N{GREEK SMALL LETTER GAMMA} (-15)"
