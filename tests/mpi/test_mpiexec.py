# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Ranks start on this machine, whatever the variables of a batch system say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import BATCH_VARIABLES


def launch(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "etalumis.mpiexec", *words],
        env={**os.environ, **BATCH_VARIABLES, "TMPDIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_ranks_start_under_the_variables_of_a_batch_system(tmp_path: Path) -> None:
    program = """
import os
from mpi4py.MPI import COMM_WORLD
assert "SLURM_NODELIST" not in os.environ
os.write(1, f"{COMM_WORLD.size}. ".encode())
"""
    done = launch(tmp_path, "-n", "2", sys.executable, "-c", program)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["2.", "2."], "")


def test_a_job_of_several_nodes_of_which_one_is_used_is_warned_of(tmp_path: Path) -> None:
    done = launch(tmp_path, "-n", "2", "true", SLURM_JOB_NUM_NODES="2")
    assert done.returncode == 0
    assert "the SLURM job has 2 nodes, but all 2 ranks start on this one" in done.stderr


def test_the_exit_code_is_that_of_the_program(tmp_path: Path) -> None:
    assert launch(tmp_path, "-n", "1", "sh", "-c", "exit 3").returncode == 3


def test_a_launch_without_a_rank_ends_with_an_error(tmp_path: Path) -> None:
    program = tmp_path / "mpiexec"
    program.write_text("#!/bin/sh\nexec sleep 1000\n", encoding="utf-8")
    program.chmod(0o755)
    done = launch(tmp_path, "--mpiexec", str(program), "--start-timeout", "0.2", "-n", "2", "true")
    assert done.returncode != 0
    assert "no rank started within 0.2 s" in done.stderr


@pytest.mark.parametrize("ranks", ["0", "-1", "two"])
def test_the_number_of_ranks_is_a_positive_whole_number(tmp_path: Path, ranks: str) -> None:
    done = launch(tmp_path, "-n", ranks, "true")
    assert done.returncode == 2
    assert f"expected a whole number from 1, found {ranks}" in done.stderr


def test_two_hyphens_may_precede_the_program(tmp_path: Path) -> None:
    done = launch(tmp_path, "-n", "1", "--", "echo", "one")
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")


def test_a_missing_program_is_named_once(tmp_path: Path) -> None:
    done = launch(tmp_path, "-n", "2", "no-such-program")
    assert done.returncode == 2
    assert done.stderr.count("no-such-program") == 1
    assert str(tmp_path) not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_program_that_cannot_be_executed_is_named_without_a_path_of_ours(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n", encoding="utf-8")
    program.chmod(0o755)
    done = launch(tmp_path, "-n", "1", str(program))
    assert done.returncode != 0
    assert str(program) in done.stderr
    assert "etalumis-mpi-" not in done.stderr
