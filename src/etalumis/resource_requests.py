# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Memory and run time that the rules request from a batch system.

A request is a limit: a job that exceeds it is killed, and one that asks for too much waits longer, or is refused. Run
times are `MARGIN` times the expected ones (`etalumis.job_costs`), for slower cores and busy file systems; memory is
rounded up. A second attempt requests twice as much, a third one three times. Jobs that resume (traces, training,
posteriors, tables) may be given less time than they need: `limit_min`.

An attempt requests more memory even if only time was short. Snakemake tells the number of the attempt, not why the last
one ended; `sacct` needs accounting; the log of a job is that of its last attempt, so it does not say whether memory was
short before; and an array has the memory of its first job, so a job that needs more would fail again with the others.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from etalumis import job_costs
from etalumis.config import Config
from etalumis.errors import ConfigError

MARGIN = 4.0
"""Requested over expected run time."""
SHORTEST_MIN = 10
"""Shortest requested run time, in minutes: start-up on a busy file system."""
LONGEST_MIN = 365 * 24 * 60
"""Longest run time that a request can express, in minutes; batch systems have their own limits below it."""
LIMIT_KEY = "longest_min"
"""Key of `default-resources` in a profile: longest run time of a job at this site, in minutes."""


class Request(NamedTuple):
    """What one job requests.

    Attributes
    ----------
    memory_mb
        Memory of a job, or of each rank of an MPI job, in MB.
    minutes
        Run time, in minutes.
    """

    memory_mb: int
    minutes: int


def request(
    config: Config, rule: str, wildcards: Mapping[str, str], attempt: int = 1, limit_min: int | None = None
) -> Request:
    """Return what a job of a rule requests.

    Parameters
    ----------
    config
        The configuration.
    rule
        Name of the rule.
    wildcards
        Wildcards of the job: `split` or `engine`.
    attempt
        Number of the attempt, from 1; memory and run time are multiplied by it.
    limit_min
        Longest run time of a job at this site, in minutes; None: not limited. A job that needs more is interrupted, and
        its next attempt resumes.

    Raises
    ------
    KeyError
        If the rule has no costs here.
    """
    cost = job_costs.cost(config, rule, wildcards)
    minutes = max(SHORTEST_MIN, math.ceil(MARGIN * cost.seconds / 60))
    if rule == "network":
        minutes = job_costs.training_min(config)
    longest = LONGEST_MIN if limit_min is None else min(limit_min, LONGEST_MIN)
    return Request(_rounded(attempt * cost.memory_mb), min(attempt * minutes, longest))


def for_rule(
    config: Config, rule: str, limit_min: int | None, memory: str = "mem_mb", cpus: int = 1
) -> dict[str, Callable[..., int]]:
    """Return the resources of a rule for Snakemake: functions of the wildcards and the attempt.

    Parameters
    ----------
    config, rule, limit_min
        See `request`.
    memory
        Name of the memory resource: `mem_mb`, or `mem_mb_per_cpu` for an MPI rule, since `mem_mb` would request the
        memory of all ranks on every node.
    cpus
        CPUs of a rank, among which `mem_mb_per_cpu` divides its memory.
    """

    def memory_mb(wildcards: Mapping[str, str], attempt: int) -> int:
        return math.ceil(request(config, rule, wildcards, attempt, limit_min).memory_mb / cpus)

    def minutes(wildcards: Mapping[str, str], attempt: int) -> int:
        return request(config, rule, wildcards, attempt, limit_min).minutes

    return {memory: memory_mb, "runtime": minutes}


def priority(config: Config, rule: str) -> int:
    """Return the priority of the jobs of a rule whose jobs are alike: their expected run time in seconds.

    The longest jobs start first, so that none of them is left for the end, when the other cores are idle.
    """
    return math.ceil(job_costs.cost(config, rule, {}).seconds)


def site_limit_min(workflow: Any) -> int | None:
    """Return the longest run time of a job at this site, from `default-resources` of the profile; None: not limited.

    Parameters
    ----------
    workflow
        Snakemake's workflow object.

    Raises
    ------
    ConfigError
        If the value is not a number of minutes.
    """
    resources = workflow.resource_settings.default_resources or {}
    if LIMIT_KEY not in resources:
        return None
    value = getattr(resources[LIMIT_KEY], "value", resources[LIMIT_KEY])
    if not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"default-resources: {LIMIT_KEY}: expected the longest run time of a job in minutes, as a whole number "
            f"from 1, found {value}"
        )
    return value


def _rounded(memory_mb: float) -> int:
    """Return the memory rounded up to hundreds of MB."""
    return 100 * math.ceil(memory_mb / 100)
