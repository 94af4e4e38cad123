# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Project folders whose Snakemake submits its jobs to a virtual SLURM."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from projects import Project

LITERAL = ("--profile", "slurm", "--configfile", "config/test.yaml")
"""Words of Snakemake, as a user types them."""
# several times what a machine of two cores needs
WAIT_S = 600
TIMEOUT_S = 1500
_FORMAT = "%i|%T|%N|%m|%l|%k"


class SlurmJob(NamedTuple):
    """A job, or one task of an array, as the controller remembers it.

    Attributes
    ----------
    number
        Number of the job, with that of the task: `7` or `7_2`.
    state
        State in words of SLURM, such as COMPLETED.
    nodes
        Nodes that it ran on, such as `n[1-2]`.
    memory, limit
        Requested memory (of a CPU or a node) and run time, in words of SLURM.
    rule
        Rule, and the wildcards; the tasks of an array all have those of the first.
    """

    number: str
    state: str
    nodes: str
    memory: str
    limit: str
    rule: str


@dataclass(frozen=True)
class SlurmProject(Project):
    """A project on a virtual SLURM."""

    slurm: Any

    @property
    def variables(self) -> dict[str, str]:
        """Environment of a login shell in which the virtual environment is active."""
        variables: dict[str, str] = self.slurm.environment()
        return {**variables, "PATH": os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])}

    def start(self, *words: str, output: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Start Snakemake or another program, with environment variables, whose output goes to a file."""
        with output.open("wb") as file:
            return subprocess.Popen(
                words,
                cwd=self.root,
                env={**self.variables, **variables},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def call(self, *words: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, and return its exit code and joined outputs."""
        return self.run_program(words, self.variables, timeout_s)

    def jobs(self, rule: str = "") -> list[SlurmJob]:
        """Return the jobs of this folder, ended or not, in the order of submission; those of a rule if given."""
        text = self.slurm.call("squeue", "--noheader", "--array", "--states=all", f"--format=%Z|{_FORMAT}")
        rows = [line.split("|", 6) for line in text.splitlines()]
        found = [SlurmJob(*row[1:5], row[5], row[6].removeprefix("rule_")) for row in rows if row[0] == str(self.root)]
        found.sort(key=lambda job: [int(part) for part in job.number.split("_")])
        return [job for job in found if job.rule.partition("_wildcards_")[0] == rule or not rule]

    def copy(self, root: Path) -> "SlurmProject":
        """Return a copy with all products, and with what Snakemake knows about them."""
        shutil.copytree(self.root, root, symlinks=True)
        return SlurmProject(root, self.slurm)


def wait_until(condition: Callable[[], object], what: str, still: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for a condition while a process runs."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert still is None or still.poll() is None, f"the process ended before {what}"
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)
