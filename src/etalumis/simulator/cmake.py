# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Build the C++ sources of the checkout with CMake, in build folders that belong to one checkout and one compiler."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from etalumis.errors import SimulatorError
from etalumis.files import digest
from etalumis.simulator.checkout import checkout

INSTALL_LINE = "apt-get install -y g++ cmake ninja-build libzmq3-dev libflatbuffers-dev flatbuffers-compiler"
_BUILD_TIMEOUT_S = 1800
_BUILD_VARIABLES = re.compile(
    r"CC|CFLAGS|CXX|CXXFLAGS|LDFLAGS|CONDA_PREFIX|LibZMQ_ROOT|LIBZMQ_ROOT"
    # the compiler and the linker
    r"|CPATH|CPLUS_INCLUDE_PATH|LIBRARY_PATH|COMPILER_PATH|GCC_EXEC_PREFIX|LD_RUN_PATH|SDKROOT|CCC_OVERRIDE_OPTIONS"
    # CMake, apart from variables that change its output on the terminal
    r"|CMAKE_(?!BUILD_PARALLEL_LEVEL|COLOR_DIAGNOSTICS|ERROR_DEPRECATED|WARN_DEPRECATED|NO_VERBOSE).*"
)
"""Environment variables that change what is built. CMake reads them when it configures a folder for the first time, and
the compiler when a file is compiled; afterwards neither notices a change."""
_FOUND_TOOLS = ("flatc", "readelf", "llvm-readelf")
"""Programs whose paths CMake keeps."""


def build_folder(cache: Path, name: str) -> Path:
    """Return the build folder of this checkout in a cache, which other checkouts may share.

    CMake ties a build folder to its own path, to the path of the sources, and to the compiler, programs and settings of
    its first call. All of these are hashed into the folder's name, so that a change of one leads to another folder.
    """
    folder = cache.resolve() / "build"
    environment = {key: value for key, value in os.environ.items() if value and _BUILD_VARIABLES.fullmatch(key)}
    tools = [shutil.which(name) for name in _FOUND_TOOLS]
    places = [str(folder), str(checkout())]
    key = digest([*places, environment, tools, _compiler_version(), bool(shutil.which("ninja"))])
    return folder / f"{name}-{key}"


def sherpa_build_folder(cache: Path) -> Path:
    """Return the folder in which everything that links Sherpa is built."""
    return build_folder(cache, "sherpa")


def build_sherpa_targets(prefix: Path, build_dir: Path, targets: Sequence[str]) -> str:
    """Configure src/cpp with Sherpa and build some targets; return the compiler's name and version.

    Raises
    ------
    SimulatorError
        As `build_targets`.
    """
    options = {"PPX_BUILD_EXAMPLES": "OFF", "ETALUMIS_SHERPA_TESTS": "ON", "ETALUMIS_SHERPA_PREFIX": str(prefix)}
    return build_targets(build_dir, targets, options)


def build_targets(build_dir: Path, targets: Sequence[str], options: Mapping[str, str]) -> str:
    """Configure src/cpp in a build folder and build some targets; return the compiler's name and version.

    Raises
    ------
    SimulatorError
        If a tool or header is missing, the folder belongs to other sources, or the build fails.
    """
    _check_tools()
    source = checkout() / "src" / "cpp"
    _check_origin(build_dir, source)
    # CMake refuses another generator than that of the first call
    first = not (build_dir / "CMakeCache.txt").is_file()
    generator = ["-G", "Ninja"] if first and shutil.which("ninja") and not os.environ.get("CMAKE_GENERATOR") else []
    settings = {"CMAKE_BUILD_TYPE": "Release", "PPX_BUILD_TESTS": "OFF", **options}
    definitions = [f"-D{key}={value}" for key, value in settings.items()]
    _cmake("configuring", ["-S", str(source), "-B", str(build_dir), *generator, *definitions])
    jobs = str(len(os.sched_getaffinity(0)))
    _cmake("building", ["--build", str(build_dir), "--target", *targets, "--parallel", jobs])
    return _compiler(build_dir)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Create a build folder and hold its lock: two builds in one folder take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compilers() -> list[str]:
    return [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]


def _compiler_version() -> str:
    program = next(filter(None, map(shutil.which, _compilers())), None)
    if program is None:
        return ""  # _check_tools reports it
    done = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False)
    return f"{program} {done.stdout}"


def _check_tools() -> None:
    for tool, names in (("C++ compiler", _compilers()), ("cmake", ["cmake"]), ("ninja or make", ["ninja", "make"])):
        if not any(shutil.which(name) for name in names):
            raise SimulatorError(
                f"no {tool} found (looked for {', '.join(names)}); on Debian or Ubuntu: {INSTALL_LINE}"
            )


def _check_origin(build_dir: Path, source: Path) -> None:
    cache = build_dir / "CMakeCache.txt"
    if not cache.is_file():
        return
    text = cache.read_text(encoding="utf-8", errors="replace")
    for key, expected in (("CMAKE_HOME_DIRECTORY", source), ("CMAKE_CACHEFILE_DIR", build_dir)):
        found = re.search(rf"^{key}:INTERNAL=(.*)$", text, re.MULTILINE)
        if found is not None and Path(found[1]).resolve() != expected.resolve():
            raise SimulatorError(
                f"{build_dir}: expected a build folder of {source}, found one of other sources, or one that was moved "
                f"({key} is {found[1]}); remove it, or choose another folder with --build-dir"
            )


def _cmake(step: str, arguments: Sequence[str]) -> None:
    done = subprocess.run(
        ["cmake", *arguments],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=_BUILD_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise SimulatorError(
            f"{step} the C++ sources failed: cmake {' '.join(arguments)} (exit code {done.returncode}):\n"
            f"{done.stdout.strip()[-3000:]}\n"
            f"if a tool or header is missing, on Debian or Ubuntu: {INSTALL_LINE}; if one has moved since the first "
            "build, remove the build folder"
        )


def _environment() -> dict[str, str]:
    """Return the environment of CMake, with a temporary folder whose name it can read.

    CMake takes the compiler's default folders from its verbose output, which names temporary files. It fails to read
    that if their path contains a quote, and then finds no library.
    """
    readable = re.fullmatch(r"[\w./+-]+", tempfile.gettempdir())
    return {**os.environ, **({} if readable else {"TMPDIR": "/tmp"})}


def _compiler(build_dir: Path) -> str:
    for file in sorted((build_dir / "CMakeFiles").glob("*/CMakeCXXCompiler.cmake")):
        text = file.read_text(encoding="utf-8")
        found = [re.search(rf'set\(CMAKE_CXX_COMPILER_{key} "([^"]*)"\)', text) for key in ("ID", "VERSION")]
        if all(found):
            return " ".join(match.group(1) for match in found if match)
    return "unknown"
