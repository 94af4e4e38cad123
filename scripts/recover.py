# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Resume a workflow on SLURM whose Snakemake was killed: no job is submitted twice, and no finished work is lost.

    python scripts/recover.py --profile slurm --configfile config/test.yaml

A killed Snakemake leaves its jobs in the queue and a lock in the folder. This script finds the jobs, waits for them (or
cancels them), removes the lock, lets Snakemake record the products of the jobs that completed, and calls it again with
the words that it is given. Call it in the same folder and with the same words as before.
"""

import argparse
import base64
import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from run_workflow import LOCKS, add_configuration, configuration_words, is_workflow_process, running_here, say

from etalumis.cli.arguments import Parser
from etalumis.cli.streams import standard_streams
from etalumis.config import DEFAULT_FILE, Config, read, to_yaml
from etalumis.errors import EtalumisError
from etalumis.files import write_text_atomic
from etalumis.paths import SORTED_SPLITS, SPLITS, Paths
from etalumis.workflow import paths_of, posterior_files, trace_files, trains

METADATA = Path(".snakemake/metadata")
"""Snakemake's records of finished products and their settings."""
INCOMPLETE = Path(".snakemake/incomplete")
"""Snakemake's marks of products whose jobs it has submitted and not seen ending; each names its SLURM job."""
POLL_S = 10.0
TIMEOUT_S = 60
# number, state, folder, comment of the executor (rule and wildcards)
FORMAT = "%i|%T|%Z|%k"


class RecoveryError(Exception):
    """The workflow cannot be recovered now; the message says why and what to do."""


class Job(NamedTuple):
    """A job of SLURM that Snakemake submitted in this folder."""

    number: str
    state: str
    what: str


def main(argv: Sequence[str] | None = None) -> int:
    """Recover and resume; return Snakemake's exit code."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        epilog="Unknown options are passed to Snakemake.",
    )  # fmt: skip
    parser.add_argument(
        "--cancel", action="store_true", help="cancel the jobs that are left, instead of waiting for them"
    )
    parser.add_argument("--poll", type=float, default=POLL_S, metavar="S", help="seconds between looks at the queue")
    add_configuration(parser)  # to compare it with that of the run
    args, rest = parser.parse_known_args(argv)
    words = [sys.executable, "-m", "snakemake", *configuration_words(args)]
    try:
        config = read(args.configfile or [DEFAULT_FILE], args.config)
        refuse_a_living_snakemake()
        submitted = dict(submitted_products())
        wait_for_jobs(cancel=args.cancel, poll_s=args.poll)
        unlock(words)
        stored = Paths(config.run.name).config
        same = stored.is_file() and stored.read_text(encoding="utf-8") == to_yaml(config)
        keep_completed(words, config, submitted, same_configuration=same)
    except (EtalumisError, RecoveryError) as error:
        say(f"error: {error}")
        return 1
    # targets before --configfile, which takes all words that follow
    again = [*words[:3], *rest, *words[3:]]
    say("resuming: " + " ".join(again[2:]))
    return subprocess.run(again, check=False).returncode


def refuse_a_living_snakemake() -> None:
    """Raise if Snakemake runs in this folder on this machine, apart from the processes of its SLURM jobs."""
    found = []
    for number, command in running_here().items():
        try:
            in_job = "SLURM_JOB_ID" in psutil.Process(number).environ()
        except psutil.Error:
            continue
        # Snakemake may itself have been typed in an salloc shell or submitted; those that it starts have --mode
        if not in_job or ("--mode" not in command and is_workflow_process(command, ["snakemake"])):
            found.append(f"  {number}  {' '.join(command)[:100]}")
    if found:
        shown = "\n".join(found)
        raise RecoveryError(
            f"expected a workflow whose Snakemake was killed, found a living one in this folder:\n{shown}\n"
            "Wait for it, or stop it with Ctrl-C or kill, which cancels its jobs"
        )


def live_jobs() -> list[Job]:
    """Return the jobs that Snakemake submitted in this folder and that have not ended."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    here = str(Path.cwd())
    jobs = []
    for line in ask("squeue", "--noheader", "--array", f"--user={user}", f"--format={FORMAT}").splitlines():
        number, state, folder, comment = line.split("|", 3)
        if folder == here and comment.startswith(("rule_", "group_")):
            jobs.append(Job(number, state, comment.partition("_")[2].replace("_wildcards_", " ")))
    return jobs


