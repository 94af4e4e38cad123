# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The installed C++ library, moved after its installation: the example of the docs built with CMake and pkg-config."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import run_or_fail

from etalumis.cli import main


@pytest.fixture(scope="module", params=["lib", "deeper"])
def installed(request: pytest.FixtureRequest, cpp_examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library in a folder that it was not installed into."""
    folder = tmp_path_factory.mktemp("installed")
    library = "lib"
    if request.param == "deeper":  # as Debian has it: lib/x86_64-linux-gnu, where CMake looks too
        library = f"lib/{run_or_fail(['c++', '-print-multiarch']).strip()}".rstrip("/")
    options = [f"-DCMAKE_INSTALL_LIBDIR={library}", "-DPPX_BUILD_EXAMPLES=OFF", "-DPPX_BUILD_TESTS=OFF"]
    build = cpp_examples.parents[1] / "cpp-installed"
    source = Path(__file__).resolve().parents[2] / "src" / "cpp"
    run_or_fail(["cmake", "-S", source, "-B", build, *options])
    run_or_fail(["cmake", "--build", build])
    run_or_fail(["cmake", "--install", build, "--prefix", folder / "first"])
    shutil.move(folder / "first", folder / "moved")
    return folder / "moved"


@pytest.fixture
def project(checkout: Path, tmp_path: Path) -> Path:
    """The example, where nothing else of the checkout is in reach."""
    return Path(shutil.copytree(checkout / "src" / "cpp" / "examples" / "installed", tmp_path / "project"))


def coupled(program: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["simulator", "couple", "--output", str(program.parent / "coupled"), "--", str(program)]) == 0
    return capsys.readouterr()


def flags(installed: Path) -> list[str]:
    [found] = installed.rglob("ppx.pc")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(found.parent)}
    words = ["pkg-config", "--cflags", "--libs", "ppx"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split()


def make(project: Path, words: Sequence[str]) -> Path:
    run_or_fail(["make", "-C", project, *words])
    return project / "muon"


def test_with_cmake(installed: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_or_fail(["cmake", "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={installed}"])
    assert f"ppx_DIR:PATH={installed}" in (project / "build" / "CMakeCache.txt").read_text(encoding="utf-8")
    run_or_fail(["cmake", "--build", project / "build"])
    shown, error = coupled(project / "build" / "muon", capsys)
    assert "[Muon::forward()+0x" in shown
    assert "without a name" not in error


def test_with_pkg_config(installed: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "-rdynamic" in flags(installed)
    [found] = installed.rglob("ppx.pc")
    program = make(project, [f"PKG_CONFIG_PATH={found.parent}"])
    shown, error = coupled(program, capsys)
    assert "; zenith_angle()+0x" in shown
    assert "without a name" not in error


def test_without_exported_symbols_couple_warns(
    installed: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in flags(installed) if word != "-rdynamic"]
    run_or_fail(["c++", project / "muon.cpp", *words, "-o", project / "hidden"])
    shown, error = coupled(project / "hidden", capsys)
    assert "hidden+0x" in shown
    assert "3 of 3 addresses have functions without a name" in error
    assert "link it with -rdynamic" in error
