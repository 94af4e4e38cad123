# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Jobs and Snakemake that end too early on a real SLURM: what goes on gives the values of an undisturbed run."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from projects import fill_project
from same_results import require_same
from slurm_projects import LITERAL, TIMEOUT_S, SlurmProject, wait_until

from etalumis.cli.time_limit import MARGIN
from etalumis.inference.posterior import Posterior

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)

# long enough to be stopped by a time limit on any machine, with much left to do
TRAINING = ["network", "--config", "training={max_traces: 24000, max_minutes: null, valid_every: 500}"]
CHAINS = ["results/test/posteriors/rmh.h5", "--config", "posteriors={rmh: {runs: 60000, thin: 10}}"]
STOP_EARLY = {MARGIN: "150"}
"""Stop two and a half minutes before the time limit: a job may need two to begin, if the machine has other work."""
STATUS = ["--slurm-init-seconds-before-status-checks", "2"]


@pytest.fixture(scope="module")
def made(slurm: Any, tmp_path_factory: pytest.TempPathFactory, checkout: Path, sherpa_simulator: Path) -> SlurmProject:
    """A project with a simulator, an observation and a layer table, which tests copy."""
    assert (sherpa_simulator / "build.json").exists()
    project = SlurmProject(fill_project(tmp_path_factory.mktemp("made"), checkout), slurm)
    targets = ["results/test/layers/layers.json", "results/test/observation/observation.h5"]
    targets.append("results/test/sorted/valid/index.json")
    done = project.call("snakemake", "--configfile", "config/test.yaml", "--cores", "2", *targets)
    assert done.returncode == 0, done.stdout[-6000:]
    return project


class Background(NamedTuple):
    """A workflow that runs while other tests do."""

    project: SlurmProject
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def undisturbed_training(made: SlurmProject, tmp_path_factory: pytest.TempPathFactory) -> Background:
    """A training that nothing interrupts."""
    folder = tmp_path_factory.mktemp("undisturbed")
    project = made.copy(folder / "project")
    return Background(project, project.start("snakemake", *LITERAL, *STATUS, *TRAINING, output=folder / "output"))


