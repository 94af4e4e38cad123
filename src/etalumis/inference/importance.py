# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Importance sampling with the prior as proposal, and the loop that all weighted engines share."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from etalumis import seeds
from etalumis.execution import Model
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.draws import Draw, draw_of
from etalumis.inference.entry_selection import EntrySelection
from etalumis.inference.observations import Observations
from etalumis.inference.posterior import Posterior
from etalumis.inference.predictive import predictive_check
from etalumis.inference.runner import ModelRunner
from etalumis.inference.trace_reservoir import TraceReservoir, places_for
from etalumis.progress import Progress
from etalumis.trace import Trace

WeightedRuns = Callable[[int], Iterator[tuple[Trace, float]]]
"""First run -> (trace, log weight) of this run and all later ones, each with its own source of randomness."""


def importance(
    model: Model | Callable[[], float | None],
    observations: Mapping[str, Any],
    *,
    runs: int,
    seed: int,
    job: int = 0,
    retries: int = 3,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior by weighting prior runs.

    The log weight of a run is its log likelihood, log w = sum_n log p(y_n | x), and the mean of w is an unbiased
    estimate of the evidence p(y). The model's own loops draw the entries of rejection scopes, and their acceptance
    probabilities cancel.

    Parameters
    ----------
    model
        The model to run, or a Python function with the statements of `etalumis.models`.
    observations
        Name of the observe statement -> value, see `Observations`. If it is empty, and the model supplies no values
        itself, the draws come from the prior with weight one.
    runs
        Number of runs. Each gives one draw; draws of weight zero are kept.
    seed, job
        Run i draws from (seed, "posteriors/importance/<job>", i).
    retries
        Maximum number of consecutive restarts of a failed simulator.
    entries
        Controlled entries to keep by address: patterns as in `EntrySelection`.
    checkpoint
        Checkpoint to resume from and to write; the draws are the same as without an interruption.

    Raises
    ------
    InferenceError
        If the observations do not fit the model, or a likelihood is NaN.
    """
    stage = f"posteriors/importance/{job}"
    runner = ModelRunner(model, Observations(observations), seeds.derive(seed, stage, 0), retries)

    def draws(first: int) -> Iterator[tuple[Trace, float]]:
        origins = [seeds.derive(seed, stage, index) for index in range(first, runs)]
        for trace in runner.priors(origins, details=True):
            yield trace, trace.log_likelihood

    return sample_weighted(
        "importance", runner, draws, runs=runs, seed=seed, stage=stage, job=job, entries=entries, checkpoint=checkpoint
    )


def sample_weighted(
    engine: str,
    runner: ModelRunner,
    draws: WeightedRuns,
    *,
    runs: int,
    seed: int,
    stage: str,
    job: int,
    counts: dict[str, Any] | None = None,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Collect weighted traces into a posterior.

    Run i draws from (seed, stage, i), independently of earlier runs, so an interrupted job resumes with the next run.
    `counts` belong to the engine and are updated by `draws`; the checkpoint keeps them.
    """
    began, wall_before, first = time.perf_counter(), 0.0, 0
    counts = {} if counts is None else counts
    earlier: list[Posterior] = []
    reservoir = TraceReservoir(runner.addresses, seed, stage, places_for(runs))
    found = checkpoint.load() if checkpoint is not None else None
    if found is not None:
        earlier, state = [found[0]], found[1]
        first, wall_before = state["next"], state["wall_s"]
        runner.runs, runner.failures = state["simulator_runs"], state["failures"]
        counts.update(state["counts"])
        runner.observations.record_names(state.get("observed", ()))
        reservoir.resume(state["reservoir"])
    pieces = _DrawBuffer(engine, job, EntrySelection.of(entries), earlier)
    with Progress(runs, "runs", f"{engine} job {job}", done=first) as progress:
        source = draws(first)
        for index in range(first, runs):
            runner.begin(seeds.derive(seed, stage, index), f"draw {index} of {stage}")
            trace, log_weight = next(source)
            pieces.add(trace, log_weight)
            reservoir.offer(trace, log_weight)
            progress.update(best_log_weight=f"{pieces.best:.1f}")
            if checkpoint is not None and checkpoint.due:
                wall_s = wall_before + time.perf_counter() - began
                progressed = {"next": index + 1, "wall_s": wall_s, "counts": counts}
                totals = {"simulator_runs": runner.runs, "failures": runner.failures}
                seen = {"observed": runner.observations.seen, "reservoir": reservoir.snapshot()}
                checkpoint.save(pieces.joined(), {**progressed, **totals, **seen})
    runner.finish()
    posterior = pieces.joined()
    posterior.predictive = predictive_check(runner, reservoir)
    wall_s = wall_before + time.perf_counter() - began
    posterior.info.update(
        seed=seed,
        runs=runs,
        simulator_runs=runner.runs,
        failures=runner.failures,
        zero_weights=int(np.sum(posterior.log_weight == -np.inf)),
        wall_s=wall_s,
        runs_per_s=runs / wall_s,
    )
    return posterior


class _DrawBuffer:
    """Weighted draws, converted to columns from time to time."""

    def __init__(self, engine: str, job: int, selection: EntrySelection | None, earlier: list[Posterior]) -> None:
        self._engine, self._job, self._selection, self._earlier = engine, job, selection, earlier
        self._draws: list[Draw] = []
        self._log_weights: list[float] = []
        self.best = max((float(np.max(part.log_weight, initial=-np.inf)) for part in earlier), default=-math.inf)

    def add(self, trace: Trace, log_weight: float) -> None:
        """Add one weighted trace."""
        self._draws.append(draw_of(trace, selection=self._selection))
        self._log_weights.append(log_weight)
        self.best = max(self.best, log_weight)

    def joined(self) -> Posterior:
        """Return all draws so far."""
        new = Posterior.from_draws(self._engine, self._draws, self._log_weights, self._job, {})
        whole = Posterior.join_pieces([*self._earlier, new])
        self._earlier, self._draws, self._log_weights = [whole], [], []
        return whole
