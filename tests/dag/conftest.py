# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A project folder of its own for every test, so that no dry run meets the checkout's results."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project, fill_project

from etalumis.config import load
from etalumis.paths import RESULTS_FORMAT, Paths
from etalumis.results import write_run_files

# targets that only gather, and the last line of the table
NO_JOBS = ("all", "traces", "sorted", "posteriors", "total")
JOB_LINE = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)


class DryProject(Project):
    """A project in which no job runs."""

    @property
    def demo(self) -> Paths:
        """Where the demo's products are."""
        return self.paths("demo")

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Return what Snakemake would run: jobs by rule, targets that only gather left out."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout
        if "Nothing to be done" in done.stdout:
            return {}
        table = done.stdout.partition("Job stats:")[2].partition("\n\n")[0]
        return {name: int(count) for name, count in JOB_LINE.findall(table) if name not in NO_JOBS}

    def pretend_all_is_made(self, *arguments: str) -> None:
        """Make every product, a file with its own name in it, and let Snakemake record it as made, without any job."""
        every = self.snakemake("--dry-run", "--forceall", *arguments).stdout
        lists = re.findall(r"^    (?:output|benchmark): (.*)$", every, re.MULTILINE)
        products = [product for line in lists for product in line.split(", ")]
        assert products, every
        for product in products:
            path = self.root / product
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{product}\n", encoding="utf-8")
        write_run_files(self.demo, load(self.root / "config" / "config.yaml"))
        touched = self.snakemake("--touch", "--forceall", "--cores", "2", *arguments)
        assert touched.returncode == 0, touched.stdout


@pytest.fixture
def project(tmp_path: Path, checkout: Path) -> DryProject:
    """A project with no results."""
    return DryProject(fill_project(tmp_path, checkout))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[DryProject]:
    """A project whose demo is made, as Snakemake sees it; tests leave it as it is."""
    project = DryProject(fill_project(tmp_path_factory.mktemp("made"), checkout))
    project.pretend_all_is_made()
    yield project
    assert project.demo.format.read_text(encoding="utf-8").count(RESULTS_FORMAT["format"]) == 1
