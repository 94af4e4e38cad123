# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Running a model again and again for an engine: shared tables, checks, and a fresh process after a failure."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from etalumis.address import AddressTable
from etalumis.batches import carried_out, is_restartable, restart
from etalumis.delegation import Concurrent, Delegate, PlannedTrace, RunPlan, Stepper, Steps
from etalumis.errors import InferenceError, ProtocolError, SimulatorError
from etalumis.execution import BaseTable, Controller, Model, run
from etalumis.inference.controllers import Planner, PriorController
from etalumis.inference.observations import Observations
from etalumis.trace import Trace

logger = logging.getLogger(__name__)
C = TypeVar("C", bound=Controller)


def draw_seed(rng: np.random.Generator) -> int:
    """Return a seed for one run, uniform on 64 bits."""
    return int(rng.bit_generator.random_raw())


class ModelRunner:
    """Run `model` under one controller after another, with the same address numbers throughout.

    A simulator that dies, hangs or sends rubbish is replaced by a fresh process and the run is repeated with the same
    draws, at most `retries` times; a run is never dropped, since that would bias the weights.

    Attributes
    ----------
    runs
        Completed runs.
    failures
        Runs that were repeated on a fresh process.
    """

    def __init__(self, model: Model, observations: Observations, seed: int, retries: int = 3) -> None:
        self.model, self.observations, self.retries = model, observations, retries
        self._origin, self._runs_before = f"seed {seed}", 0
        self.addresses = AddressTable()
        self._bases = BaseTable(self.addresses)
        self._names_checked = False
        self._delegate: Delegate | None = model if isinstance(model, Delegate) and model.delegates else None
        self._concurrent: Concurrent | None = model if self._delegate and isinstance(model, Concurrent) else None
        self.runs = 0
        self.failures = 0

    def begin(self, seed: int, of: str) -> None:
        """Say that the runs from here on draw from `seed`, that of the part `of` of the work (for messages)."""
        self._origin, self._runs_before = f"seed {seed} ({of})", self.runs

    def run(self, rng: np.random.Generator, make: Callable[[], C]) -> tuple[Trace, C]:
        """Run once under `make()` and return the trace and its controller.

        `make` is called anew, with `rng` set back, for every attempt.

        Raises
        ------
        InferenceError
            A likelihood is NaN, or the observations do not fit the model.
        SimulatorError, ProtocolError
            The simulator failed `retries` + 1 times in a row.
        """
        controller = make()
        if self._delegate is not None and isinstance(controller, Planner) and not controller.assisted:
            return self._carried_out(self._delegate, controller, draw_seed(rng)), controller
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
            self._check(trace)
            return trace, controller
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def run_all(self, rng: np.random.Generator, makes: Sequence[Callable[[], C]]) -> list[tuple[Trace, C]]:
        """Run once under each of `makes`; raises as `run` does, which gives the same traces one after the other.

        A model of several processes does the runs at the same time.
        """
        if self._concurrent is None:
            return [self.run(rng, make) for make in makes]
        controllers = [make() for make in makes]
        plans: list[RunPlan] = []
        for controller in controllers:
            if not isinstance(controller, Planner) or controller.assisted:
                return [self.run(rng, make) for make in makes]
            plans.append(controller.plan())
        traces = self._concurrent.carry_out_all([(plan, draw_seed(rng)) for plan in plans], self.addresses)
        for controller, trace in zip(controllers, traces, strict=True):
            self.runs += 1
            if isinstance(controller, Planner):
                controller.came(trace)
            self._check(trace)
        return list(zip(traces, controllers, strict=True))

    @property
    def stepper(self) -> Stepper | None:
        """The model, if it makes the steps of a chain by itself."""
        return self.model if isinstance(self.model, Stepper) and self.model.steps else None

    def take_steps(self, stepper: Stepper, steps: Steps) -> tuple[Sequence[tuple[int, int]], Sequence[PlannedTrace]]:
        """Have the model make steps of a chain; raises as `run` does.

        The runs are counted, and their traces checked, by `stepped`, when the chain comes to them.
        """
        for attempt in range(self.retries + 1):
            try:
                return stepper.take_steps(steps, self.addresses)
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt, f", steps of a chain of seed {steps.seed} from {steps.first} on,")
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def stepped(self, trace: PlannedTrace | None) -> None:
        """Count a run that the model made for a step, and check the trace that it led to, if it did."""
        self.runs += 1
        if trace is not None:
            self._check(trace)

    def priors(self, seeds: Sequence[int], *, details: bool = False) -> Iterator[Trace]:
        """Yield one prior run for each seed, scored with the observations; raises as `run` does.

        `details`: the traces are to go on from, by a chain.
        """
        if self._delegate is None:
            for seed in seeds:
                yield self._prior(np.random.Generator(np.random.PCG64(seed)))
            return
        plan = RunPlan(observed=self.observations.values, details=details)
        for trace in carried_out(self._delegate, plan, seeds, self.addresses, self._batch_failed):
            self.runs += 1
            self._check(trace)
            yield trace

    def _prior(self, rng: np.random.Generator) -> Trace:
        return self.run(rng, lambda: PriorController(rng, self.observations))[0]

    def _run(self, controller: Controller, rng: np.random.Generator) -> Trace:
        if self._delegate is None or not isinstance(controller, Planner):
            return run(self.model, controller, self.addresses, self._bases)
        trace = self._delegate.assist(controller.plan(), draw_seed(rng), controller.answer, self.addresses)
        controller.came(trace)
        return trace

    def _carried_out(self, delegate: Delegate, controller: Planner, seed: int) -> PlannedTrace:
        """Have a plan carried out; a failed attempt leaves nothing behind, so the next one is simply the same."""
        plan = controller.plan()
        for attempt in range(self.retries + 1):
            try:
                trace = delegate.carry_out(plan, (seed,), self.addresses)[0]
            except (SimulatorError, ProtocolError) as error:
                self._recover(error, attempt, f", drawn from seed {seed},")
                continue
            self.runs += 1
            controller.came(trace)
            self._check(trace)
            return trace
        raise AssertionError("unreachable: _recover raises after the last attempt")

    def _batch_failed(self, error: Exception, index: int, failures: int) -> None:
        if failures:
            self._recover(error, failures - 1)
        elif is_restartable(self.model):
            restart(self.model, self.retries)  # which run of the batch it was comes out when they are repeated
        else:
            raise error

    def _recover(self, error: Exception, attempt: int, seed: str = "") -> None:
        if attempt == self.retries or not is_restartable(self.model):
            logger.error("%s: %s%s failed for good", self.model.name, self._place(self.runs), seed)
            raise error
        self.failures += 1
        logger.warning(
            "%s: %s%s failed (%s); repeating it on a fresh process (%d of %d)",
            self.model.name, self._place(self.runs), seed, error, attempt + 1, self.retries,
        )  # fmt: skip
        restart(self.model, self.retries - attempt - 1)

    def _place(self, run: int) -> str:
        return f"run {run - self._runs_before} of {self._origin}"

    def _check(self, trace: Trace) -> None:
        if isinstance(trace, PlannedTrace):
            if trace.lost or trace.mismatch:
                return  # it broke off: there may be observe statements that it did not come to
            if not self._names_checked:
                for observed in trace.observes:
                    self.observations.saw(observed.name)
        if not self._names_checked:
            self.observations.check_names()
            self._names_checked = True
        if math.isnan(trace.log_likelihood):
            self._explain_nan(trace)
        self.observations.check_complete(trace)

    def _explain_nan(self, trace: Trace) -> None:
        if isinstance(trace, PlannedTrace):
            for observed in trace.misfits():
                assert observed.distribution is not None  # comes with every misfit
                self.observations.value(observed.name, observed.distribution, None)
                raise InferenceError(
                    f"{self.model.name}: observe {observed.name!r} at {observed.address} was given a value of another "
                    f"shape than its distribution's, {observed.distribution.shape}; mend the model"
                )
        for observed in trace.observes:
            if math.isnan(observed.log_prob):
                raise InferenceError(
                    f"{self.model.name}: the log likelihood of observe {observed.name!r} at {observed.address} is NaN "
                    f"in {self._place(self.runs - 1)}; expected a number or -inf. The model computes a "
                    "parameter of this distribution from invalid numbers."
                )
