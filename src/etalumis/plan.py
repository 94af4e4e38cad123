# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a run will take: jobs, time, node hours and bytes by stage, from the measured costs of `job_costs`."""

from collections.abc import Iterator
from dataclasses import dataclass

from etalumis import job_costs
from etalumis.config import Config
from etalumis.progress import duration
from etalumis.workflow import trace_jobs, trains


@dataclass(frozen=True)
class StagePlan:
    """What one stage takes.

    Attributes
    ----------
    stage
        Name of the stage.
    jobs
        Number of jobs, all of which can run at the same time.
    cores
        Cores of each job.
    seconds
        Expected time of the longest job, on cores as fast as those of the measurement.
    total_seconds
        Expected sum of the times of all jobs.
    nbytes
        Expected size of what the stage writes.
    """

    stage: str
    jobs: int
    cores: int
    seconds: float
    total_seconds: float
    nbytes: float

    @property
    def core_hours(self) -> float:
        """Cores times hours of all jobs."""
        return self.cores * self.total_seconds / 3600


def stages(config: Config) -> Iterator[StagePlan]:
    """Yield the stages of the target `all` in the order of the workflow, without the simulator, which is built once."""
    splits = ("train", "valid", "test") if trains(config) else ("test",)
    generating: list[float] = []
    for split in splits:
        jobs = trace_jobs(config, split)
        generating += [job_costs.generated_s(getattr(config.traces, split) / jobs)] * jobs
    written = sum(getattr(config.traces, split) for split in splits)
    yield _plan("traces", generating, 1, job_costs.trace_bytes(written))
    if trains(config):
        sorting = [job_costs.cost(config, "sort", {"split": split}).seconds for split in ("train", "valid")]
        sorted_bytes = job_costs.trace_bytes(config.traces.train + config.traces.valid)
        yield _plan("sorted", sorting, config.sorted.tasks, sorted_bytes)
        checks = [job_costs.cost(config, rule, {}).seconds for rule in ("verify", "layers")]
        yield _plan("layers", checks, 1, 0.0)
        training = config.training
        yield _plan(
            "network", [job_costs.training_s(config)], training.tasks * training.threads_per_task,
            job_costs.network_bytes(config),
        )  # fmt: skip
    for engine in config.posteriors.engines:
        section = getattr(config.posteriors, engine)
        jobs = section.chains if hasattr(section, "chains") else section.jobs
        seconds = job_costs.cost(config, engine, {"engine": engine}).seconds
        yield _plan(engine, [seconds] * jobs, 1, 2 * job_costs.posterior_bytes(config, engine))
    ends = [job_costs.cost(config, rule, {}).seconds for rule in ("diagnostics", "figures", "report")]
    yield _plan("figures", [sum(ends)], 1, 0.0)


def _plan(stage: str, seconds: list[float], cores: int, nbytes: float) -> StagePlan:
    return StagePlan(stage, len(seconds), cores, max(seconds), sum(seconds), nbytes)


def table(config: Config, cores_per_node: int) -> list[str]:
    """Return the plan as lines of text.

    Parameters
    ----------
    config
        The configuration.
    cores_per_node
        Cores of a node, for the node hours.
    """
    found = list(stages(config))
    lines = [f"{'stage':<12} {'jobs':>6} {'cores':>7} {'longest job':>12} {'node hours':>11} {'GB':>9}"]
    for stage in found:
        lines.append(
            f"{stage.stage:<12} {stage.jobs:>6,} {stage.cores:>7,} {duration(stage.seconds):>12} "
            f"{stage.core_hours / cores_per_node:>11,.2f} {stage.nbytes / 1e9:>9,.2f}"
        )
    hours, nbytes = sum(stage.core_hours for stage in found), sum(stage.nbytes for stage in found)
    longest = _critical_s(found)
    lines.append(
        f"{'total':<12} {'':>6} {'':>7} {duration(longest):>12} {hours / cores_per_node:>11,.2f} {nbytes / 1e9:>9,.2f}"
    )
    return lines


def _critical_s(found: list[StagePlan]) -> float:
    """Return the time with as many nodes as all jobs can use: engines run side by side, other stages in order."""
    engines = {"rmh", "network_rmh", "ic", "smc", "importance"}
    in_order = sum(stage.seconds for stage in found if stage.stage not in engines)
    return in_order + max((stage.seconds for stage in found if stage.stage in engines), default=0.0)
