# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The loop over simulated observations; an interrupted one resumes with the observations that are not finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from etalumis import __version__, seeds
from etalumis.calibration.cases import Case, assess, case_quantities, failed, read_cases, write_cases
from etalumis.calibration.simulation import STAGE, simulate
from etalumis.counting import counted
from etalumis.engines import ENGINE_LOGGERS, Engine
from etalumis.errors import DatasetError, EtalumisError, InferenceError
from etalumis.execution import Model
from etalumis.inference.posterior import MARKOV_ENGINES
from etalumis.progress import Progress, only_warnings
from etalumis.refusals import explaining_loss
from etalumis.task_workers import carry_out

logger = logging.getLogger(__name__)

SAVE_INTERVAL_S = 1.0
"""Time between two writes of the file: what a killed call loses, besides the observation in progress."""
WRITE_SHARE = 0.2
"""Largest share of the time that is spent on writing the file; if a write is slow, the interval is longer."""
MAX_FAILURES = 3
"""If the engine fails for this many observations and for no other, the cause is the call, not the observations."""
DESCRIPTIVE = frozenset({"producer", "model"})
"""Parts of an identity on which no result depends."""


def calibrate(
    model: Model | Callable[[], AbstractContextManager[Model]],
    engine: Engine,
    *,
    observations: int,
    seed: int,
    path: Path | None = None,
    unconditioned: Sequence[str] = (),
    categorical: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
    retries: int = 3,
    workers: int = 1,
    pin: bool = False,
) -> list[Case]:
    """Infer the posteriors of observations that are drawn from the model, and rank their truths.

    Observation i is drawn from (seed, "calibrate", i), for every engine alike. The engine gets the seed that is derived
    from (seed, "calibrate/<engine>", i). The result depends neither on interruptions nor on `observations`: a larger
    number adds cases.

    Parameters
    ----------
    model
        The model from which truths and observations are drawn, and on which the engine runs; or a function that starts
        one in each worker, for a simulator that is a process.
    engine
        The engine to calibrate, such as `ENGINES[name](EngineInputs(...))`.
    observations
        Number of observations.
    path
        File of the finished observations; the call resumes from it. None: nothing is kept on disk.
    unconditioned
        Observe statements to leave out.
    categorical
        Keys of quantities whose values are codes without an order. The decay channel of a tau always is one.
    origin
        What else identifies the results, such as the build of the simulator.
    retries
        Maximum number of consecutive restarts of a failed simulator.
    workers, pin
        Number of observations at a time, as in `etalumis.task_workers.carry_out`.

    Returns
    -------
    list of Case
        By index. If an engine gives no posterior of an observation, this is a case as well, with the message.

    Raises
    ------
    InferenceError
        If the model cannot be calibrated, or the engine fails for every one of the first three observations.
    DatasetError
        If `path` belongs to another calibration.
    SimulatorError, ProtocolError
        If the simulator fails repeatedly. The finished observations are kept.
    """
    identity = identity_of(engine, seed, unconditioned, categorical, origin)
    store = _Store(path, identity)
    pending = [index for index in range(observations) if index not in store.cases]
    done = observations - len(pending)
    if store.cases:
        logger.info("%s: resuming after %s", path, counted(len(store.cases), "observation"))

    def infer(model: Model, index: int) -> Case:
        return _case(model, engine, index, seed, unconditioned, categorical, retries)

    start: Callable[[], AbstractContextManager[Model]] = model if callable(model) else lambda: nullcontext(model)
    with (
        store,
        Progress(observations, "observations", f"calibrating {engine.name}", done=done) as progress,
        closing(carry_out(pending, start, infer, workers, pin=pin)) as results,
    ):
        for _, case in results:
            if isinstance(case, EtalumisError):
                raise case
            store.add(case)
            _check_failures(store.cases)
            progress.update(last_ess=f"{case.found.ess:.0f}")
    return store.ordered


def identity_of(
    engine: Engine,
    seed: int,
    unconditioned: Sequence[str] = (),
    categorical: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what the results of a calibration depend on, and the producer, as JSON values."""
    return {
        "producer": f"etalumis {__version__}",
        "engine": engine.name,
        "seed": seed,
        "settings": dict(engine.settings),
        "unconditioned": sorted(unconditioned),
        "categorical": sorted(categorical),
        **(origin or {}),
    }


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Return in words how one calibration differs from another one, or None."""
    for key, value in expected.items():
        if key not in DESCRIPTIVE and found.get(key) != value:
            return f"is a calibration with {key} {found.get(key)!r}, not {value!r}"
    return None


def _case(
    model: Model,
    engine: Engine,
    index: int,
    seed: int,
    unconditioned: Sequence[str],
    categorical: Sequence[str],
    retries: int,
) -> Case:
    simulated = simulate(model, seed, index, unconditioned, retries)
    truth, quantities = simulated.truth, case_quantities(simulated.truth, categorical)
    began = time.perf_counter()
    try:
        with only_warnings(*ENGINE_LOGGERS):
            posterior = engine.sample(
                model,
                simulated.observations,
                seed=seeds.derive(seed, f"{STAGE}/{engine.name}", index),
                checkpoint=None,
            )
        return assess(index, truth, quantities, posterior, seed, time.perf_counter() - began)
    except InferenceError as error:
        logger.warning("observation %d: %s gives no posterior: %s", index, engine.name, error)
        return failed(index, truth, quantities, engine.name in MARKOV_ENGINES, str(error))


def _check_failures(cases: dict[int, Case]) -> None:
    if len(cases) == MAX_FAILURES and all(case.failure for case in cases.values()):
        first = next(iter(cases.values())).failure
        cases.clear()  # they are results of the call, not of the engine
        raise InferenceError(
            f"the engine gave no posterior of any of the first {MAX_FAILURES} observations. The first message: {first}"
        )


class _Store:
    """The finished cases, in memory and in the file. At the end, and after an error, the file is written."""

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self._path, self._identity = path, dict(identity)
        self.cases: dict[int, Case] = {}
        self._saved = 0
        if path is not None and path.exists():
            found, cases = read_cases(path)
            other = difference(found, identity)
            if other is not None:
                raise DatasetError(f"{path}: {other}; name another output")
            self.cases = {case.index: case for case in cases}
            self._saved = len(cases)
        self._next = time.monotonic() + SAVE_INTERVAL_S

    @property
    def ordered(self) -> list[Case]:
        """The cases by index."""
        return [self.cases[index] for index in sorted(self.cases)]

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *raised: object) -> None:
        self._save()

    def add(self, case: Case) -> None:
        """Add a finished case, and write the file if it is time."""
        self.cases[case.index] = case
        if time.monotonic() >= self._next:
            self._save()

    def _save(self) -> None:
        if self._path is None or len(self.cases) == self._saved:
            return
        began = time.monotonic()
        with explaining_loss(self._loss):
            write_cases(self._path, self._identity, self.ordered, {})
        self._saved = len(self.cases)
        self._next = time.monotonic() + max(SAVE_INTERVAL_S, (time.monotonic() - began) / WRITE_SHARE)

    def _loss(self) -> str:
        lost = counted(len(self.cases) - self._saved, "finished observation")
        return f"{lost} cannot be kept; the same command continues after the {self._saved:,} in the file."
