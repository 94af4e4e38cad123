# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Folders with the workflow in them, so that a test meets neither the checkout's results nor an edit beside it."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from etalumis.config import Config
from etalumis.paths import Paths

LINKED = ("config", "workflow", "profiles", "slurm", "environment.yml")
# what rules take as input: a copy, which a test may change
COPIED = ("src/cpp", "resources")


@dataclass(frozen=True)
class Project:
    """A folder with the workflow in it, and Snakemake run there."""

    root: Path

    def paths(self, run: str) -> Paths:
        """Return where the products of a run are."""
        return Paths(run, self.root / "results")

    def snakemake(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Snakemake and return its exit code with both outputs as one."""
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def fill_project(root: Path, checkout: Path) -> Path:
    """Put the workflow and its inputs into a folder."""
    for name in LINKED:
        (root / name).symlink_to(checkout / name)
    for name in COPIED:
        shutil.copytree(checkout / name, root / name)
    return root


CONFIG = Path("config/test.yaml")


@dataclass(frozen=True)
class Run:
    """A finished run of the workflow at test scale."""

    project: Project
    config: Config
    paths: Paths

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake with the test configuration."""
        return self.project.snakemake("--configfile", str(CONFIG), *arguments, timeout_s=540)
