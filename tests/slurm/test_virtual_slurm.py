# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/virtual_slurm.py from the command line: a SLURM that lasts as long as a command; requests of GPUs on it."""

import ast
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def test_a_command_runs_on_a_slurm_of_its_own(slurm: Any, checkout: Path) -> None:
    script = [sys.executable, str(checkout / "scripts" / "virtual_slurm.py")]
    call = [*script, "srun", "--nodes=2", "--ntasks=2", "--mem=100", "printenv", "SLURMD_NODENAME"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = done.stdout.split()
    assert len(found) == len(set(found)) == 2
    assert set(found) < set(slurm.nodes)  # nodes of the same names, of another SLURM
    failed = subprocess.run([*script, "false"], capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode == 1


def test_each_rank_of_the_gpu_profile_has_a_gpu_of_its_own(slurm: Any, checkout: Path) -> None:
    profile = yaml.safe_load((checkout / "profiles" / "gpu-site" / "config.yaml").read_text(encoding="utf-8"))
    training = profile["set-resources"]["network"]
    options = shlex.split(ast.literal_eval(training["slurm_extra"]))
    # SLURM's package lacks the library of PMIx
    launcher = ast.literal_eval(training["mpi"]).replace("--mpi=pmix", "--mpi=pmi2")
    # as in the job step of Snakemake's executor, which leaves the launcher the number of the job, not its options
    bare = 'env -i PATH="$PATH" SLURM_JOB_ID="$SLURM_JOB_ID"'
    script = f"{bare} {launcher} -n 2 sh -c 'echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'"
    job = ["salloc", "--quiet", "--nodes=1", "--ntasks=2", "--mem-per-cpu=100", *options, "sh", "-c", script]
    found = sorted(slurm.call(*job).splitlines())
    assert found in [[f"{node} 0", f"{node} 1"] for node in slurm.nodes]