@pytest.fixture(scope="module")
def chains(made: SlurmProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The posterior of two chains that nothing interrupts."""
    project = made.copy(tmp_path_factory.mktemp("chains") / "project")
    done = project.call("snakemake", "--configfile", "config/test.yaml", "--cores", "2", *CHAINS)
    assert done.returncode == 0, done.stdout[-6000:]
    return project.paths("test").posterior("rmh")


def start_chains(project: SlurmProject, output: Path) -> "subprocess.Popen[bytes]":
    """Start the chains as jobs, and return when both are working."""
    process = project.start("snakemake", *LITERAL, *STATUS, *CHAINS, output=output)
    paths = project.paths("test")
    logs = [paths.log("posteriors", f"rmh-{chain:02d}") for chain in range(2)]

    def working() -> bool:
        return all(log.exists() and "conditioned on" in log.read_text(encoding="utf-8") for log in logs)

    wait_until(working, "both chains work", process)
    return process


def limits(rule: str) -> list[str]:
    """Return arguments of Snakemake: 3 minutes for the first two attempts of a rule, 12 for the third.

    The second is as short as the first, in case MPI cannot start at the first.
    """
    return ["--set-resources", f"{rule}:runtime=3*4**(attempt//3)"]


def recover(project: SlurmProject, *words: str) -> "subprocess.CompletedProcess[str]":
    return project.call(sys.executable, "scripts/recover.py", "--poll", "1", *words, *LITERAL, *STATUS, *CHAINS)


def test_a_living_snakemake_is_left_alone(made: SlurmProject, undisturbed_training: Background) -> None:
    assert undisturbed_training.process.poll() is None
    done = recover(undisturbed_training.project)
    assert done.returncode == 1
    assert "found a living one in this folder" in done.stdout


def test_a_killed_snakemake_is_recovered_without_submitting_twice(
    made: SlurmProject, tmp_path: Path, undisturbed_training: object, chains: Path
) -> None:
    project = made.copy(tmp_path / "project")
    snakemake = start_chains(project, tmp_path / "output")
    os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    assert {job.state for job in project.jobs("rmh")} == {"RUNNING"}
    done = recover(project)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "waiting for them" in done.stdout
    assert re.search(r"keeping 2 products of jobs that completed: \S+rmh-00.h5, \S+rmh-01.h5", done.stdout)
    assert [(job.rule.partition("_wildcards_")[0], job.state) for job in project.jobs()] == [
        ("rmh", "COMPLETED"), ("rmh", "COMPLETED"), ("gather", "COMPLETED"),
    ]  # fmt: skip
    require_same(project.paths("test").posterior("rmh"), chains)
    # what was kept is known with its settings: a change of them makes it again
    again = project.call("snakemake", *LITERAL, "--dry-run", *CHAINS)
    assert "Nothing to be done" in again.stdout
    changed = project.call("snakemake", *LITERAL, "--dry-run", CHAINS[0], "--config", "posteriors={rmh: {runs: 70000}}")
    assert re.search(r"^rmh +2$", changed.stdout, re.MULTILINE)


def test_recovering_may_cancel_the_jobs_which_then_resume(
    made: SlurmProject, tmp_path: Path, undisturbed_training: object, chains: Path
) -> None:
    project = made.copy(tmp_path / "project")
    snakemake = start_chains(project, tmp_path / "output")
    os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    done = recover(project, "--cancel")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "cancelling 2 of them" in done.stdout
    assert sorted(job.state for job in project.jobs("rmh")) == ["CANCELLED", "CANCELLED", "COMPLETED", "COMPLETED"]
    require_same(project.paths("test").posterior("rmh"), chains)


def test_a_training_stops_before_its_time_limit_and_goes_on_from_its_checkpoint(
    made: SlurmProject, tmp_path: Path, undisturbed_training: Background
) -> None:
    project = made.copy(tmp_path / "project")
    paths = project.paths("test")
    launcher = "network:mpi=srun --mpi=pmi2"  # the profile's, which the option replaces with all of its set-resources
    words = [*LITERAL, *STATUS, *TRAINING, *limits("network"), launcher]
    snakemake = project.start("snakemake", *words, output=tmp_path / "output", **STOP_EARLY)
    assert snakemake.wait(TIMEOUT_S) == 0, (tmp_path / "output").read_text(encoding="utf-8")[-6000:]
    states = [job.state for job in project.jobs("network")]
    assert states[0] == "FAILED"  # TIMEOUT if SLURM had ended it
    assert "TIMEOUT" not in states
    assert states[-1] == "COMPLETED"
    assert "training was interrupted" in (tmp_path / "output").read_text(encoding="utf-8")
    log = paths.log("network", "train").read_text(encoding="utf-8")
    resumed = [int(number) for number in re.findall(r"training resumes from iteration (\d+)", log)]
    assert resumed
    assert min(resumed) > 0

    assert undisturbed_training.process.wait(TIMEOUT_S) == 0
    theirs = undisturbed_training.project.paths("test")
    mine, other = (json.loads(folder.network_manifest.read_text(encoding="utf-8")) for folder in (paths, theirs))
    assert mine["tensors_sha256"] == other["tensors_sha256"]


def test_chains_stop_before_their_time_limit_and_go_on(made: SlurmProject, tmp_path: Path) -> None:
    project = made.copy(tmp_path / "project")
    # four times as long as the others, so that they last longer than half a minute on any machine
    long = [CHAINS[0], "--config", "posteriors={rmh: {runs: 240000, thin: 10}}"]
    words = [*LITERAL, *STATUS, *long, *limits("rmh")]
    snakemake = project.start("snakemake", *words, output=tmp_path / "output", **STOP_EARLY)
    assert snakemake.wait(TIMEOUT_S) == 0, (tmp_path / "output").read_text(encoding="utf-8")[-6000:]
    states = [job.state for job in project.jobs("rmh")]
    assert states[:2] == ["FAILED", "FAILED"]  # both tasks of the array; TIMEOUT if SLURM had ended them
    assert "TIMEOUT" not in states
    assert states.count("COMPLETED") == 2
    assert len(Posterior.load(project.paths("test").posterior("rmh"))) == 9000


def test_a_job_killed_for_its_memory_asks_for_more(made: SlurmProject, tmp_path: Path) -> None:
    project = made.copy(tmp_path / "project")
    product = "results/test/observation/observation.h5"
    less = ["--set-resources", "observation:mem_mb=150*attempt*attempt"]
    done = project.call("snakemake", *LITERAL, *STATUS, product, "--forcerun", "observation", *less)
    assert done.returncode == 0, done.stdout[-6000:]
    jobs = project.jobs("observation")
    assert [job.memory for job in jobs[:2]] == ["150M", "600M"]
    # this SLURM has no cgroups, which a state OUT_OF_MEMORY needs; the log of the job says why it ended
    assert jobs[0].state in ("FAILED", "CANCELLED")
    assert f"StepId={jobs[0].number}.batch exceeded memory limit" in done.stdout
    assert jobs[-1].state == "COMPLETED"
    theirs = made.paths("test").observation.read_bytes()
    assert project.paths("test").observation.read_bytes() == theirs


def test_chains_survive_a_cancelled_job_and_a_dead_node(made: SlurmProject, tmp_path: Path, chains: Path) -> None:
    project = made.copy(tmp_path / "project")
    snakemake = start_chains(project, tmp_path / "output")
    first, second = project.jobs("rmh")
    made.slurm.call("scancel", first.number)
    made.slurm.kill_node(second.nodes)
    try:
        assert snakemake.wait(TIMEOUT_S) == 0, (tmp_path / "output").read_text(encoding="utf-8")[-6000:]
    finally:
        made.slurm.start_node(second.nodes)
    states = [job.state for job in project.jobs("rmh")]
    assert states[0] == "CANCELLED"
    assert sorted(states[1:]) == ["COMPLETED", "COMPLETED"]
    assert all(job.nodes != second.nodes for job in project.jobs("rmh")[1:])
    require_same(project.paths("test").posterior("rmh"), chains)