def wait_for_jobs(*, cancel: bool, poll_s: float) -> None:
    """Wait until no job of this folder is left, after cancelling them if `cancel`."""
    jobs = live_jobs()
    if not jobs:
        say("no job of this folder is in the queue")
        return
    for job in jobs:
        say(f"job {job.number}: {job.what}, {job.state.lower()}")
    if cancel:
        say(f"cancelling {len(jobs)} of them")
        ask("scancel", *(job.number for job in jobs))
    else:
        say("waiting for them; to cancel them instead: Ctrl-C, then the same command with --cancel")
    while jobs:
        time.sleep(min(poll_s, 1.0) if cancel else poll_s)
        left = live_jobs()
        if len(left) != len(jobs):
            say(f"{len(left)} left" if left else "all have ended")
        jobs = left


def unlock(snakemake: Sequence[str]) -> None:
    """Remove the lock of the killed Snakemake."""
    if not (LOCKS.is_dir() and any(LOCKS.iterdir())):
        return
    say("removing the lock of the killed Snakemake")
    done = subprocess.run([*snakemake, "--unlock"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RecoveryError(f"snakemake --unlock: exit code {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")


def keep_completed(
    snakemake: Sequence[str], config: Config, submitted: Mapping[str, str], *, same_configuration: bool
) -> None:
    """Let Snakemake record the products of jobs that completed after its end, which it has not seen.

    A job removes the mark of its product, and leaves the record of its settings to the Snakemake that was killed.
    Without a record, a change of the settings would not make the product again.

    Parameters
    ----------
    snakemake
        Command, with the words of the configuration.
    config
        The configuration.
    submitted
        Paths of the products whose jobs were not seen ending, with the number of the job, from before the waiting.
    same_configuration
        Whether the run was started with this configuration. If not, the products are made again.
    """
    completed = {path for path, job in submitted.items() if Path(path).exists() and state_of(job) == "COMPLETED"}
    completed |= {str(path) for path in products(config) if path.exists() and not (METADATA / encoded(path)).exists()}
    if not completed:
        return
    for path in completed:
        # without a mark, a product without a record is nothing to be done
        write_text_atomic(INCOMPLETE / encoded(path), '{"external_jobid": null}')
    if not same_configuration:
        say(f"the configuration has changed since, so {len(completed)} completed products are made again")
        return
    say(f"keeping {len(completed)} products of jobs that completed: {', '.join(sorted(completed))}")
    # --touch runs no job; it records existing products as up to date
    command = [*snakemake, "--touch", "--cores", "1", *sorted(completed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RecoveryError(f"snakemake --touch: exit code {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")


def products(config: Config) -> list[Path]:
    """Return the products of a run, each of which is complete if it exists."""
    paths = paths_of(config)
    engines = config.posteriors.engines
    return [
        *(file for split in SPLITS for file in trace_files(paths, config, split)),
        *(paths.sorted_index(split) for split in SORTED_SPLITS),
        *(paths.observation, paths.layers, paths.diagnostics, paths.inference_table),
        *([paths.network_manifest] if trains(config) else []),
        *(file for engine in engines for file in [*posterior_files(paths, config, engine), paths.posterior(engine)]),
    ]


def encoded(path: str | Path) -> str:
    """Return the name under which Snakemake records a product; our paths are not so long that it divides them."""
    return base64.urlsafe_b64encode(str(path).encode()).decode()


def submitted_products() -> Iterator[tuple[str, str]]:
    """Yield (path of a product, number of its SLURM job) from Snakemake's marks."""
    for mark in sorted(path for path in INCOMPLETE.glob("*") if path.is_file()):
        content: Mapping[str, str | None] = json.loads(mark.read_text(encoding="utf-8") or "{}")
        job = content.get("external_jobid")
        if job is not None:
            yield base64.urlsafe_b64decode(mark.name).decode(), job


def state_of(job: str) -> str | None:
    """Return the last known state of a job, from the controller or else from accounting; None: unknown."""
    for command in (
        ("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"),
        ("sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job}", "--format=State"),
    ):
        try:
            lines = ask(*command).split()
        except RecoveryError:
            continue  # squeue fails for a job that the controller has forgotten; sacct without accounting
        if lines:
            return lines[0]
    return None


def ask(*command: str) -> str:
    """Return the output of a program of SLURM.

    Raises
    ------
    RecoveryError
        If it is not there, fails or does not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise RecoveryError(f"{command[0]}: no such program; call this script where you call sbatch") from None
    except subprocess.TimeoutExpired:
        raise RecoveryError(f"{command[0]}: no answer within {TIMEOUT_S} s; try again later") from None
    if done.returncode != 0:
        raise RecoveryError(f"{' '.join(command[:1])}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    with standard_streams():
        sys.exit(main())
