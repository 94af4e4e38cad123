# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Set up this checkout: system packages, a virtual environment in .venv, the Python packages in it.

Needs nothing but Python's standard library. A second call finds its stamp and does nothing. `make demo`, `make test`
and every other target call it first.
"""

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


# variables that would make Python or pip read or install packages in other places
ELSEWHERE = ("PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")


def main() -> int:
    """Do what is missing and return the exit code."""
    open_missing_streams()
    expected = stamp()
    if STAMP.is_file() and STAMP.read_bytes() == expected:
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
    if subprocess.run(install, cwd=ROOT, env=environment(), check=False).returncode != 0:
        return fail("pip could not install the packages; its message is above. Call it again to go on")
    make_path_relative()
    STAMP.write_bytes(expected)
    say("done")
    return 0


def open_missing_streams() -> None:
    """Open closed standard streams on the null device; children would give their numbers to other files."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def environment() -> dict[str, str]:
    """Return the environment of child processes: without settings that put packages elsewhere, and in UTF-8."""
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    return {**kept, "PIP_USER": "0", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}


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
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        variables = {**environment(), "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            say(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            return False
    return not missing_packages()


def create_environment() -> bool:
    """Create the virtual environment unless a working one is there."""
    python = VENV / "bin" / "python"
    marker = VENV / "etalumis-place"
    place = os.fsencode(ROOT)
    if python.exists() and not (marker.exists() and marker.read_bytes() != place):
        pip = [python, "-m", "pip", "--version"]
        if subprocess.run(pip, env=environment(), capture_output=True, check=False).returncode == 0:
            return True
    say(f"making the virtual environment {VENV.relative_to(ROOT)}")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        marker.write_bytes(place)
        return True
    fail(
        f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        "On Debian and Ubuntu: sudo apt-get install -y python3-venv; then call it again"
    )
    return False


def say(text: str) -> None:
    """Write a line to standard error; a set-up does not fail because nobody can read it."""
    with contextlib.suppress(OSError):
        os.write(2, f"setup: {text}\n".encode(errors="backslashreplace"))


def fail(text: str) -> int:
    """Say what is wrong and return the exit code for it."""
    say(f"error: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
