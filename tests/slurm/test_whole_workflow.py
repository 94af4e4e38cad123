# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The whole workflow on a real SLURM, by the command that a user types: `snakemake --profile slurm`."""

import csv
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ROOT
from projects import fill_project, link_make, shrink_default
from same_results import require_same, without_measured
from slurm_projects import LITERAL, TIMEOUT_S, SlurmProject, wait_until

from etalumis.config import load
from etalumis.inference.posterior import Posterior
from etalumis.paths import FIGURES, SORTED_SPLITS, Paths
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.workflow import posterior_files, trace_files

ARRAYS = {"generate": 4, "rmh": 2, "network_rmh": 2, "ic": 2, "smc": 2}
SINGLE = {"simulator": 1, "observation": 1, "sort": 2, "verify": 1, "layers": 1, "network": 1, "gather": 4}
SINGLE |= {"diagnostics": 1, "figures": 1, "report": 1}

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)


@pytest.fixture(scope="module")
def project(
    slurm: Any, tmp_path_factory: pytest.TempPathFactory, checkout: Path, sherpa_simulator: Path
) -> SlurmProject:
    """A project in which the commands of docs/how-to-run-on-slurm.md ran the whole workflow."""
    assert (sherpa_simulator / "build.json").exists()  # built, and Sherpa fetched, before the clock of SLURM runs
    project = SlurmProject(fill_project(tmp_path_factory.mktemp("slurm"), checkout), slurm)
    shrink_default(project.root, "test")
    for command in ("snakemake --profile slurm --dry-run", "snakemake --profile slurm"):
        require_on_page(command)
        done = project.call(*command.split())
        assert done.returncode == 0, done.stdout[-8000:]
    return project


def require_on_page(command: str) -> None:
    """Require that a line of the page is this command."""
    page = (ROOT / "docs" / "how-to-run-on-slurm.md").read_text(encoding="utf-8")
    assert f"\n    {command}\n" in page


@pytest.fixture(scope="module")
def paths(project: SlurmProject) -> Paths:
    return project.paths("test")


def test_every_job_completed_at_its_first_attempt(project: SlurmProject) -> None:
    jobs = project.jobs()
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert Counter(job.rule.partition("_wildcards_")[0] for job in jobs) == ARRAYS | SINGLE
    done = project.call("snakemake", *LITERAL, "--dry-run")
    assert "Nothing to be done" in done.stdout, done.stdout


def test_alike_jobs_are_one_submission(project: SlurmProject) -> None:
    for rule, count in ARRAYS.items():
        numbers = [job.number.partition("_") for job in project.jobs(rule)]
        assert len({number for number, _, _ in numbers}) == 1, rule
        assert sorted(task for _, _, task in numbers) == [str(task) for task in range(1, count + 1)]


@pytest.mark.parametrize("rule", ["sort", "network"])
def test_mpi_jobs_have_a_rank_on_each_of_two_nodes(project: SlurmProject, rule: str) -> None:
    """Every rank writes a log; a program of one rank that was asked for two would have stopped (`--world-size`)."""
    assert all(re.fullmatch(r"n\[\d[-,]\d\]", job.nodes) for job in project.jobs(rule))
    stage = {"sort": "sorted", "network": "network"}[rule]
    ranks = [path.name for path in project.paths("test").log(stage, "train").parent.glob("train.log*")]
    assert sorted(ranks) == ["train.log", "train.log.rank1"]


