# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the page of the SLURM profile tells a site to write, in jobs on this machine."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from projects import CONFIG, Project, Run

from etalumis.workflow import PROGRAMS

LAYERS = "results/test/layers/layers.json"


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    """A copy of a finished run, whose layer table is made again."""
    shutil.copytree(run.project.root, tmp_path / "project", symlinks=True)
    project = Project(tmp_path / "project")
    (project.root / LAYERS).unlink()
    return project


def test_jobs_may_run_in_a_container(project: Project, checkout: Path, tmp_path: Path) -> None:
    page = (checkout / "profiles" / "slurm" / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```sh\n(#!.*?)^```", page, re.MULTILINE | re.DOTALL)
    real = Path(sys.executable).parent / "etalumis"
    programs = {
        "container/etalumis": script,
        # apptainer exec --bind FOLDER IMAGE etalumis WORDS
        "bin/apptainer": f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nshift 5\nexec {real} "$@"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    assert f'export {PROGRAMS}="$PWD/container"' in page
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    variables = {"PATH": path, PROGRAMS: str(tmp_path / "container")}
    done = project.snakemake(LAYERS, "--cores", "1", "--configfile", str(CONFIG), variables=variables)
    assert done.returncode == 0, done.stdout
    assert (project.root / LAYERS).exists()
    (call,) = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert call.startswith(f"exec --bind {project.root} {project.root}/etalumis.sif etalumis --log ")


def test_temporary_files_of_a_job_go_to_the_scratch_folder(project: Project, checkout: Path, tmp_path: Path) -> None:
    profile = yaml.safe_load((checkout / "profiles" / "cpu-site" / "config.yaml").read_text(encoding="utf-8"))
    expression = profile["default-resources"]["tmpdir"]
    assert expression in (checkout / "profiles" / "slurm" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "scratch").mkdir()
    (project.root / "probe.smk").write_text(
        "rule probe:\n    output:\n        'seen'\n    shell:\n        'echo $TMPDIR > {output}'\n", encoding="utf-8"
    )
    words = ["--snakefile", "probe.smk", "--cores", "1", "--default-resources", f"tmpdir={expression}"]
    done = project.snakemake(*words, variables={"JOB_SCRATCH": str(tmp_path / "scratch")})
    assert done.returncode == 0, done.stdout
    assert (project.root / "seen").read_text(encoding="utf-8").strip() == str(tmp_path / "scratch")
