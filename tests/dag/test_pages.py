# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The `snakemake` commands at the scale of the paper, as dry runs: no test can run them."""

from dag.conftest import DryProject
from pages import PAGES, commands

PAPER = "config/paper.yaml"


def test_the_commands_at_the_scale_of_the_paper_are_planned(project: DryProject) -> None:
    found = [words for page in PAGES for words in commands(page, "snakemake") if PAPER in words]
    assert len(found) >= 2
    for words in found:
        done = project.snakemake(*words, *([] if "--dry-run" in words else ["--dry-run"]), timeout_s=300)
        assert done.returncode == 0, f"snakemake {' '.join(words)}\n{done.stdout}"
