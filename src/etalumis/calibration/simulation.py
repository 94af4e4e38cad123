# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Truths and observations drawn from a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalumis import seeds
from etalumis.delegation import RunPlan
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference.draws import draw_of
from etalumis.inference.observations import Observations
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.names import quoted
from etalumis.trace import Observed
from etalumis.typing import Array

STAGE = "calibrate"


@dataclass(frozen=True)
class Simulated:
    """A run of the model: its latents, and an observation drawn from its likelihood.

    Attributes
    ----------
    truth
        Tags, named entries and the result of the run, by name.
    observations
        Name of the observe statement -> value, or None if it is left out.
    """

    truth: dict[str, Array]
    observations: dict[str, Array | None]


def simulate(
    model: Model,
    seed: int,
    index: int,
    unconditioned: Sequence[str] = (),
    retries: int = 3,
) -> Simulated:
    """Draw truth and observation number `index` from the joint distribution p(x, y) of a model.

    The run draws from (seed, "calibrate", index), and the observation from its likelihood with (seed,
    "calibrate/observation", index). They do not depend on the engine, so engines are compared on equal observations.

    Parameters
    ----------
    unconditioned
        Observe statements to leave out.

    Raises
    ------
    InferenceError
        If the run has no observe statement, or one without a name, or two of the same name: these cannot be
        conditioned on different values.
    SimulatorError, ProtocolError
        If the simulator fails repeatedly.
    """
    runner = ModelRunner(model, Observations(), seeds.derive(seed, STAGE, index), retries)
    runner.begin(seeds.derive(seed, STAGE, index), f"truth {index}")
    rng = seeds.generator(seed, STAGE, index)
    trace = runner.carry_out(RunPlan(parameters=True), draw_seed(rng))
    noise = seeds.generator(seed, f"{STAGE}/observation", index)
    observations: dict[str, Array | None] = {}
    for observed in trace.observes:
        _check_statement(runner.model.name, observed, observations)
        observations[observed.name] = observed.likelihood.sample(noise)
    observations |= dict.fromkeys(unconditioned)
    if all(value is None for value in observations.values()):
        raise InferenceError(
            f"{runner.model.name}: run {index} from the prior observes nothing to condition on; expected an observe "
            "statement that is not left out (--unconditioned)"
        )
    values = draw_of(trace).values
    return Simulated({name: np.asarray(value, dtype=float) for name, value in values.items()}, observations)


def _check_statement(model: str, observed: Observed, earlier: dict[str, Array | None]) -> None:
    if not observed.name:
        raise InferenceError(
            f"{model}: the observe statement at {observed.address} has no name, so no value can be given for it. Name "
            "it in the model."
        )
    if observed.name in earlier:
        raise InferenceError(
            f"{model}: a run executes the observe statement {quoted(observed.name)} several times, but a posterior can "
            "be conditioned on one value per name. Give each statement its own name, or observe an array at once."
        )
