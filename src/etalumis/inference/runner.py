# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs of a model for an engine: shared address tables, checks, and a new process after a failure."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, cast

import numpy as np

from etalumis.address import AddressTable
from etalumis.batches import is_restartable, restart, run_in_batches
from etalumis.counting import counted
from etalumis.delegation import Answer, RunPlan, Stepper, Steps
from etalumis.draw_by_draw import planned
from etalumis.errors import InferenceError, ProtocolError, SimulatorError
from etalumis.execution import Model, Site
from etalumis.inference.observations import Observations
from etalumis.models import FunctionModel
from etalumis.trace import Trace

logger = logging.getLogger(__name__)


class Assistant(Protocol):
    """What answers the controlled draws of a run."""

    def plan(self) -> RunPlan:
        """Return the plan of the run."""
        ...

    def answer(self, site: Site) -> Answer:
        """Return the value of a controlled entry."""
        ...

    def receive(self, trace: Trace) -> None:
        """Process the trace of the run."""
        ...


A = TypeVar("A", bound=Assistant)


def draw_seed(rng: np.random.Generator) -> int:
    """Return a uniform 64-bit seed for one run."""
    return int(rng.bit_generator.random_raw())


def _as_model(model: Model | Callable[[], float | None]) -> Model:
    """Return `model`; a Python function becomes a `FunctionModel`."""
    if callable(model) and not hasattr(model, "run"):
        return FunctionModel(model)
    if not hasattr(model, "run"):
        raise InferenceError(f"expected a simulator, a FunctionModel or a Python function, found {model!r}")
    return cast(Model, model)


