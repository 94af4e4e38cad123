# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posterior predictive checks: whether draws of the posterior would produce an observation like this one.

Some traces of a posterior are chosen by weight as they come, and replayed at the end for the parameters of their
observe statements. For each, p is the probability that a new observation y' of the trace is less likely than y:

    p(x) = P(log p(y' | x) <= log p(y | x)),    y' ~ p(. | x)

Its posterior mean is the posterior predictive p-value of the discrepancy -log p(y | x) (Gelman, Meng and Stern 1996).
For normal distributions, the discrepancy is chi-square. Near 0, the posterior does not explain the observation: the
model lacks something, or the engine missed a region. Near 1, the observation is closer to its expectation than its
noise allows.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import scipy

from etalumis.distributions import ArrayDistribution, Normal
from etalumis.inference.replays import replay_plan
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.trace_reservoir import KeptTrace, TraceReservoir
from etalumis.typing import Array, FloatArray

logger = logging.getLogger(__name__)

REPLICATES = 20
"""Number of new observations per trace, if their discrepancy has no known distribution."""


@dataclass(frozen=True)
class PredictiveCheck:
    """The check of one posterior.

    Attributes
    ----------
    log_weight
        (replay,) log weights: the total weight of its chain or job over the number of replays.
    p
        (replay,) probability of a less likely observation.
    p_signal
        (replay,) the same for the normal elements whose expectation differs from zero by more than their standard
        deviation; nan if there are none.
    signal_elements
        (replay,) number of these elements.
    expected
        Name of the observe statement -> posterior mean of the expected observation, of its shape; for normal statements
        that every trace reaches once.
    """

    log_weight: FloatArray
    p: FloatArray
    p_signal: FloatArray
    signal_elements: FloatArray
    expected: dict[str, Array]

    def mean(self, column: FloatArray) -> float:
        """Return the weighted mean of a column over the replays that have a value; nan if none has."""
        known = ~np.isnan(column)
        if not known.any():
            return float("nan")
        weight = np.exp(self.log_weight[known] - self.log_weight[known].max())
        return float(np.average(column[known], weights=weight))

    def as_columns(self) -> dict[str, Array]:
        """Return the datasets of a posterior file by name; `from_columns` is the inverse."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return columns | {f"{_EXPECTED}{name}": image for name, image in self.expected.items()}

    @classmethod
    def from_columns(cls, columns: Mapping[str, Array]) -> Self:
        """Return the check from the datasets of a posterior file."""
        expected = {
            name.removeprefix(_EXPECTED): image for name, image in columns.items() if name.startswith(_EXPECTED)
        }
        return cls(**{name: columns[name] for name in _COLUMNS}, expected=expected)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the checks of several chains or jobs."""
        total = np.array([np.logaddexp.reduce(part.log_weight) for part in parts])
        weight = np.exp(total - total.max())
        shapes = [{name: image.shape for name, image in part.expected.items()} for part in parts]
        names = [name for name in shapes[0] if all(shape.get(name) == shapes[0][name] for shape in shapes)]
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS},
            expected={
                name: np.average([part.expected[name] for part in parts], axis=0, weights=weight) for name in names
            },
        )


_COLUMNS = ("log_weight", "p", "p_signal", "signal_elements")
_EXPECTED = "expected "


def predictive_check(runner: ModelRunner, reservoir: TraceReservoir) -> PredictiveCheck | None:
    """Replay the chosen traces and compare the observation with what they expect.

    Returns
    -------
    PredictiveCheck or None
        None if nothing was observed, if no draw has a weight, or, with a warning, if a replay has another likelihood.
    """
    rng, runs = reservoir.rng, runner.runs
    replayed: dict[int, _Replayed | None] = {}
    for kept in reservoir.traces:
        if id(kept) not in replayed:
            replayed[id(kept)] = _replay(runner, kept, rng)
    runner.runs = runs  # replays are not runs of the engine
    known = [replay for kept in reservoir.traces if (replay := replayed[id(kept)]) is not None]
    if not known or len(known) < len(reservoir.traces):
        return None
    images = [replay.expected for replay in known]
    names = [name for name, image in images[0].items() if _everywhere(images, name, image.shape)]
    return PredictiveCheck(
        log_weight=np.full(len(known), reservoir.log_total - np.log(len(known))),
        p=np.array([replay.p for replay in known]),
        p_signal=np.array([replay.p_signal for replay in known]),
        signal_elements=np.array([replay.signal_elements for replay in known], dtype=np.float64),
        expected={name: np.mean([image[name] for image in images], axis=0) for name in names},
    )


def _replay(runner: ModelRunner, kept: KeptTrace, rng: np.random.Generator) -> "_Replayed | None":
    plan = replay_plan(kept.saved, runner.observations)._replace(parameters=True)
    trace = runner.carry_out(plan, draw_seed(rng))
    if trace.log_likelihood != kept.log_likelihood:
        logger.warning(
            "%s: no predictive check, since replaying a trace gave the log likelihood %r instead of %r; the model has "
            "a source of randomness of its own",
            runner.model.name, trace.log_likelihood, kept.log_likelihood,
        )  # fmt: skip
        return None
    scored: list[tuple[str, ArrayDistribution, Array]] = []
    for observed in trace.observes:
        value = runner.observations.value(observed.name, observed.likelihood, observed.value)
        if value is not None:
            scored.append((observed.name, observed.likelihood, value))
    return _compare(scored, rng) if scored else None


class _Replayed(NamedTuple):
    """See `PredictiveCheck`."""

    p: float
    p_signal: float
    signal_elements: int
    expected: dict[str, Array]


def _compare(scored: Sequence[tuple[str, ArrayDistribution, Array]], rng: np.random.Generator) -> _Replayed:
    """Compare the observed values with what their distributions expect."""
    squares, signal_squares, elements, signal_elements = 0.0, 0.0, 0, 0
    expected: dict[str, Array] = {}
    normal = [(name, d, np.asarray(value)) for name, d, value in scored if d.code == Normal.code]
    for name, distribution, value in normal:
        mean, sd = (np.broadcast_to(array, distribution.shape) for array in distribution.arrays)
        pull = np.square((value - mean) / sd)
        signal = np.abs(mean) > sd
        squares, elements = squares + float(pull.sum()), elements + pull.size
        signal_squares += float(pull[signal].sum())
        signal_elements += int(signal.sum())
        if sum(other == name for other, _, _ in scored) == 1:
            expected[name] = np.asarray(mean, dtype=np.float32)
    p = _chi_square_tail(elements, squares) if len(normal) == len(scored) else _p_of_replicates(scored, rng)
    return _Replayed(p, _chi_square_tail(signal_elements, signal_squares), signal_elements, expected)


def _chi_square_tail(elements: int, squares: float) -> float:
    """Return the probability that the chi-square of as many elements exceeds `squares`; nan without elements."""
    return float(scipy.special.chdtrc(elements, squares)) if elements else float("nan")


def _p_of_replicates(scored: Sequence[tuple[str, ArrayDistribution, Array]], rng: np.random.Generator) -> float:
    """Return the share of replicates that are less likely than the observation; equally likely ones count half."""
    observed = sum(distribution.log_prob(value) for _, distribution, value in scored)
    replicated = np.array(
        [sum(d.log_prob(d.sample(rng)) for _, d, _ in scored) for _ in range(REPLICATES)], dtype=np.float64
    )
    return float(np.mean((replicated < observed) + 0.5 * (replicated == observed)))


def _everywhere(images: Sequence[Mapping[str, Array]], name: str, shape: tuple[int, ...]) -> bool:
    return all(name in image and image[name].shape == shape for image in images)