def test_the_world_of_two_nodes_has_both_ranks(project: SlurmProject) -> None:
    program = (
        "import os; from mpi4py import MPI; w = MPI.COMM_WORLD\n"
        "print(w.size, sorted(w.allgather(os.environ['SLURMD_NODENAME'])))"
    )
    launch = ["srun", "--mpi=pmi2", "--nodes=2", "--ntasks=2", "--mem=500"]
    done = project.call(*launch, sys.executable, "-c", program, timeout_s=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert re.fullmatch(r"2 \['n\d', 'n\d'\]", lines[0])
    assert len(set(re.findall(r"n\d", lines[0]))) == 2


def test_programs_of_one_rank_each_stop_instead_of_working_in_parallel(project: SlurmProject, paths: Paths) -> None:
    output = project.root / "never"
    done = project.call(
        *("srun", "--mpi=none", "--nodes=2", "--ntasks=2", "--mem=800", "etalumis", "traces", "sort"),
        *("--config", str(paths.config), "--input", str(paths.traces("valid", 0))),
        *("--output", str(output), "--world-size", "2"),
        timeout_s=120,
    )
    assert done.returncode != 0
    assert "--world-size 2: expected this number of MPI ranks, found 1" in done.stdout, done.stdout
    assert not (output / "index.json").exists()


def test_products_are_complete_and_finite(project: SlurmProject, paths: Paths) -> None:
    config = load(project.root / "config" / "test.yaml")
    for split in SORTED_SPLITS:
        before = TraceDataset(trace_files(paths, config, split))
        after = TraceDataset(paths.sorted_index(split))
        assert len(after) == getattr(config.traces, split)
        assert np.array_equal(np.sort(after.column("seed")), np.sort(before.column("seed")))
    with (paths.network / "history.csv").open(encoding="utf-8") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert np.isfinite(losses).all()
    for engine in config.posteriors.engines:
        whole = Posterior.load(paths.posterior(engine))
        parts = [Posterior.load(path) for path in posterior_files(paths, config, engine)]
        assert len(whole) == sum(map(len, parts)) > 0
        assert np.isfinite(whole.log_likelihood).all()
    assert all(paths.figure(name).stat().st_size > 1000 for name in FIGURES)


# rule whose job runs when Snakemake is killed, and what `make recover` does with the job
KILL_POINTS = {
    "generating traces": ("generate", ""),
    "sorting": ("sort", "--cancel"),
    "training": ("network", "--cancel"),
    "sampling": ("smc", ""),
    "drawing figures": ("figures", "--cancel"),
}


def test_a_run_that_is_killed_at_five_points_ends_with_the_same_products(
    project: SlurmProject, paths: Paths, tmp_path: Path, checkout: Path
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    killed = SlurmProject(fill_project(folder, checkout), project.slurm)
    link_make(killed.root, checkout)
    words = ["snakemake", *LITERAL]
    for number, (moment, (rule, action)) in enumerate(KILL_POINTS.items()):
        output = tmp_path / f"output{number}"
        call = killed.start(*words, output=output)
        wait_until(lambda rule=rule: any(job.state == "RUNNING" for job in killed.jobs(rule)), moment, call)
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()
        words = ["make", "recover", f"ARGS=--configfile config/test.yaml --poll 1 {action}"]
    done = killed.call(*words)
    assert done.returncode == 0, done.stdout[-6000:]

    mine = killed.paths("test")
    for product in ("simulator/build.json", "traces", "sorted", "layers", "network/tensors.pt", "observation"):
        assert contents(mine.root / product) == contents(paths.root / product), product
    config = load(project.root / "config" / "test.yaml")
    for engine in config.posteriors.engines:
        require_same(mine.posterior(engine), paths.posterior(engine))
    found, expected = (
        without_measured(json.loads(where.diagnostics.read_text(encoding="utf-8"))) for where in (mine, paths)
    )
    assert json.dumps(found) == json.dumps(expected)  # NaN is not equal to itself
    for name in FIGURES:
        for suffix in ("png", "pdf"):
            assert mine.figure(name, suffix).read_bytes() == paths.figure(name, suffix).read_bytes(), (name, suffix)


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of all files in a folder, but not of the records of where and when."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    assert files, path
    return {
        str(file.relative_to(path)): file.read_bytes() for file in files if not file.name.endswith(".provenance.json")
    }


def test_a_refused_job_is_explained_in_words(project: SlurmProject, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    shared = (copy.root / "profiles").resolve()
    (copy.root / "profiles").unlink()
    shutil.copytree(shared, copy.root / "profiles")
    for command in ("cp -r profiles/slurm profiles/mysite", "ln -s profiles/mysite mysite"):
        require_on_page(command)
        assert copy.call(*command.split()).returncode == 0
    # a site whose partition is shorter than its profile says
    profile = copy.root / "profiles" / "mysite" / "config.yaml"
    text = profile.read_text(encoding="utf-8")
    assert "longest_min: 60 " in text
    assert "retries: 2 " in text
    text = text.replace("longest_min: 60 ", "longest_min: 600 ").replace("retries: 2 ", "retries: 0 ")
    profile.write_text(text, encoding="utf-8")
    command = "snakemake --profile mysite"
    require_on_page(command)
    assert copy.call(*command.split()).returncode == 0
    done = copy.call(*command.split(), "observation", "--config", "traces={test: 10000000}")
    assert done.returncode != 0
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("SLURM refused ")]
    assert re.match(
        r"SLURM refused generate \(test_000\): it requests 181 minutes, and the partition short allows ", said
    )
    assert "longest_min" in said
    assert "1:00:00" in said
    assert copy.jobs() == []
    command = "python scripts/recover.py --profile mysite --configfile config/test.yaml"
    require_on_page(command)
    done = copy.call(*command.split())
    assert done.returncode == 0, done.stdout


def test_the_workflow_runs_on_a_slurm_of_its_own(project: SlurmProject, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    paths = copy.paths("test")
    paths.report.unlink()
    command = "python3 scripts/virtual_slurm.py snakemake --profile slurm --configfile config/test.yaml"
    require_on_page(command)
    done = copy.call(*command.split())
    assert done.returncode == 0, done.stdout[-6000:]
    assert paths.report.exists()
