# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs of a model for an engine: shared address tables, checks, and a new process after a failure."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

import numpy as np

from etalumis.address import AddressTable
from etalumis.batches import is_restartable, restart, run_in_batches
from etalumis.counting import counted
from etalumis.delegation import Concurrent, Delegate, PlannedTrace, Proposable, RunPlan, Stepper, Steps
from etalumis.errors import InferenceError, ProtocolError, SimulatorError
from etalumis.execution import BaseTable, Controller, Model, run
from etalumis.inference.controllers import CountRepetitions, Planner, PriorController
from etalumis.inference.observations import Observations
from etalumis.models import FunctionModel
from etalumis.trace import Trace

logger = logging.getLogger(__name__)
C = TypeVar("C", bound=Controller)


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
    """Run `model` under one controller after another, with one address table.

    If a simulator dies, hangs or sends malformed messages, it is replaced by a new process and the run is repeated with
    the same draws, at most `retries` times. Runs are never dropped, since that would bias the weights.

    Attributes
    ----------
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
        self.addresses = AddressTable()
        self._bases = BaseTable(self.addresses)
        self._delegate: Delegate | None = model if isinstance(model, Delegate) and model.delegates else None
        self._concurrent: Concurrent | None = model if self._delegate and isinstance(model, Concurrent) else None
        self.runs = 0
        self.failures = 0

    def begin(self, seed: int, of: str) -> None:
        """Set what messages say of the next runs: their `seed`, and the part `of` of the work that they belong to."""
        self._origin, self._runs_before = f"seed {seed} ({of})", self.runs

    def run(self, rng: np.random.Generator, make: Callable[[], C]) -> tuple[Trace, C]:
        """Run once under `make()` and return the trace and its controller.

        Each attempt calls `make` again, with `rng` reset to its initial state.

        Raises
        ------
        InferenceError
            If a likelihood is NaN, or the observations do not fit the model.
        SimulatorError, ProtocolError
            If the simulator failed `retries` + 1 times in a row.
        """
        controller = make()
        if self._delegate is not None and isinstance(controller, Planner) and not controller.assisted:
            return self._run_plan(self._delegate, controller, draw_seed(rng)), controller
        state = rng.bit_generator.state
        for attempt in range(self.retries + 1):
            if attempt:
                controller = make()
            try:
                trace = self._run(controller, rng)
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt)
                rng.bit_generator.state = state
                continue
            self.runs += 1
            self.check(trace)
            return trace, controller
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def run_repeatedly(self, rng: np.random.Generator, make: Callable[[], CountRepetitions], count: int) -> list[int]:
        """Run `count` times under `make()` and return the numbers of repetitions; raises like `run`."""
        if self._delegate is None or count == 1:
            return [self.run(rng, make)[1].repetitions for _ in range(count)]
        counter = make()
        drawn = [draw_seed(rng) for _ in range(count)]
        found = []
        for trace in run_in_batches(self._delegate, counter.plan(), drawn, self.addresses, self._batch_failed):
            self.runs += 1
            counter.receive(trace)
            found.append(counter.repetitions)
        return found

    def run_all(self, rng: np.random.Generator, makes: Sequence[Callable[[], C]]) -> list[tuple[Trace, C]]:
        """Run once under each of `makes`, concurrently or without waiting for each answer if the model is able to.

        The traces and the errors are those of successive calls of `run`.
        """
        if self._concurrent is None and self.proposable is None:
            return [self.run(rng, make) for make in makes]
        controllers = [make() for make in makes]
        plans: list[RunPlan] = []
        for controller in controllers:
            if not isinstance(controller, Planner) or controller.assisted:
                return [self.run(rng, make) for make in makes]
            plans.append(controller.plan())
        traces = self._run_plans([(plan, draw_seed(rng)) for plan in plans])
        before = self.runs - len(traces)
        for number, (controller, trace) in enumerate(zip(controllers, traces, strict=True), 1):
            self.runs = before + number  # messages name the last run
            if isinstance(controller, Planner):
                controller.receive(trace)
            self.check(trace)
        return list(zip(traces, controllers, strict=True))

    def _run_plans(self, requests: Sequence[tuple[RunPlan, int]]) -> Sequence[PlannedTrace]:
        """Run each plan once with its seed, and count the runs; raises like `run`."""
        if self._concurrent is not None:
            traces = self._concurrent.carry_out_all(requests, self.addresses)
            self.runs += len(traces)
            return traces
        model = self.proposable
        assert model is not None  # the caller has checked it
        found = self.run_each(model, requests)
        if found is None:
            found = [self._carry_out(model, plan, seed) for plan, seed in requests]
            self.runs += len(found)
        return found

    @property
    def proposable(self) -> Proposable | None:
        """The model, if it can carry out plans with proposed rows, else None."""
        return self.model if isinstance(self.model, Proposable) and self.model.takes_proposals else None

    def run_each(self, model: Proposable, requests: Sequence[tuple[RunPlan, int]]) -> Sequence[PlannedTrace] | None:
        """Let the model run each plan once with its seed; return None if it failed and was replaced by a new process.

        The caller has to `check` the traces that it uses.
        """
        try:
            traces = model.carry_out_each(requests, self.addresses)
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

    @property
    def stepper(self) -> Stepper | None:
        """The model, if it can make the steps of a chain itself, else None."""
        return self.model if isinstance(self.model, Stepper) and self.model.can_step else None

    def take_steps(self, stepper: Stepper, steps: Steps) -> tuple[Sequence[tuple[int, int]], Sequence[PlannedTrace]]:
        """Let the model make steps of a chain; raises like `run`.

        `count_step` counts the runs and checks their traces, when the chain arrives at them.
        """
        for attempt in range(self.retries + 1):
            try:
                return stepper.take_steps(steps, self.addresses)
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt, f", steps of a chain of seed {steps.seed} from {steps.first} on,")
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def count_step(self, trace: PlannedTrace | None) -> None:
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
        """Yield one prior run for each seed, scored with the observations; raises like `run`.

        With `details`, the traces can become states of a chain.
        """
        if self._delegate is None:
            for seed in seeds:
                yield self._prior(np.random.Generator(np.random.PCG64(seed)))
            return
        plan = RunPlan(observed=self.observations.values, details=details)
        for trace in run_in_batches(self._delegate, plan, seeds, self.addresses, self._batch_failed):
            self.runs += 1
            self.check(trace)
            yield trace

    def _prior(self, rng: np.random.Generator) -> Trace:
        return self.run(rng, lambda: PriorController(rng, self.observations))[0]

    def _run(self, controller: Controller, rng: np.random.Generator) -> Trace:
        if self._delegate is None or not isinstance(controller, Planner):
            return run(self.model, controller, self.addresses, self._bases)
        trace = self._delegate.assist(controller.plan(), draw_seed(rng), controller.answer, self.addresses)
        controller.receive(trace)
        return trace

    def _run_plan(self, delegate: Delegate, controller: Planner, seed: int) -> PlannedTrace:
        """Let the model carry out a plan. A failed attempt leaves no state behind, so the next one is identical."""
        trace = self._carry_out(delegate, controller.plan(), seed)
        self.runs += 1
        controller.receive(trace)
        self.check(trace)
        return trace

    def _carry_out(self, delegate: Delegate, plan: RunPlan, seed: int) -> PlannedTrace:
        for attempt in range(self.retries + 1):
            try:
                return delegate.carry_out(plan, (seed,), self.addresses)[0]
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
        if isinstance(trace, PlannedTrace):
            if trace.lost or trace.mismatch:
                return  # it broke off, perhaps before some of its observe statements
            if self.observations.names_open:
                self.observations.record_names(observed.name for observed in trace.observes)
        if self.observations.names_open:
            self.observations.check_names()
        if math.isnan(trace.log_likelihood):
            self._explain_nan(trace)
        self.observations.check_complete(trace)

    def _explain_nan(self, trace: Trace) -> None:
        if isinstance(trace, PlannedTrace):
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
