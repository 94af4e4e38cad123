# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The installed C++ library as its users meet it: in a multiarch folder, moved after the installation.

tests/interop/test_coupling_page.py has the plain folder `lib` and the library where it was installed.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import run_or_fail
from filelock import FileLock

from etalumis.cli import main


@pytest.fixture(scope="module")
def installed(cpp_examples: Path, build_cache: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library in a folder that it was not installed into, below lib/x86_64-linux-gnu or the like, as in Debian."""
    folder = tmp_path_factory.mktemp("installed")
    library = f"lib/{run_or_fail(['c++', '-print-multiarch']).strip()}".rstrip("/")
    with FileLock(build_cache / "cpp.lock"):
        build = cpp_examples.parent
        run_or_fail(["cmake", "-S", checkout / "src" / "cpp", "-B", build, f"-DCMAKE_INSTALL_LIBDIR={library}"])
        run_or_fail(["cmake", "--install", build, "--prefix", folder / "first"])
    shutil.move(folder / "first", folder / "moved")
    return folder / "moved"


@pytest.fixture
def examples(checkout: Path, tmp_path: Path) -> Path:
    """The examples, with nothing else of the checkout in reach."""
    return Path(shutil.copytree(checkout / "src" / "cpp" / "examples", tmp_path / "examples"))


def pkg_config_path(installed: Path) -> str:
    [found] = installed.rglob("ppx.pc")
    return str(found.parent)


def coupled(program: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["simulator", "couple", "--output", str(program.parent / "coupled"), "--", str(program)]) == 0
    return capsys.readouterr()


def test_the_examples_build_alone_with_cmake(installed: Path, cpp_examples: Path, examples: Path) -> None:
    build = examples / "build"
    run_or_fail(["cmake", "-S", examples, "-B", build, f"-DCMAKE_PREFIX_PATH={installed}"])
    assert f"ppx_DIR:PATH={installed}" in (build / "CMakeCache.txt").read_text(encoding="utf-8")
    run_or_fail(["cmake", "--build", build, "--target", "marsaglia"])
    assert "marsaglia(double, double)+0x" in run_or_fail([build / "marsaglia", "--local", "1", "--entries"])
    options = ("--local", "20", "--seed", "5")
    assert run_or_fail([build / "marsaglia", *options]) == run_or_fail([cpp_examples / "marsaglia", *options])


def test_the_makefile_builds_with_pkg_config(
    installed: Path, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = examples / "installed"
    run_or_fail(["make", "-C", project, f"PKG_CONFIG_PATH={pkg_config_path(installed)}"])
    shown, error = coupled(project / "muon", capsys)
    assert "; zenith_angle()+0x" in shown
    assert "without a name" not in error


def test_without_exported_symbols_couple_warns(
    installed: Path, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PKG_CONFIG_PATH": pkg_config_path(installed)}
    words = ["pkg-config", "--cflags", "--libs", "ppx"]
    flags = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split()
    flags.remove("-rdynamic")
    program = examples / "hidden"
    run_or_fail(["c++", examples / "installed" / "muon.cpp", *flags, "-o", program])
    shown, error = coupled(program, capsys)
    assert "hidden+0x" in shown
    assert "3 of 3 addresses contain functions without a name" in error
    assert "link it with -rdynamic" in error
