# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/virtual_slurm.py from the command line: a SLURM that lasts as long as a command."""

import subprocess
import sys
from pathlib import Path
from typing import Any


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
