# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Why SLURM refused a job, in words: what the job requested, what the site has, and which line to change.

Snakemake shows sbatch's message above a page of its command line.
"""

import contextlib
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PROFILE = "config.yaml of the profile"
_FAILED = re.compile(
    r"sbatch failed.*?The error message was '(?P<said>.*?)'\.\s+"
    r"sbatch call:\s+(?P<call>sbatch .*?)(?= --wrap=| /dev/stdin|\n|$)",
    re.DOTALL,
)
_OPTIONS = {
    "-p": "partition", "-t": "minutes", "--mem": "memory_mb", "--mem-per-cpu": "memory_mb_per_cpu", "-A": "account",
    "--qos": "qos", "-C": "constraint", "--comment": "comment", "--ntasks": "tasks", "--cpus-per-task": "cpus",
    "--nodes": "nodes",
}  # fmt: skip
_TIMEOUT_S = 20


class Refusal(NamedTuple):
    """A job that sbatch refused.

    Attributes
    ----------
    said
        The message of sbatch.
    options
        What the job requested, by the names in `_OPTIONS`.
    """

    said: str
    options: dict[str, str]


Ask = Callable[[Sequence[str]], str]
"""Runs a program of SLURM and returns its output, which is empty if it fails."""


def find(log: str) -> list[Refusal]:
    """Return the refused jobs in the text of a Snakemake log, one for every rule and message."""
    found: dict[tuple[str, str], Refusal] = {}
    for match in _FAILED.finditer(log):
        refusal = Refusal(" ".join(match["said"].split()), _options(match["call"]))
        found.setdefault((refusal.options.get("comment", "").partition("_wildcards_")[0], refusal.said), refusal)
    return list(found.values())


def _options(call: str) -> dict[str, str]:
    words = iter(shlex.split(call))
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in _OPTIONS:
            found[_OPTIONS[name]] = value if equals else next(words, "")
    return found


def explain(log: str, ask: Ask | None = None) -> Iterator[str]:
    """Yield one paragraph for every refusal in the text of a Snakemake log.

    Parameters
    ----------
    log
        Text of the log.
    ask
        How to ask SLURM for the limits of the site; None: with its programs.
    """
    for refusal in find(log):
        yield _explain(refusal, ask or _ask)


def explain_files(paths: Iterable[str | Path]) -> Iterator[str]:
    """Yield one paragraph for every refusal in Snakemake logs, see `explain`; a log that cannot be read has none."""
    for path in paths:
        with contextlib.suppress(OSError):
            yield from explain(Path(path).read_text(encoding="utf-8", errors="replace"))


def _explain(refusal: Refusal, ask: Ask) -> str:
    options = refusal.options
    rule, _, wildcards = options.get("comment", "").removeprefix("rule_").partition("_wildcards_")
    job = f"{rule} ({wildcards})" if wildcards else rule
    partition = options.get("partition", "")
    said = refusal.said.lower()
    if "violates accounting" in said:
        return (
            f"SLURM refused {job}, which requests {options.get('minutes', '?')} minutes and {_size(options)}, for a "
            f"limit of your account or QoS: {refusal.said}. {_what_to_do(said)}. "
            "`sacctmgr show assoc user=$USER` and `sacctmgr show qos` list the limits"
        )
    if "time limit" in said:
        return (
            f"SLURM refused {job}: it requests {options.get('minutes', '?')} minutes, and the partition {partition} "
            f"allows {_limit(ask, partition, '%l')}. Write this limit in minutes as longest_min in {PROFILE} (a job "
            "that needs more resumes in its next attempt), or choose a longer partition there: slurm_partition"
        )
    if "memory" in said or "node configuration" in said or "cpu count" in said:
        return (
            f"SLURM refused {job}: it requests {_size(options)}, and the nodes of the partition {partition} have "
            f"{_limit(ask, partition, '%c CPUs and %m MB')}. Choose another partition for it in {PROFILE} "
            f"(set-resources: {{{rule}: {{slurm_partition: NAME}}}}), or lower the numbers of the configuration that "
            "the request follows from (docs/how-to-run-on-slurm.md, Sizes)"
        )
    for key, name in (("account", "slurm_account"), ("qos", "qos"), ("partition", "slurm_partition")):
        if key in said and "invalid" in said:
            value = options.get(key, "none")
            return (
                f"SLURM refused {job}: {key} {value} is not one that you can use: {refusal.said}. Correct {name} in "
                f"default-resources of {PROFILE}"
            )
    return f"SLURM refused {job}, which requests {_size(options)}: {refusal.said}. Correct {PROFILE}"


def _what_to_do(said: str) -> str:
    """Return what to do about a limit of the account or QoS; SLURM's own sentence names all kinds of them at once."""
    fewer = (
        f"For the number of submitted jobs (MaxSubmitJobs): write the limit as jobs in {PROFILE}, and remove "
        "slurm-array-jobs, which need all their jobs at once"
    )
    shorter = (
        f"For the run time (MaxWall): write the limit in minutes as longest_min in {PROFILE}, or choose another qos"
    )
    smaller = "For the size: choose another qos there, or lower the numbers of the configuration that it follows from"
    if "submitjob" in said:
        return fewer
    if "maxwall" in said:
        return shorter
    return ". ".join([fewer, shorter, smaller])


def _size(options: dict[str, str]) -> str:
    tasks, cpus = options.get("tasks", "1"), options.get("cpus", "1")
    parts = [f"{tasks} x {cpus} CPUs" if tasks != "1" else f"{cpus} CPUs"]
    if "nodes" in options:
        parts.append(f"{options['nodes']} nodes")
    if "memory_mb" in options:
        parts.append(f"{options['memory_mb']} MB on each node")
    if "memory_mb_per_cpu" in options:
        parts.append(f"{options['memory_mb_per_cpu']} MB per CPU")
    return ", ".join(parts)


def _limit(ask: Ask, partition: str, form: str) -> str:
    lines = ask(["sinfo", "--noheader", f"--partition={partition}", f"--format={form}"]).splitlines()
    return " or ".join(dict.fromkeys(line.strip() for line in lines)) or "less"


def _ask(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
