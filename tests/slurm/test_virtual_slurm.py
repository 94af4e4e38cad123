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

from etalumis.workflow import launcher

# as in the job step of Snakemake's executor, which leaves the launcher the number of the job, not its options
BARE = 'env -i PATH="$PATH" SLURM_JOB_ID="$SLURM_JOB_ID"'


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
    srun = ast.literal_eval(training["mpi"]).replace("--mpi=pmix", "--mpi=pmi2")
    script = f"{BARE} {launcher(srun, 1)} -n 2 sh -c 'echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'"
    job = ["salloc", "--quiet", "--nodes=1", "--ntasks=2", "--mem-per-cpu=100", *options, "sh", "-c", script]
    found = sorted(slurm.call(*job).splitlines())
    assert found in [[f"{node} 0", f"{node} 1"] for node in slurm.nodes]


def test_each_rank_of_the_training_has_its_cpus(slurm: Any) -> None:
    script = f"{BARE} {launcher('srun --mpi=pmi2', 2)} -n 2 sh -c 'echo $SLURM_CPUS_PER_TASK $SLURMD_NODENAME'"
    job = ["salloc", "--quiet", "--ntasks=2", "--cpus-per-task=2", "--mem-per-cpu=100", "sh", "-c", script]
    cpus, nodes = zip(*map(str.split, slurm.call(*job).splitlines()), strict=True)
    assert cpus == ("2", "2")
    assert len(set(nodes)) == 2  # a node has two CPUs
