# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Infer many observations, one or several at a time."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etalumis import seeds
from etalumis.counting import counted
from etalumis.engines import ENGINE_LOGGERS, Engine
from etalumis.errors import EtalumisError, StorageError
from etalumis.execution import Model
from etalumis.inference import importance
from etalumis.inference_table.conditions import ProbabilityColumn
from etalumis.inference_table.job import InferenceJob
from etalumis.inference_table.record import RELIABLE
from etalumis.inference_table.sources import ObservationSource
from etalumis.inference_table.table import InferenceTable
from etalumis.progress import duration, only_warnings
from etalumis.simulator.built import BuiltSimulator
from etalumis.task_workers import carry_out

logger = logging.getLogger(__name__)

NAME_CHECK_RUNS = 100
"""Number of prior runs that must have the quantities of the expressions."""
_CSV_INTERVAL_S = 10.0


@dataclass
class Outcome:
    """What became of the observations of one call.

    Attributes
    ----------
    total
        Number of observations.
    failed
        Id -> message, of those that could not be inferred.
    """

    total: int
    failed: dict[str, str] = field(default_factory=dict)


def infer_all(
    sources: Sequence[ObservationSource],
    start: Callable[[], AbstractContextManager[Model]],
    engines: Sequence[Engine],
    table: InferenceTable,
    *,
    seed: int,
    columns: Sequence[ProbabilityColumn] = (),
    keep: Path | None = None,
    built: BuiltSimulator | None = None,
    workers: int = 1,
    pin: bool = False,
) -> Outcome:
    """Infer every observation that the table does not have, and record it.

    The draws for an observation depend on `seed`, the observation and the engines only: the results are the same in
    any order, with any other observations, and after an interruption. All observations are read once before the first
    one is inferred, to report unusable ones early. An observation that fails is recorded and tried again by the next
    call.

    Parameters
    ----------
    sources
        The observations.
    start
        Starts a simulator, one per worker; it is not called if nothing is left to do.
    engines
        The engines. Each later one is used only for observations for which the earlier ones gave no reliable result.
    table
        The table of the results.
    seed
        Seed of the run; an observation with digest D has the seed of (seed, "infer/D", 0).
    columns
        Conditions whose probabilities are recorded.
    keep
        Folder for the posterior of each observation; None: they are not kept.
    built
        The simulator that the observations have to belong to; None if `start` gives a model of another kind.
    workers, pin
        Number of observations at a time, as in `etalumis.task_workers.carry_out`.

    Raises
    ------
    InferenceError
        If an expression has a quantity that the simulator does not have.
    StorageError
        If a result cannot be written.
    DatasetError
        If the table has another observation under the same id.
    """
    outcome = Outcome(len(sources))
    job = InferenceJob(engines, table, seed, columns, keep, built)
    todo = [source for source in sources if _is_open(source, job, outcome)]
    finished = len(sources) - len(outcome.failed) - len(todo)
    if finished:
        logger.info("%s: has the results of %s already", table.lines_path, counted(finished, "observation"))
    try:
        if todo:
            _check_names(start, columns, seed)
            with closing(carry_out(todo, start, _infer(job), workers, pin=pin)) as results:
                _record_each(results, len(todo), job, outcome)
    finally:
        table.write_csv([source.id for source in sources])  # several workers finish in any order
    return outcome


def _is_open(source: ObservationSource, job: InferenceJob, outcome: Outcome) -> bool:
    """Return whether an observation can be read and is still to be inferred."""
    try:
        conditioning = source.read()
        if job.built is not None:
            conditioning.require_simulator(job.built)
    except EtalumisError as error:
        outcome.failed[source.id] = job.record_failure(source, error)
        return False
    kept = job.posterior_path(source.id)
    return not job.table.finished(source.id, conditioning.digest) or (kept is not None and not kept.exists())


def _check_names(
    start: Callable[[], AbstractContextManager[Model]], columns: Sequence[ProbabilityColumn], seed: int
) -> None:
    """Check that prior runs have the quantities of the expressions."""
    if not columns:
        return
    with start() as model, only_warnings(*ENGINE_LOGGERS):
        prior = importance(model, {}, runs=NAME_CHECK_RUNS, seed=seeds.derive(seed, "infer/names", 0))
    for column in columns:
        column.check_names(prior.values)


def _infer(job: InferenceJob) -> Callable[[Model, ObservationSource], dict[str, Any]]:
    def infer(model: Model, source: ObservationSource) -> dict[str, Any]:
        with only_warnings(*ENGINE_LOGGERS):
            return job.infer(source, model)

    return infer


def _record_each(
    results: Iterable[tuple[ObservationSource, dict[str, Any] | EtalumisError]],
    total: int,
    job: InferenceJob,
    outcome: Outcome,
) -> None:
    began = time.monotonic()
    next_csv = began + _CSV_INTERVAL_S
    for done, (source, result) in enumerate(results, 1):
        if isinstance(result, StorageError):
            raise result
        if isinstance(result, EtalumisError):
            outcome.failed[source.id] = job.record_failure(source, result)
            job.remove_checkpoints(source.id)
            continue
        job.table.append(result)
        job.remove_checkpoints(source.id)
        now = time.monotonic()
        left = duration((now - began) / done * (total - done))
        logger.info("%d/%d  %s  left %s", done, total, _described(result), left)
        if now >= next_csv:
            job.table.write_csv()
            next_csv = now + max(_CSV_INTERVAL_S, 20.0 * (time.monotonic() - now))


def _described(record: dict[str, Any]) -> str:
    mark = "" if record["status"] == RELIABLE else f" ({record['status']})"
    efficiency = f"ESS {record['ess']:,.1f} in {record['runs']:,} runs ({100 * record['efficiency']:.2g} %)"
    evidence = f"log evidence {record['log_evidence']:.2f} \N{PLUS-MINUS SIGN} {record['log_evidence_mcse']:.2f}"
    return (
        f"{record['id']}: {record['engine']}, {efficiency}, k-hat {record['khat']:.2f}, {evidence}{mark}, "
        f"{duration(record['seconds'])}"
    )