class ModelRunner:
    """Run `model` by one plan after another, with one address table.

    If a simulator dies, hangs or sends malformed messages, it is replaced by a new process and the run is repeated with
    the same draws, at most `retries` times. Runs are never dropped, since that would bias the weights.

    Attributes
    ----------
    model, planned
        The model, and what carries out plans with it.
    runs
        Number of completed runs.
    failures
        Number of runs that were repeated in a new process.
    """

    def __init__(
        self, model: Model | Callable[[], float | None], observations: Observations, seed: int, retries: int = 3
    ) -> None:
        self.model = _as_model(model)
        self.observations, self.retries = observations, retries
        self._origin, self._runs_before = f"seed {seed}", 0
        self.planned = planned(self.model)
        self.addresses = AddressTable()
        self.runs = 0
        self.failures = 0

    def begin(self, seed: int, of: str) -> None:
        """Set what messages say of the next runs: their `seed`, and the part `of` of the work that they belong to."""
        self._origin, self._runs_before = f"seed {seed} ({of})", self.runs

    def carry_out(self, plan: RunPlan, seed: int) -> Trace:
        """Run once; the trace depends on the plan and the seed only.

        Raises
        ------
        InferenceError
            If a likelihood is NaN, or the observations do not fit the model.
        SimulatorError, ProtocolError
            If the simulator failed `retries` + 1 times in a row.
        """
        trace = self._carry_out(plan, seed)
        self.runs += 1
        self.check(trace)
        return trace

    def carry_out_all(self, requests: Sequence[tuple[RunPlan, int]]) -> Sequence[Trace]:
        """Run each plan once with its seed, concurrently or without waiting for each answer if the model is able to.

        The traces and the errors are those of successive calls of `carry_out`.
        """
        traces = self._all(requests)
        before = self.runs - len(traces)
        for number, trace in enumerate(traces, 1):
            self.runs = before + number  # messages name the last run
            self.check(trace)
        return traces

    def _all(self, requests: Sequence[tuple[RunPlan, int]]) -> Sequence[Trace]:
        concurrent = self.planned.concurrent
        if concurrent is not None:
            traces = concurrent.carry_out_each(requests, self.addresses)
            self.runs += len(traces)
            return traces
        found = self.carry_out_each(requests)
        if found is None:
            found = [self._carry_out(plan, seed) for plan, seed in requests]
            self.runs += len(found)
        return found

    def carry_out_each(self, requests: Sequence[tuple[RunPlan, int]]) -> Sequence[Trace] | None:
        """Let the model run each plan once with its seed; return None if it failed and was replaced by a new process.

        The caller has to `check` the traces that it uses.
        """
        try:
            traces = self.planned.carry_out_each(requests, self.addresses)
        except (SimulatorError, ProtocolError) as error:
            logger.warning(
                "%s: %s at once failed (%s); repeating them one by one",
                self.model.name, counted(len(requests), "run"), error,
            )  # fmt: skip
            self.failures += 1
            self._batch_failed(error, 0, 0)
            return None
        self.runs += len(traces)
        return traces

    def assist(self, rng: np.random.Generator, make: Callable[[], A]) -> tuple[Trace, A]:
        """Run once with the answers of `make()` to controlled draws; return the trace and what answered.

        Each attempt calls `make` again, with `rng` reset to its initial state. Raises like `carry_out`.
        """
        state = rng.bit_generator.state
        for attempt in range(self.retries + 1):
            assistant = make()
            try:
                trace = self.planned.assist(assistant.plan(), draw_seed(rng), assistant.answer, self.addresses)
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt)
                rng.bit_generator.state = state
                continue
            assistant.receive(trace)
            self.runs += 1
            self.check(trace)
            return trace, assistant
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def repeat(self, plan: RunPlan, seeds: Sequence[int]) -> Iterator[Trace]:
        """Yield the trace of each seed; the caller has to `check` it. Raises like `carry_out`."""
        for trace in run_in_batches(self.planned, plan, seeds, self.addresses, self._batch_failed):
            self.runs += 1
            yield trace

    def take_steps(self, stepper: Stepper, steps: Steps) -> tuple[Sequence[tuple[int, int]], Sequence[Trace]]:
        """Let the model make steps of a chain; raises like `carry_out`.

        `count_step` counts the runs and checks their traces, when the chain arrives at them.
        """
        for attempt in range(self.retries + 1):
            try:
                return stepper.take_steps(steps, self.addresses)
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt, f", steps of a chain of seed {steps.seed} from {steps.first} on,")
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def count_step(self, trace: Trace | None) -> None:
        """Count a run that the model made for a step, and check the resulting trace, if any."""
        self.runs += 1
        if trace is not None:
            self.check(trace)

    def finish(self) -> None:
        """Check, after the last run, that some run observed each name that the user gave a value for.

        Raises
        ------
        InferenceError
            If none did.
        """
        if self.observations.names_open:
            self.observations.check_names(last=True)

    def priors(self, seeds: Sequence[int], *, details: bool = False) -> Iterator[Trace]:
        """Yield one prior run for each seed, scored with the observations; raises like `carry_out`.

        With `details`, the traces can become states of a chain.
        """
        for trace in self.repeat(RunPlan(observed=self.observations.values, details=details), seeds):
            self.check(trace)
            yield trace

    def _carry_out(self, plan: RunPlan, seed: int) -> Trace:
        """Let the model run once. A failed attempt leaves no state behind, so the next one is identical."""
        for attempt in range(self.retries + 1):
            try:
                return self.planned.carry_out(plan, (seed,), self.addresses)[0]
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt, f", drawn from seed {seed},")
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def _batch_failed(self, error: Exception, index: int, failures: int) -> None:
        if failures:
            self._recover(error, failures - 1)
        elif is_restartable(self.model):
            restart(self.model, self.retries)  # repeating the runs one by one shows which of them fails
        else:
            raise error

    def _recover(self, error: Exception, attempt: int, seed: str = "") -> None:
        if attempt == self.retries or not is_restartable(self.model):
            attempts = " in every attempt" if attempt else ""
            logger.error("%s: %s%s failed%s", self.model.name, self._place(self.runs), seed, attempts)
            raise error
        self.failures += 1
        logger.warning(
            "%s: %s%s failed (%s); repeating it in a fresh process (%d of %d)",
            self.model.name, self._place(self.runs), seed, error, attempt + 1, self.retries,
        )  # fmt: skip
        restart(self.model, self.retries - attempt - 1)

    def _place(self, run: int) -> str:
        return f"run {run - self._runs_before} of {self._origin}"

    def check(self, trace: Trace) -> None:
        """Check the observations and the likelihood of a trace; raise `InferenceError` if it cannot be used."""
        if trace.lost or trace.mismatch:
            return  # it broke off, perhaps before some of its observe statements
        if self.observations.names_open:
            self.observations.record_names(observed.name for observed in trace.observes)
            self.observations.check_names()
        if math.isnan(trace.log_likelihood):
            self._explain_nan(trace)
        self.observations.check_complete(trace)

    def _explain_nan(self, trace: Trace) -> None:
        for observed in trace.misfits():
            assert observed.distribution is not None  # sent with every misfit
            self.observations.value(observed.name, observed.distribution, None)
            raise InferenceError(
                f"{self.model.name}: observe {observed.name!r} at {observed.address} has a value of a different "
                f"shape than its distribution, {observed.distribution.shape}; correct the model"
            )
        for observed in trace.observes:
            if math.isnan(observed.log_prob):
                raise InferenceError(
                    f"{self.model.name}: the log likelihood of observe {observed.name!r} at {observed.address} is NaN "
                    f"in {self._place(self.runs - 1)}; expected a number or -inf. The model computes a "
                    "parameter of this distribution from invalid numbers."
                )
