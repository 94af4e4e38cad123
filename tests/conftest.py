# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What many tests need: the checkout, the built example simulators, the built Sherpa simulator."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lanes
import pytest
from filelock import FileLock
from projects import load_script

ROOT = Path(__file__).resolve().parent.parent
BUILD_TIMEOUT_S = 900
# each worker and each process that it starts uses one core: the threads of PyTorch would wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--lane`."""
    parser.addoption("--lane", choices=lanes.LANES, help="which tests to run; tests/lanes.py says what belongs to each")


def pytest_configure(config: pytest.Config) -> None:
    """Load the Hypothesis profile of the lane."""
    lanes.register_hypothesis_profiles(config.getoption("lane"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the lane, the slowest first."""
    items[:], others = lanes.select(items, config.getoption("lane"))
    config.hook.pytest_deselected(items=others)
    lanes.sort_by_cost(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> lanes.Scheduler:
    """Distribute the tests over the workers scope by scope."""
    return lanes.Scheduler(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly what was not tested, since programs are missing: the workflow on SLURM, pages in a browser."""
    reasons = lanes.not_installed(terminalreporter.stats.get("skipped", ()))
    if reasons:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for reason in reasons:
            terminalreporter.line(reason)


@pytest.fixture(scope="session")
def statistics(request: pytest.FixtureRequest) -> lanes.Statistics:
    """Sample sizes: small, or large in `make validate`."""
    return lanes.Statistics(full=request.config.getoption("lane") == "validate")


def run_or_fail(
    command: Sequence[str | Path],
    cwd: Path = ROOT,
    timeout_s: float = BUILD_TIMEOUT_S,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return its output; a failure shows the end of it."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        tail = (done.stdout + done.stderr)[-4000:]
        pytest.fail(f"{' '.join(words)}: exit code {done.returncode}\n{tail}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal() -> None:
    """Undo what a shell does to its background jobs: they ignore SIGINT and SIGQUIT, and so would all they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of this checkout."""
    return ROOT


@pytest.fixture(scope="session")
def build_cache() -> Path:
    """The folder of what is built once for the tests and kept: $ETALUMIS_TEST_BUILD or .cache/test-build."""
    folder = Path(os.environ.get("ETALUMIS_TEST_BUILD", ROOT / ".cache" / "test-build")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # CMake's build folders are of one checkout, at one place
    with FileLock(folder / "origin.lock"):
        origin, expected = folder / "origin", f"{ROOT} {folder}"
        if origin.is_file() and origin.read_text(encoding="utf-8") != expected:
            for build in (path for path in folder.iterdir() if path.is_dir()):
                shutil.rmtree(build)
        origin.write_text(expected, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cpp_examples(build_cache: Path) -> Path:
    """The folder of the example simulators' programs (gaussian, marsaglia, ...), built from this checkout."""
    build = build_cache / "cpp"
    with FileLock(build_cache / "cpp.lock"):
        if not (build / "build.ninja").exists():
            run_or_fail(["cmake", "-S", ROOT / "src" / "cpp", "-B", build, "-G", "Ninja"])
        run_or_fail(["cmake", "--build", build, "--parallel"])
    return build / "examples"


@pytest.fixture(scope="session")
def sherpa_simulator(build_cache: Path) -> Path:
    """A folder with bin/sherpa_tau, build.json and sherpa_tau.conf, built from this checkout and config/test.yaml."""
    folder = build_cache / "sherpa"
    with FileLock(build_cache / "sherpa.lock"):
        run_or_fail(
            [sys.executable, "-m", "etalumis", "simulator", "build", "--config", "config/test.yaml", "--output", folder]
        )
    return folder


@pytest.fixture(scope="session")
def browser(checkout: Path, build_cache: Path) -> Iterator[Any]:
    """A `browser.Browser`; skip only if it cannot be installed."""
    import browser as pages  # tests without a browser need no selenium

    packages = load_script(checkout / "scripts" / "debian_packages.py")
    try:
        with FileLock(build_cache / "apt.lock"):
            packages.install(pages.PACKAGES, pages.missing)
    except packages.PackagesUnavailable as error:
        pytest.skip(f"Chromium {lanes.CANNOT_INSTALL}: {error}")
    with pages.browser() as opened:
        yield opened
