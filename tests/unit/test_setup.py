# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/setup.py, in a separate folder, without installing anything."""

import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from projects import load_script


@pytest.fixture
def script(tmp_path: Path, checkout: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(checkout / "scripts" / "setup.py", tmp_path / "scripts")
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    return tmp_path / "scripts" / "setup.py"


def call(script: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script], env={"PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_machine_without_compiler_gets_one_line_to_paste(script: Path, tmp_path: Path) -> None:
    done = call(script, str(tmp_path / "nothing"))
    assert done.returncode == 1
    line = next(line for line in done.stderr.splitlines() if "apt-get install" in line)
    assert all(name in line.split() for name in ("g++", "cmake", "libzmq3-dev", "libflatbuffers-dev"))
    assert "environment.yml" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_second_call_does_nothing(script: Path, tmp_path: Path) -> None:
    module = load_script(script)
    (tmp_path / ".venv").mkdir()
    module.STAMP.write_bytes(module.stamp())
    start = time.monotonic()
    # without any program on the PATH, every step would fail
    done = call(script, str(tmp_path / "nothing"))
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - start < 1


def test_a_changed_pyproject_is_set_up_again(script: Path, tmp_path: Path) -> None:
    module = load_script(script)
    before = module.stamp()
    with (tmp_path / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert module.stamp() != before


@pytest.mark.parametrize(
    ("test", "there"),
    [
        ("program:c++", True),
        ("program:no-such-program", False),
        ("header:zmq.h", True),
        ("header:no/such.h", False),
        ("module:ensurepip", True),
        ("module:no_such_module", False),
    ],
)
def test_requirements_are_found_if_present(script: Path, test: str, there: bool) -> None:
    assert load_script(script).present(test) is there


def wheel(folder: Path) -> Path:
    """Return an empty package for pip."""
    path = folder / "nothing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("nothing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
        archive.writestr("nothing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("nothing-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.parametrize("way", ["variables", "pip.conf"])
def test_a_users_pip_settings_do_not_affect_the_environment(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "variables":
        monkeypatch.setenv("PIP_USER", "1")
        monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    else:
        lines = ["[install]", "user = true", *(f"{key} = {tmp_path}/{key}" for key in ("target", "prefix", "root"))]
        lines += ["[global]", "find-links = ", *(f"  {tmp_path}/{folder}" for folder in ("one", "two"))]
        (tmp_path / "pip.conf").write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    module = load_script(script)
    variables = module.pip_environment(sys.executable)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", module.VENV], check=True)
    (tmp_path / "two").mkdir()
    package = wheel(tmp_path / "two")
    pip = [sys.executable, "-m", "pip", "--python", module.VENV, "install", "--no-index"]
    # the settings that do not change the place are kept
    requested = "nothing" if way == "pip.conf" else package
    done = subprocess.run([*pip, requested], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(module.VENV.glob("lib/python*/site-packages/nothing-1.0.dist-info")), done.stdout
    assert not {"PIP_TARGET", "PYTHONPATH"} & set(variables)


def test_the_environment_works_in_a_non_ascii_folder_in_every_locale(tmp_path: Path, checkout: Path) -> None:
    root = tmp_path / "Jürgen τ"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(checkout / "scripts" / "setup.py", root / "scripts")
    (root / "src" / "etalumis").mkdir(parents=True)
    (root / "src" / "etalumis" / "__init__.py").write_text("", encoding="utf-8")
    module = load_script(root / "scripts" / "setup.py")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", module.VENV], check=True)
    (packages,) = module.VENV.glob("lib/python*/site-packages")
    path = packages / "__editable__.etalumis-0.1.0.pth"
    # as pip writes it
    path.write_text(f"{root / 'src'}\n", encoding="utf-8")
    module.make_path_relative()
    for variables in ({"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}):
        program = [module.VENV / "bin" / "python", "-c", "import etalumis"]
        done = subprocess.run(program, env=variables, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), variables


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "0<&- 1>&- 2>&-"])
def test_the_setup_continues_if_its_messages_cannot_be_written(script: Path, tmp_path: Path, streams: str) -> None:
    # `fail` reports an error and returns 1; a traceback would also end with 1, so 41 is added
    command = f'{sys.executable} -c \'import runpy, sys; sys.exit(runpy.run_path(sys.argv[1])["fail"]("no") + 41)\''
    done = subprocess.run(["bash", "-c", f"{command} {script} {streams}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (42, "", "")
