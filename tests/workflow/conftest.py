# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""One uninterrupted run of the whole workflow, for all tests of its products."""

from pathlib import Path

import pytest
from projects import CONFIG, Project, Run, fill_project

from etalumis.config import load


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, checkout: Path, sherpa_simulator: Path) -> Run:
    """Run all stages once, in a folder that shares sources and build products with the checkout."""
    assert (sherpa_simulator / "build.json").exists()
    project = Project(fill_project(tmp_path_factory.mktemp("whole"), checkout))
    config = load(checkout / CONFIG)
    run = Run(project, config, project.paths(config.run.name))
    done = run.snakemake("--cores", "2")
    assert done.returncode == 0, done.stdout[-6000:]
    return run
