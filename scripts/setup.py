# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Set up this checkout: system packages, a virtual environment in .venv, the Python packages in it.

Needs nothing but Python's standard library. A second call finds its stamp and does nothing. `make demo`, `make test`
and every other target call it first.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "etalumis-setup"
EXTRAS = "workflow,mpich,dev"
# Debian package -> how to see that what it brings is there: a program, a header for the C++ compiler, or a module of
# this Python (Debian keeps what `venv` needs in a package of its own)
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


def main() -> int:
    """Do what is missing and return the exit code."""
    wanted = stamp()
    if STAMP.is_file() and STAMP.read_text(encoding="utf-8") == wanted:
        return 0
    if sys.version_info < (3, 11):
        return fail(
            f"expected Python 3.11 or newer, found {sys.version.split()[0]} ({sys.executable}); "
            "call it with another one: make PYTHON=python3.12 setup"
        )
    missing = missing_packages()
    if missing and not install_system_packages(missing):
        return fail(
            f"missing on this machine: {', '.join(missing)}. Paste one of these lines and call it again:\n"
            f"  sudo apt-get update && sudo apt-get install -y {' '.join(missing)}\n"
            "  conda env create -f environment.yml && conda activate etalumis"
        )
    if not create_environment():
        return 1
    python = str(VENV / "bin" / "python")
    say(f"installing the Python packages into {VENV.relative_to(ROOT)} (some minutes the first time)")
    install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-e", f".[{EXTRAS}]"]
    if subprocess.run(install, cwd=ROOT, check=False).returncode != 0:
        return fail("pip could not install the packages; its message is above. Call it again to go on")
    STAMP.write_text(wanted, encoding="utf-8")
    say("set up")
    return 0


def stamp() -> str:
    """Return what a finished set-up is the set-up of."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "scripts/setup.py")]
    # a moved checkout has an environment whose programs point to the old place
    return f"{hashlib.sha256(b''.join(parts)).hexdigest()} {ROOT}\n"


def missing_packages() -> list[str]:
    """Return the Debian packages whose program, header or module is not to be found."""
    if shutil.which("c++") is None:
        # without a compiler no header can be looked for; ask for all that needs one
        return [name for name, test in APT.items() if test.startswith("header:") or not present(test)]
    return [name for name, test in APT.items() if not present(test)]


def present(test: str) -> bool:
    """Whether a program is on the path, the compiler finds a header, or this Python a module."""
    kind, _, name = test.partition(":")
    if kind == "program":
        return shutil.which(name) is not None
    if kind == "module":
        # in a process of its own: this one remembers what was not there before the installation
        return (
            subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0
        )
    flags = [f"-I{os.environ['CONDA_PREFIX']}/include"] if "CONDA_PREFIX" in os.environ else []
    source = f"#include <{name}>\n".encode()
    command = ["c++", "-std=c++17", *flags, "-fsyntax-only", "-x", "c++", "-"]
    return subprocess.run(command, input=source, capture_output=True, check=False).returncode == 0


def install_system_packages(packages: list[str]) -> bool:
    """Install Debian packages if this is root on a Debian or Ubuntu without an active conda environment."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None or "CONDA_PREFIX" in os.environ:
        return False
    say(f"installing system packages: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            say(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            return False
    return not missing_packages()


def create_environment() -> bool:
    """Create the virtual environment unless a working one is there."""
    python = VENV / "bin" / "python"
    marker = VENV / "etalumis-place"
    works = python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    if works and works.returncode == 0 and not (marker.exists() and marker.read_text(encoding="utf-8") != str(ROOT)):
        return True
    say(f"making the virtual environment {VENV.relative_to(ROOT)}")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        marker.write_text(str(ROOT), encoding="utf-8")
        return True
    fail(
        f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        "On Debian and Ubuntu: sudo apt-get install -y python3-venv; then call it again"
    )
    return False


def say(text: str) -> None:
    """Write a line for the person who waits."""
    sys.stderr.write(f"setup: {text}\n")
    sys.stderr.flush()


def fail(text: str) -> int:
    """Say what is wrong and return the exit code for it."""
    say(f"error: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
