# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The commands for the paper's scale on a real SLURM, as they stand on the page, with the sizes of the tests."""

import json
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, commands
from projects import fill_project, shrink_paper
from slurm_projects import TIMEOUT_S, SlurmProject

from etalumis.config import load
from etalumis.inference.posterior import Posterior
from etalumis.paths import figures_of

PAGE = ROOT / "docs" / "reproduce-the-paper.md"
PAPER = "config/paper.yaml"

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)


def test_the_commands_at_the_scale_of_the_paper_run(
    slurm: Any, tmp_path: Path, checkout: Path, sherpa_simulator: Path
) -> None:
    assert (sherpa_simulator / "build.json").exists()
    project = SlurmProject(fill_project(tmp_path, checkout), slurm)
    shrink_paper(project.root)
    here = [[program, *words] for program in ("etalumis", "snakemake") for words in commands(PAGE, program)]
    here = [words for words in here if PAPER in words]
    assert ["snakemake", "--profile", "slurm", "--configfile", PAPER] in here
    for words in here:
        done = project.call(*words)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-8000:]}"

    config, written = load(project.root / PAPER), load(ROOT / PAPER)
    # sizes are those of the tests; what makes the training the paper's is its own
    for section, keys in {
        "network": ("embedding", "mixture_components", "lstm_layers", "sample_embedding"),
        "training": ("optimizer", "schedule", "learning_rate", "learning_rate_end", "gradient_clip", "noise_start"),
    }.items():
        for key in keys:
            assert getattr(getattr(config, section), key) == getattr(getattr(written, section), key)
    assert config.observation == written.observation
    jobs = project.jobs()
    assert {job.state for job in jobs} == {"COMPLETED"}
    engines = written.posteriors.engines
    assert {engine: len(project.jobs(engine)) for engine in engines} == {"rmh": 2, "ic": 2}
    paths = project.paths("paper")
    manifest = json.loads((paths.network / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["training"]["traces"] == config.training.max_traces
    assert manifest["training"]["world_size"] == config.training.tasks == 2
    for engine in engines:
        assert len(Posterior.load(paths.posterior(engine))) > 0
    assert all(paths.figure(name).stat().st_size > 1000 for name in figures_of(engines))
    assert paths.report.exists()
