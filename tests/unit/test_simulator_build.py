# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Building sherpa_tau: errors, the build record, and ids that do not depend on paths."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_or_fail

from etalumis import execution
from etalumis.address import AddressTable
from etalumis.config import SimulatorConfig
from etalumis.errors import SimulatorError
from etalumis.execution import PriorController
from etalumis.simulator import cmake
from etalumis.simulator.build import build_simulator, link_sherpa
from etalumis.simulator.built import BuiltSimulator
from etalumis.simulator.checkout import cache_folder
from etalumis.simulator.cmake import INSTALL_LINE, build_folder
from etalumis.simulator.fetch import fetch_sherpa
from etalumis.simulator.labels import products_label


def test_a_missing_compiler_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = fetch_sherpa(cache_folder())
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorError) as caught:
        build_simulator(prefix, tmp_path / "out", tmp_path / "build")
    assert str(caught.value).startswith("no C++ compiler found")
    assert INSTALL_LINE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_output_of_a_failing_compiler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken-compiler"
    compiler.write_text("#!/bin/sh\necho this compiler is broken >&2\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(SimulatorError, match="this compiler is broken") as caught:
        build_simulator(fetch_sherpa(cache_folder()), tmp_path / "out", tmp_path / "build")
    assert INSTALL_LINE in str(caught.value)


def test_cmake_reports_what_an_invalid_prefix_lacks(tmp_path: Path, checkout: Path) -> None:
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


def test_the_build_record(sherpa_simulator: Path) -> None:
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


@pytest.fixture(scope="module")
def second_clone(sherpa_simulator: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulator built in a second clone, with a copy of Sherpa; the path of the clone has an apostrophe."""
    clone = tmp_path_factory.mktemp("it's another clone")
    for name in ("src", "resources", "config"):
        shutil.copytree(checkout / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "tmp").mkdir()
    sherpa = tmp_path_factory.mktemp("sherpa") / "prefix"
    shutil.copytree(fetch_sherpa(cache_folder()), sherpa, symlinks=True)
    with (clone / "config" / "test.yaml").open("a", encoding="utf-8") as config:
        config.write(f"simulator: {{prefix: {sherpa}}}\n")
    run_or_fail(
        [sys.executable, "-m", "etalumis", "simulator", "build", "--config", "config/test.yaml", "--output", "built"],
        cwd=clone,
        env={
            **os.environ,
            "PYTHONPATH": str(clone / "src"),
            "ETALUMIS_CACHE": str(cache_folder()),
            "TMPDIR": str(clone / "tmp"),
        },
    )
    return clone / "built"


def test_the_same_sources_give_the_same_build_in_any_folder(sherpa_simulator: Path, second_clone: Path) -> None:
    for name in ("bin/sherpa_tau", "build.json", "sherpa_tau.conf", "tau.yaml", "tau_sites.txt"):
        assert (second_clone / name).read_bytes() == (sherpa_simulator / name).read_bytes(), name
    assert (second_clone / "sherpa" / "absolute").resolve() != (sherpa_simulator / "sherpa" / "absolute").resolve()
    here, there = (BuiltSimulator(folder, SimulatorConfig()) for folder in (sherpa_simulator, second_clone))
    assert there.misfit(here.build_id, here.config_digest) is None


def test_traces_of_one_clone_replay_in_the_other(sherpa_simulator: Path, second_clone: Path) -> None:
    table = AddressTable()
    traces = []
    for folder in (sherpa_simulator, second_clone):
        with BuiltSimulator(folder, SimulatorConfig()).start() as simulator:
            traces.append(execution.run(simulator, PriorController(np.random.default_rng(1)), table))
    here, there = traces
    assert (here.address, here.value) == (there.address, there.value)


def test_a_build_folder_belongs_to_one_checkout_and_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_folder(tmp_path, "sherpa")
    assert folder == build_folder(tmp_path, "sherpa")
    assert folder.parent == tmp_path / "build"
    others = [build_folder(tmp_path / "moved", "sherpa").name, build_folder(tmp_path, "bench").name]
    monkeypatch.setattr(cmake, "checkout", lambda: tmp_path)
    others.append(build_folder(tmp_path, "sherpa").name)
    assert len({folder.name, *others}) == 4


@pytest.mark.parametrize(
    "variable",
    ["CXX", "CXXFLAGS", "LDFLAGS", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "CONDA_PREFIX", "LibZMQ_ROOT"]
    + [f"CMAKE_{name}" for name in ("PREFIX_PATH", "INCLUDE_PATH", "GENERATOR", "BUILD_TYPE", "CXX_COMPILER_LAUNCHER")],
)
def test_variables_that_change_the_build_lead_to_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    folder = build_folder(tmp_path, "sherpa")
    monkeypatch.setenv(variable, "/elsewhere")
    other = build_folder(tmp_path, "sherpa")
    assert other != folder
    monkeypatch.setenv(variable, "/another")
    assert build_folder(tmp_path, "sherpa") not in (folder, other)


def test_another_schema_compiler_leads_to_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_folder(tmp_path, "sherpa")
    (tmp_path / "flatc").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "flatc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert build_folder(tmp_path, "sherpa") != folder


@pytest.mark.parametrize("variable", ["CMAKE_BUILD_PARALLEL_LEVEL", "LD_LIBRARY_PATH", "HOME", "TMPDIR"])
def test_variables_that_do_not_change_the_build_keep_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    folder = build_folder(tmp_path, "sherpa")
    monkeypatch.setenv(variable, "/elsewhere")
    assert build_folder(tmp_path, "sherpa") == folder


@pytest.mark.parametrize(
    ("key", "value"), [("CMAKE_HOME_DIRECTORY", "/elsewhere/src/cpp"), ("CMAKE_CACHEFILE_DIR", "/elsewhere/build")]
)
def test_a_build_folder_of_other_sources_is_refused(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "CMakeCache.txt").write_text(f"{key}:INTERNAL={value}\n", encoding="utf-8")
    with pytest.raises(SimulatorError, match=rf"{key} is {value}.*--build-dir") as caught:
        build_simulator(fetch_sherpa(cache_folder()), tmp_path / "out", tmp_path)
    assert INSTALL_LINE not in str(caught.value)


def test_a_checkout_can_be_moved_and_a_simulator_copied(tmp_path: Path) -> None:
    prefix, out = tmp_path / "checkout" / ".cache" / "sherpa", tmp_path / "checkout" / "results" / "simulator"
    (prefix / "bin").mkdir(parents=True)
    link_sherpa(prefix, out)
    shutil.copytree(out, tmp_path / "copy", symlinks=True)
    assert (tmp_path / "copy" / "sherpa" / "absolute" / "bin").is_dir()
    (tmp_path / "checkout").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "results" / "simulator" / "sherpa" / "relative" / "bin").is_dir()


def test_a_removed_sherpa_is_reported(sherpa_simulator: Path, tmp_path: Path) -> None:
    shutil.copytree(sherpa_simulator, tmp_path / "copy", symlinks=True)
    for link in (tmp_path / "copy" / "sherpa").iterdir():
        link.unlink()
        link.symlink_to("/no/sherpa/here")
    with pytest.raises(SimulatorError, match="no longer at /no/sherpa/here; run `etalumis simulator build"):
        BuiltSimulator(tmp_path / "copy", SimulatorConfig())


def test_channel_labels() -> None:
    assert products_label([16, 111, -211, 111]) == "π⁻ 2π⁰ \N{GREEK SMALL LETTER NU}_τ"
    assert products_label([-15, 22]) == "\N{GREEK SMALL LETTER GAMMA} (-15)"
