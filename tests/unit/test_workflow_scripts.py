# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What scripts/run_workflow.py and scripts/recover.py do before they call Snakemake."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from projects import load_script

from etalumis.workflow import launcher


@pytest.mark.parametrize("mpi", ["srun --mpi=pmi2", "/opt/slurm/bin/srun --mpi=pmix --gpus-per-task=1"])
def test_srun_is_told_the_cpus_of_a_rank(mpi: str) -> None:
    assert launcher(mpi, 16) == f"{mpi} --cpus-per-task=16"


@pytest.mark.parametrize("mpi", ["mpirun", "python -m etalumis.mpiexec"])
def test_another_launcher_stays_as_it_is(mpi: str) -> None:
    assert launcher(mpi, 16) == mpi


@pytest.mark.parametrize(("files", "keys"), [("--configfile", "--config"), ("--configfiles", "-C")])
def test_options_of_the_configuration_have_the_names_of_snakemake(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, files: str, keys: str
) -> None:
    words = [files, str(checkout / "config" / "test.yaml"), keys, "run={name: other}"]
    canonical = ["--configfile", words[1], "--config", words[3]]
    calls: list[list[str]] = []

    run_workflow = load_script(checkout / "scripts" / "run_workflow.py")
    monkeypatch.setattr(run_workflow, "run_snakemake", lambda command: calls.append(command) or 1)
    monkeypatch.setattr("sys.argv", ["run_workflow.py", "--report-only", *words])
    run_workflow.main()
    assert "results/other/workflow.html" in calls[0]

    recover = load_script(checkout / "scripts" / "recover.py")
    names: list[str] = []
    for step in ("refuse_a_living_snakemake", "wait_for_jobs", "unlock"):
        monkeypatch.setattr(recover, step, lambda *args, **options: None)
    monkeypatch.setattr(recover, "submitted_products", lambda: [])
    monkeypatch.setattr(
        recover, "keep_completed", lambda words, config, *args, **options: names.append(config.run.name)
    )
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: calls.append(command) or SimpleNamespace(returncode=0)
    )
    assert recover.main(words) == 0
    assert names == ["other"]
    assert [call[call.index("snakemake") + 1 :][:4] for call in calls] == [canonical, canonical]


@pytest.fixture
def snakemake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A list of processes, which end after the test."""
    processes: list[subprocess.Popen[bytes]] = []
    monkeypatch.chdir(tmp_path)
    yield processes
    for process in processes:
        process.kill()
        process.wait()


# a login shell, an salloc shell, a job, which calls Snakemake and etalumis
@pytest.mark.parametrize(
    ("words", "variables", "refused"),
    [
        (["snakemake", "--profile", "slurm"], {}, True),
        (["snakemake", "--profile", "slurm"], {"SLURM_JOB_ID": "7"}, True),
        (["snakemake", "--target-jobs", "rmh:", "--mode", "remote"], {"SLURM_JOB_ID": "7"}, False),
        (["etalumis", "posteriors", "rmh"], {"SLURM_JOB_ID": "7"}, False),
    ],
)
def test_only_the_processes_of_jobs_may_live_beside_a_recovery(
    snakemake: list[subprocess.Popen[bytes]],
    checkout: Path,
    tmp_path: Path,
    words: list[str],
    variables: dict[str, str],
    refused: bool,
) -> None:
    recover = load_script(checkout / "scripts" / "recover.py")
    program = tmp_path / words[0]
    program.write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    outside = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    snakemake.append(subprocess.Popen([sys.executable, str(program), *words[1:]], env={**outside, **variables}))
    assert snakemake[0].pid in recover.running_here()
    if refused:
        with pytest.raises(recover.RecoveryError, match=f"a living one in this folder:\n  {snakemake[0].pid} "):
            recover.refuse_a_living_snakemake()
    else:
        recover.refuse_a_living_snakemake()
