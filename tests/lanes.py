# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Lanes: which tests `make check`, `make test` and `make validate` run. The fixtures that a test uses decide.

check
    Tests that use neither Sherpa nor a whole workflow nor statistics. Few Hypothesis examples.
test
    All tests but those of lane "slurm". Statistical tests draw small samples.
slurm
    Tests on a real SLURM, which runs on this machine meanwhile.
validate
    Statistical tests with large samples, and Hypothesis tests with many examples.

Without ``--lane`` the tests that are named run as in lane "test".
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

LANES = ("check", "test", "slurm", "validate")
SLURM = "slurm"
"""Fixture of the tests on a real SLURM."""
STATISTICS = "statistics"
"""Fixture of the tests whose samples are small in lane "test" and large in lane "validate"."""
CANNOT_INSTALL = "cannot be installed here"
"""In the reason of every test that is skipped because a program is missing."""
SLOW_FIXTURES = ("run", "carried", "demo", "project", "made", "sherpa_simulator", STATISTICS)
"""Fixtures that lane "check" leaves out, the slowest first: those before Sherpa run whole workflows or dry runs."""

BUILD = "cpp_examples"
"""Fixture that builds the C++ front end, once for all workers."""
WORKFLOW = "tests/workflow/"
"""Folder of the tests that share one run of the whole workflow."""
_EXAMPLES = {"check": 10, "test": 30, "slurm": 30, "validate": 200}


@dataclass(frozen=True)
class Statistics:
    """Sample sizes of statistical tests, whose tolerances follow from their Monte Carlo errors."""

    full: bool

    def size(self, quick: int, full: int) -> int:
        """Return the sample size of the lane: `full` in "validate", else `quick`."""
        return full if self.full else quick


def register_hypothesis_profiles(lane: str | None) -> None:
    """Load the Hypothesis profile of a lane. Examples are the same in every run, except in "validate" outside CI."""
    for name, examples in _EXAMPLES.items():
        settings.register_profile(
            name,
            max_examples=examples,
            deadline=None,
            derandomize=name != "validate" or "CI" in os.environ,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
    settings.load_profile(lane or "test")


def select(items: Sequence[pytest.Item], lane: str | None) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return (tests of the lane, other tests)."""
    chosen: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        (chosen if lane is None or _belongs(item, lane) else others).append(item)
    return chosen, others


def _belongs(item: pytest.Item, lane: str) -> bool:
    used = _fixtures(item)
    if (lane == "slurm") != (SLURM in used):
        return False
    if lane == "check":
        return used.isdisjoint(SLOW_FIXTURES)
    if lane == "validate":
        return STATISTICS in used or getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return True


def sort_by_cost(items: list[pytest.Item]) -> None:
    """Sort tests so that the scopes with the slowest fixtures start first.

    Of the other scopes, the first that needs the C++ build starts and those that need it too come last: the worker of
    the first builds, while the other workers run tests that do not wait for it.
    """
    ranks: dict[str, int] = {}
    built = []
    for item in items:
        name = scope(item.nodeid)
        ranks[name] = min(_rank(item), ranks.get(name, len(SLOW_FIXTURES)))
        if BUILD in _fixtures(item) and name not in built:
            built.append(name)
    waiting = [name for name in built if ranks[name] == len(SLOW_FIXTURES)]

    def order(item: pytest.Item) -> tuple[int, int]:
        name = scope(item.nodeid)
        return ranks[name], 1 if name not in waiting else 0 if name == waiting[0] else 2

    items.sort(key=order)


def scope(nodeid: str) -> str:
    """Return the scope of a test, whose tests run on one worker: its file, or all tests of the whole workflow."""
    file = nodeid.partition("::")[0]
    return WORKFLOW if file.startswith(WORKFLOW) else file


class Scheduler(LoadScopeScheduling):
    """Gives the tests of a scope to one worker of pytest-xdist, so that expensive fixtures are made once."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def _rank(item: pytest.Item) -> int:
    used = _fixtures(item)
    return next((number for number, name in enumerate(SLOW_FIXTURES) if name in used), len(SLOW_FIXTURES))


def not_installed(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Return why tests were skipped that need a program which cannot be installed here, each reason once."""
    reasons = [str(report.longrepr) for report in reports if CANNOT_INSTALL in str(report.longrepr)]
    return list(dict.fromkeys(reasons))


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))
