# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A separate project folder for every test, so that dry runs do not see the results of the checkout."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project, fill_project

from etalumis.config import load
from etalumis.paths import FIGURES, RESULTS_FORMAT, Paths, figure_target
from etalumis.results import write_run_files

# rules without a job, and the last line of the table
NO_JOBS = (
    *("all", "traces", "sorted", "posteriors", "paper_figures", "total"),
    *map(figure_target, FIGURES),
)
JOB_LINE = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)


def jobs_of(output: str) -> dict[str, int]:
    """Return the number of jobs per rule in the table of a dry run, without rules that have no job of their own."""
    if "Nothing to be done" in output:
        return {}
    table = output.partition("Job stats:")[2].partition("\n\n")[0]
    return {name: int(count) for name, count in JOB_LINE.findall(table) if name not in NO_JOBS}


class DryProject(Project):
    """A project for dry runs."""

    @property
    def demo(self) -> Paths:
        """Return the paths of the demo."""
        return self.paths("demo")

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Return the number of jobs per rule that Snakemake would run, without rules that have no job of their own."""
        return jobs_of(self.dry_run(*arguments))

    def dry_run(self, *arguments: str) -> str:
        """Return the output of a dry run."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def pretend_complete(self, *arguments: str) -> None:
        """Write every product, as a file that contains its own name, and let Snakemake record it as up to date."""
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
    """A project without results."""
    return DryProject(fill_project(tmp_path, checkout))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[DryProject]:
    """A project whose demo is complete for Snakemake; tests must not change it."""
    project = DryProject(fill_project(tmp_path_factory.mktemp("made"), checkout))
    project.pretend_complete()
    yield project
    assert project.demo.format.read_text(encoding="utf-8").count(RESULTS_FORMAT["format"]) == 1
