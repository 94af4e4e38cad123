# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Weighted runs that a population or a chain starts from."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from etalumis.errors import InferenceError
from etalumis.inference.state import ChainState, StructureCache
from etalumis.progress import Progress
from etalumis.trace import Trace
from etalumis.typing import Array


class FirstRuns(NamedTuple):
    """The runs that can produce the observation.

    Attributes
    ----------
    states
        Their traces.
    number
        (run,) number of each among all runs.
    log_weight
        (run,) log weights for the prior: without the likelihood.
    log_likelihood
        (run,) log likelihoods.
    """

    states: list[ChainState]
    number: Array
    log_weight: Array
    log_likelihood: Array


def first_runs(
    runs: Iterable[tuple[Trace, float]], count: int, structures: StructureCache, model: str, label: str
) -> FirstRuns:
    """Make weighted runs, and return those whose weight is not zero.

    Parameters
    ----------
    runs
        Trace and log weight of each.
    count
        Number of runs.
    structures
        Builds the states.
    model, label
        Names of the model and of the job or chain, for messages and the progress.

    Raises
    ------
    InferenceError
        If a weight or a likelihood is infinite or NaN, or all weights are zero.
    """
    states: list[ChainState] = []
    number: list[int] = []
    log_weight: list[float] = []
    with Progress(count, "first runs", label) as progress:
        for i, (trace, log_w) in enumerate(runs):
            progress.update()
            require_finite_weight(model, f"first run {i}", trace, log_w)
            if log_w > -math.inf and trace.log_likelihood > -math.inf:
                states.append(structures.state(trace))
                number.append(i)
                log_weight.append(log_w - trace.log_likelihood)
    if not states:
        raise InferenceError(
            f"{model}: the observation has weight zero in all of {count} first runs, so {label} cannot start; expected "
            "at least one run that can produce it. Check the observation, or allow more first runs."
        )
    log_likelihood = np.array([state.log_likelihood for state in states])
    return FirstRuns(states, np.array(number), np.array(log_weight), log_likelihood)


def require_finite_weight(model: str, run: str, trace: Trace, log_weight: float) -> None:
    """Raise InferenceError if the weight or the likelihood of a run is infinite or NaN; zero is possible."""
    if not max(log_weight, trace.log_likelihood) < math.inf:  # or NaN
        raise InferenceError(
            f"{model}: {run} has log weight {log_weight} and log likelihood {trace.log_likelihood}; expected finite "
            "numbers or -inf. Correct the model."
        )
