# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The `snakemake` commands of the pages, as dry runs in a folder whose demo is complete."""

import pytest
from dag.conftest import DryProject
from pages import PAGES, ROOT, commands


@pytest.fixture(scope="module")
def site(made: DryProject) -> DryProject:
    """The folder, with a profile as docs/how-to-run-on-slurm.md tells a site to make it."""
    (made.root / "mysite").symlink_to("profiles/slurm")
    return made


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in PAGES if commands(page, "snakemake")])
def test_the_snakemake_commands_of_a_page_are_planned(site: DryProject, page: str) -> None:
    for words in commands(ROOT / page, "snakemake"):
        done = site.snakemake(*words, *([] if "--dry-run" in words else ["--dry-run"]))
        assert done.returncode == 0, f"snakemake {' '.join(words)}\n{done.stdout}"
