# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The `make` and `snakemake` commands of the pages, as they stand there, in a folder whose demo has the test scale.

The first, `make demo` of README.md, runs all stages; those of other pages go on from there, as a reader does.
"""

import os
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, commands
from projects import BATCH_VARIABLES, Project, fill_project, link_make, shrink_default, shrink_follower

PROGRAMS = ("make", "snakemake")
ELSEWHERE = {
    **dict.fromkeys(("make setup", "make lint", "make test", "make test-slurm", "make validate"), ".ci/run"),
    **dict.fromkeys(("make check", "make format"), "tests/unit/test_makefile.py"),
    "make docs": "tests/unit/test_docs_site.py",
    "snakemake --profile slurm --configfile config/paper.yaml": "tests/slurm/test_paper_configuration.py",
    **dict.fromkeys(("make recover", "snakemake --profile"), "tests/slurm/test_whole_workflow.py"),
}
"""How commands begin that others run: CI itself, tests without Sherpa or on SLURM."""
TIMEOUT_S = 1200


def is_elsewhere(line: str) -> bool:
    return any(line == start or line.startswith(f"{start} ") for start in ELSEWHERE)


def lines_of(page: Path) -> list[list[str]]:
    """Return the commands of a page that are run here, in their order for each program."""
    found = [(program, words) for program in PROGRAMS for words in commands(page, program)]
    return [[program, *words] for program, words in found if not is_elsewhere(" ".join([program, *words]))]


HERE = [str(page.relative_to(ROOT)) for page in PAGES if lines_of(page)]


def test_each_other_command_is_run_by_something() -> None:
    every = {" ".join([program, *words]) for page in PAGES for program in PROGRAMS for words in commands(page, program)}
    for start, file in ELSEWHERE.items():
        assert any(line.startswith(start) for line in every), f"no page has {start}"
        assert (ROOT / file).is_file()
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").split("\n")
    assert {"make test", "make validate || failed=1"} <= set(ci)
    assert any(line.startswith("make test-slurm ") for line in ci)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, checkout: Path, sherpa_simulator: Path) -> Path:
    """A new checkout; Sherpa is in the cache already."""
    assert (sherpa_simulator / "build.json").exists()
    root = fill_project(tmp_path_factory.mktemp("pages"), checkout)
    link_make(root, checkout)
    shrink_default(root, "demo")
    shrink_follower(root, "hard.yaml", "demo")
    return root


@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize("page", HERE)
def test_the_commands_of_a_page_run(project: Path, checkout: Path, page: str) -> None:
    cache = os.environ.get("ETALUMIS_CACHE", str(checkout / ".cache"))
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    variables |= {**BATCH_VARIABLES, "PATH": path, "ETALUMIS_CACHE": cache}
    for words in lines_of(ROOT / page):
        done = Project(project).run_program(words, variables, TIMEOUT_S)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-6000:]}"
