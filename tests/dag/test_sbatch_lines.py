# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The profiles with programs in place of SLURM's: the lines of sbatch, and what the states of array tasks become."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from dag.conftest import DryProject

ANSWERS = {"sacctmgr": "physics\nphysics_cpu\nphysics_gpu", "scontrol": "MaxArraySize = 1001", "sinfo": "1:00:00"}
DEFAULT_MIN_JOB_AGE_S = 300
"""For how long SLURM remembers ended jobs, unless a site configures something else."""


@pytest.fixture
def refuse(made: DryProject, tmp_path: Path):
    """Return a function that forces rules of a finished workflow to run, and returns the lines of sbatch."""
    programs, record = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for name in ("sbatch", "squeue", "sacct", "sacctmgr", "sshare", "scontrol", "sinfo"):
        # words in quotes lose them here; no word that a test looks at has spaces
        lines = [f"echo sbatch \"$@\" >> '{record}'", "echo sbatch: error: not today >&2", "exit 1"]
        text = "\n".join(["#!/bin/sh", *(lines if name == "sbatch" else [f"echo '{ANSWERS.get(name, '')}'"])])
        (programs / name).write_text(f"{text}\n", encoding="utf-8")
        (programs / name).chmod(0o755)

    def call(profile: str, target: str, *rules: str, config: str = "training={threads_per_task: 4}") -> list[str]:
        project = DryProject(tmp_path / "project")
        shutil.copytree(made.root, project.root, symlinks=True)
        variables = {"PATH": f"{programs}:{os.environ['PATH']}"}
        # no job is accepted, so there is no status to wait for
        words = ["--profile", profile, "--slurm-init-seconds-before-status-checks", "1"]
        words += [target, "--forcerun", *rules, "--config", config]
        done = project.snakemake(*words, variables=variables)
        assert "SLURM refused " in done.stdout, done.stdout[-3000:]
        return record.read_text(encoding="utf-8").splitlines()

    return call


def lines_of(rule: str, lines: list[str]) -> list[str]:
    return [line for line in lines if re.search(rf"--comment rule_{rule}\b", line.replace("_wildcards", " "))]


def has(line: str, *words: str) -> None:
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("profile", ["slurm", "profiles/cpu-site", "profiles/gpu-site"])
def test_each_task_of_an_array_has_its_own_state(made: DryProject, tmp_path: Path, profile: str) -> None:
    site = yaml.safe_load((made.root / profile / "config.yaml").read_text(encoding="utf-8"))
    # else the executor takes sacct, which names tasks by numbers of their own, and the last one by that of the array
    assert 3 * site["slurm-init-seconds-before-status-checks"] <= DEFAULT_MIN_JOB_AGE_S
    answers = {
        "sbatch": "7",
        "squeue": "7_1|FAILED\n7_2|COMPLETED",
        "sacct": "8|FAILED\n7|COMPLETED",
        "scontrol": f"MaxArraySize = 1001\nMinJobAge = {DEFAULT_MIN_JOB_AGE_S} sec",
    }
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, answer in (ANSWERS | answers).items():
        lines = ["#!/bin/sh", f"cat <<END\n{answer}\nEND"]
        if name == "sacct":  # without an account in the profile, the executor also asks it for one
            lines.insert(1, 'case "$*" in *Account*) echo physics; exit ;; esac')
        (programs / name).write_text("\n".join([*lines, ""]), encoding="utf-8")
        (programs / name).chmod(0o755)
    project = DryProject(tmp_path / "project")
    shutil.copytree(made.root, project.root, symlinks=True)
    words = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "1", "--retries", "0"]
    done = project.snakemake(
        *("--profile", profile, *words, "posteriors", "--forcerun", "rmh"),
        variables={"PATH": f"{programs}:{os.environ['PATH']}"},
    )
    assert re.findall(r"SLURM-job '(\w+)' failed, SLURM status is: '(\w+)'", done.stdout) == [("7_1", "FAILED")]


def test_hundreds_of_alike_jobs_are_a_few_arrays_of_short_lines(refuse) -> None:
    """The executor would lose jobs that it gets one by one, and a line that is too long would run the first only."""
    lines = refuse("slurm", "posteriors", "rmh", config="posteriors={engines: [rmh], rmh: {chains: 150}}")
    # first attempts; later ones, which request more time, are submitted meanwhile
    first = [line for line in lines if " -t 12 " in line]
    assert [re.search(r"--array=(\S+)", line)[1] for line in first] == [
        *("1-20", "21-40", "41-60", "61-80", "81-100", "101-120", "121-140", "141-150")
    ]
    assert not any("/dev/stdin" in line for line in first)
    assert max(map(len, first)) < 100_000


def test_the_profile_of_the_project(refuse) -> None:
    lines = refuse("slurm", "all", "network", "rmh")
    training, again, third = lines_of("network", lines)
    has(training, "--job-name etalumis_", " -p short ", " -t 26 ", " --mem-per-cpu 600 ")
    has(training, "--ntasks=2 --cpus-per-task=4")
    has(again, " -t 52 ", " --mem-per-cpu 1175 ")
    has(third, " -t 60 ", " --mem-per-cpu 1750 ")  # no longer than longest_min
    chains = lines_of("rmh", lines)
    has(chains[0], " -p short ", " -t 12 ", " --mem 901 ", "--ntasks=1 --cpus-per-task=1", "--array=1-2")
    assert not any(word in line for line in lines for word in (" -A ", " -C ", "--qos"))


def test_the_profile_of_a_cpu_site(refuse) -> None:
    lines = refuse("profiles/cpu-site", "all", "network", "rmh")
    for line in lines:
        has(line, " -A physics ", " -p standard ", " -C icelake ", " --qos=normal ")
    has(lines_of("network", lines)[0], "--ntasks=2 --cpus-per-task=4 --exclusive")
    has(lines_of("network", lines)[3], " -t 104 ")
    has(lines_of("rmh", lines)[0], "--array=1-2")


def test_the_profile_of_a_gpu_site(refuse) -> None:
    lines = refuse("profiles/gpu-site", "all", "network", "rmh")
    trainings = lines_of("network", lines)
    has(trainings[0], " -t 26 ")
    for line in trainings:
        has(line, " -A physics_gpu ", " -p gpu ", " --ntasks=2 --cpus-per-task=4 --gpus-per-task=1 ")
        # options that would request other numbers of GPUs or of ranks
        assert not re.search(r" --(gres|gpus|ntasks-per-gpu|cpus-per-gpu)[= ]", line), line
    chains = lines_of("rmh", lines)
    has(chains[0], " -A physics_cpu ", " -p cpu ")
    assert not any(" --gres" in line or " --gpus" in line for line in chains)


def test_the_ranks_of_a_scaling_experiment_share_a_node(refuse) -> None:
    """Their launcher starts all of them on one."""
    lines = refuse("slurm", "figure4", "experiment_ranks")
    ranks = lines_of("experiment_ranks", lines)
    assert ranks
    for line in ranks:
        has(line, "--nodes=1", "--ntasks=2")


def test_sorting_has_its_memory_by_rank(refuse) -> None:
    lines = refuse("slurm", "sorted", "sort")
    requests = {re.search(r"wildcards_(\w+) ", line)[1]: line for line in reversed(lines)}
    has(requests["train"], " -t 10 ", " --mem-per-cpu 1500 ", "--ntasks=2 --cpus-per-task=1")
    has(requests["valid"], " -t 10 ", " --mem-per-cpu 1100 ", "--ntasks=2 --cpus-per-task=1")
