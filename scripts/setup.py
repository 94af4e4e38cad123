# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Set up this checkout: system packages, a virtual environment in .venv, and the Python packages in it.

It needs only the standard library. A second call finds the stamp of the first and does nothing. All targets of the
Makefile call it first.
"""

import ast
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "etalumis-setup"
EXTRAS = "workflow,mpich,dev,docs"
# Debian package -> how to find out whether it is installed: a program, a C++ header, or a module of this Python (Debian
# has what `venv` needs in a separate package)
APT = {
    "g++": "program:c++",
    "cmake": "program:cmake",
    "ninja-build": "program:ninja",
    "pkg-config": "program:pkg-config",
    "libzmq3-dev": "header:zmq.h",
    "libflatbuffers-dev": "header:flatbuffers/flatbuffers.h",
    "flatbuffers-compiler": "program:flatc",
    f"python{sys.version_info.major}.{sys.version_info.minor}-venv": "module:ensurepip",
}


# variables that would make Python or pip read or install packages in other places
ELSEWHERE = ("PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")


def main() -> int:
    """Do the missing steps and return the exit code."""
    open_missing_streams()
    expected = stamp()
    if STAMP.is_file() and STAMP.read_bytes() == expected:
        return 0
    if sys.version_info < (3, 11):
        return fail(
            f"expected Python 3.11 or newer, found {sys.version.split()[0]} ({sys.executable}); "
            "choose another one: make PYTHON=python3.12 setup"
        )
    missing = missing_packages()
    if missing and not install_system_packages(missing):
        return fail(
            f"missing on this machine: {', '.join(missing)}. Run one of these lines, then the set-up again:\n"
            f"  sudo apt-get update && sudo apt-get install -y {' '.join(missing)}\n"
            "  conda env create -f environment.yml && conda activate etalumis"
        )
    if not create_environment():
        return 1
    python = str(VENV / "bin" / "python")
    say(f"installing the Python packages into {VENV.relative_to(ROOT)} (some minutes the first time)")
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-e", f".[{EXTRAS}]"]
    if subprocess.run(pip, cwd=ROOT, env=pip_environment(python), check=False).returncode != 0:
        return fail("pip could not install the packages; its message is above. Run the set-up again to resume")
    make_path_relative()
    STAMP.write_bytes(expected)
    say("done")
    return 0


def open_missing_streams() -> None:
    """Open closed standard streams on the null device; other files would get their descriptors."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def environment() -> dict[str, str]:
    """Return the environment of child processes: without settings that put packages elsewhere, and in UTF-8."""
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    return {**kept, "PIP_USER": "0", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}


def pip_environment(python: str) -> dict[str, str]:
    """Return the environment of `pip install`, with the user's pip settings apart from those in `ELSEWHERE`.

    pip.conf is not read: it may name another place for packages, which no option can take back in the processes that
    pip starts. Its other settings (indexes, certificates) are passed on as variables.
    """
    variables = environment()
    command = [python, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    for line in done.stdout.splitlines():
        # global.index-url='https://...'; sections of other commands and variables (:env:) are left out
        section, _, setting = line.partition(".")
        key, _, value = setting.partition("=")
        name = f"PIP_{key.upper().replace('-', '_')}"
        if section in ("global", "install") and name not in ELSEWHERE and name not in os.environ:
            variables[name] = ast.literal_eval(value)
    return {**variables, "PIP_CONFIG_FILE": os.devnull}


def make_path_relative() -> None:
    """Write the path of the sources relative to site-packages, where pip writes it in full.

    Python 3.11 reads the file in the encoding of the locale and does not start if it cannot decode the path.
    """
    for site_packages in VENV.glob("lib/python*/site-packages"):
        for file in site_packages.glob("__editable__*etalumis*.pth"):
            file.write_text(f"{os.path.relpath(ROOT / 'src', site_packages)}\n", encoding="ascii")


def stamp() -> bytes:
    """Return the contents of the stamp: a digest of what the set-up depends on, and the place of the checkout."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "scripts/setup.py")]
    # a moved checkout has an environment whose programs point to the old place
    return hashlib.sha256(b"".join(parts)).hexdigest().encode() + b" " + os.fsencode(ROOT) + b"\n"


def missing_packages() -> list[str]:
    """Return the Debian packages whose program, header or module is missing."""
    if shutil.which("c++") is None:
        # headers cannot be checked without a compiler; request all packages with headers
        return [name for name, test in APT.items() if test.startswith("header:") or not present(test)]
    return [name for name, test in APT.items() if not present(test)]


def present(test: str) -> bool:
    """Return whether a program is on the PATH, the compiler finds a header, or this Python finds a module."""
    kind, _, name = test.partition(":")
    if kind == "program":
        return shutil.which(name) is not None
    if kind == "module":
        # in a separate process, since this one caches what it did not find before the installation
        return (
            subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0
        )
    flags = [f"-I{os.environ['CONDA_PREFIX']}/include"] if "CONDA_PREFIX" in os.environ else []
    source = f"#include <{name}>\n".encode()
    command = ["c++", "-std=c++17", *flags, "-fsyntax-only", "-x", "c++", "-"]
    return subprocess.run(command, input=source, capture_output=True, check=False).returncode == 0


def install_system_packages(packages: list[str]) -> bool:
    """Install Debian packages, as root on Debian or Ubuntu without an active conda environment."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None or "CONDA_PREFIX" in os.environ:
        return False
    say(f"installing system packages: {' '.join(packages)}")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        variables = {**environment(), "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            say(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            return False
    return not missing_packages()


def create_environment() -> bool:
    """Create the virtual environment unless a working one exists."""
    python = VENV / "bin" / "python"
    marker = VENV / "etalumis-place"
    place = os.fsencode(ROOT)
    if python.exists() and not (marker.exists() and marker.read_bytes() != place):
        pip = [python, "-m", "pip", "--version"]
        if subprocess.run(pip, env=environment(), capture_output=True, check=False).returncode == 0:
            return True
    say(f"creating the virtual environment {VENV.relative_to(ROOT)}")
    # an active conda environment has the packages of environment.yml, which pip then need not install again
    shared = ["--system-site-packages"] if "CONDA_PREFIX" in os.environ else []
    command = [sys.executable, "-m", "venv", "--clear", *shared, str(VENV)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        marker.write_bytes(place)
        return True
    fail(
        f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        "On Debian and Ubuntu: sudo apt-get install -y python3-venv; then run the set-up again"
    )
    return False


def say(text: str) -> None:
    """Write a line to standard error; the set-up continues if it cannot be written."""
    with contextlib.suppress(OSError):
        os.write(2, f"setup: {text}\n".encode(errors="backslashreplace"))


def fail(text: str) -> int:
    """Report an error and return the exit code for it."""
    say(f"error: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
