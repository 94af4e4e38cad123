# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Exact posteriors of the example models, and comparisons in units of the Monte Carlo error."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats
from scipy import stats

from etalumis.diagnostics.run import lineages
from etalumis.diagnostics.weights import summarise_continuous, summarise_weights
from etalumis.inference import Posterior
from etalumis.models import examples
from etalumis.models.examples import HMM_MEANS, HMM_STEPS, HMM_TRANSITIONS, LOOP_NOISE_STDDEV

SIGMAS = 4.0
"""Tolerance in Monte Carlo standard errors. The seeds are fixed, so a test that passes keeps passing."""


@dataclass(frozen=True)
class Exact:
    """Observations of a model, and posterior expectations E[f] of functions of a named value."""

    observations: dict[str, float]
    log_evidence: float
    expectations: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], float]]
    """Label -> (value name, function, expectation under the posterior)."""


def _gaussian() -> Exact:
    mean, variance = 7.25, 5.0 / 6.0
    return Exact(
        {"obs0": 8.0, "obs1": 9.0},
        -8.239404,
        {
            "mean": ("mu", lambda mu: mu, mean),
            "variance": ("mu", lambda mu: (mu - mean) ** 2, variance),
            "lower half": ("mu", lambda mu: (mu < mean).astype(float), 0.5),
        },
    )


def _branching() -> Exact:
    joint = np.zeros(40)
    for r in range(40):
        if r > 4:
            joint[r] = stats.poisson.pmf(r, 4) * stats.poisson.pmf(6, 6)
        else:
            s = np.arange(60)
            likelihood = stats.poisson.pmf(6, 1 + (1, 2, 8, 34, 144)[r] + s)
            joint[r] = stats.poisson.pmf(r, 4) * np.sum(stats.poisson.pmf(s, 4) * likelihood)
    posterior = joint / joint.sum()
    expectations = {"mean": ("r", lambda r: r, float(posterior @ np.arange(40)))}
    for r in (0, 1, 2, 5, 6, 7, 8):
        expectations[f"P({r})"] = ("r", lambda v, r=r: (v == r).astype(float), float(posterior[r]))
    return Exact({"obs": 6.0}, float(np.log(joint.sum())), expectations)


def loop_joint(y: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return midpoints of theta and x, the posterior probabilities on their grid, and the evidence, by quadrature."""
    theta = 0.5 + 3.5 * (np.arange(1400) + 0.5) / 1400
    x = (np.arange(2000) + 0.5) / 2000
    joint = (theta[:, None] + 1) * x ** theta[:, None] * stats.norm.pdf(y, x, LOOP_NOISE_STDDEV)
    joint /= len(theta) * len(x)
    return theta, x, joint / joint.sum(), float(joint.sum())


def _dependent_loop() -> Exact:
    y = 0.35
    theta, x, mass, evidence = loop_joint(y)
    mean_theta, mean_x = float(mass.sum(1) @ theta), float(mass.sum(0) @ x)
    return Exact(
        {"obs": y},
        math.log(evidence),
        {
            "theta": ("theta", lambda v: v, mean_theta),
            "theta^2": ("theta", lambda v: v**2, float(mass.sum(1) @ theta**2)),
            "x": ("x", lambda v: v, mean_x),
            "x^2": ("x", lambda v: v**2, float(mass.sum(0) @ x**2)),
        },
    )


def _hidden_markov() -> Exact:
    observed = np.array([0.4, 0.3, 1.9, 1.2, 0.1])
    transition = np.array(HMM_TRANSITIONS)
    likelihood = stats.norm.pdf(observed[:, None], np.array(HMM_MEANS), 1.0)  # (step, state)
    forward, backward = [likelihood[0] / 3], [np.ones(3)]
    for step in range(1, HMM_STEPS):
        forward.append(forward[-1] @ transition * likelihood[step])
        backward.insert(0, transition @ (likelihood[HMM_STEPS - step] * backward[0]))
    evidence = float(forward[-1].sum())
    marginal = np.array(forward) * np.array(backward) / evidence
    return Exact(
        {f"obs{step}": float(value) for step, value in enumerate(observed)},
        math.log(evidence),
        {
            f"P(state{step} = {state})": (
                f"state{step}", lambda v, s=state: (v == s).astype(float), float(marginal[step, state]),
            )
            for step in range(HMM_STEPS)
            for state in range(3)
        },
    )  # fmt: skip


def _linear_gaussian() -> Exact:
    mean, covariance = np.array(examples.VECTOR_MEAN), np.diag(np.square(examples.VECTOR_STDDEV))
    design, y = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]), np.array([1.5, 2.5])
    marginal = design @ covariance @ design.T + examples.VECTOR_NOISE_STDDEV**2 * np.eye(2)
    gain = covariance @ design.T @ np.linalg.inv(marginal)
    posterior_mean = mean + gain @ (y - design @ mean)
    variance = np.diag(covariance - gain @ design @ covariance)
    expectations = {}
    for i in range(3):
        expectations[f"mean {i}"] = (f"theta[{i}]", lambda v: v, float(posterior_mean[i]))
        expectations[f"variance {i}"] = (
            f"theta[{i}]", lambda v, m=posterior_mean[i]: (v - m) ** 2, float(variance[i]),
        )  # fmt: skip
    evidence = float(stats.multivariate_normal(design @ mean, marginal).logpdf(y))
    return Exact({"obs0": 1.5, "obs1": 2.5}, evidence, expectations)


ANSWERS = {
    "gaussian_unknown_mean": _gaussian(),
    "marsaglia": _gaussian(),
    "marsaglia_replaced": _gaussian(),
    "branching": _branching(),
    "dependent_loop": _dependent_loop(),
    "hidden_markov": _hidden_markov(),
    "linear_gaussian": _linear_gaussian(),
}


def values_of(posterior: Posterior, name: str) -> np.ndarray:
    """Return a value by name; peers without names return it as the result."""
    return posterior.values[name] if name in posterior.values else posterior.values["result"]


def assert_weighted(posterior: Posterior, exact: Exact) -> None:
    """Check self-normalised estimates and the evidence of weighted draws, in standard errors of the delta method."""
    weight = posterior.weight
    relative = math.sqrt(float(np.sum(weight**2)) - 1 / len(weight))
    assert relative < 0.15, f"too few effective draws ({relative**-2:.0f}) for a meaningful test"
    for label, (name, function, truth) in exact.expectations.items():
        values = function(values_of(posterior, name))
        estimate = float(weight @ values)
        error = math.sqrt(float(weight**2 @ (values - estimate) ** 2))
        assert abs(estimate - truth) < SIGMAS * error, f"{label}: {estimate} +- {error}, exact {truth}"
    assert abs(posterior.log_evidence - exact.log_evidence) < SIGMAS * relative


def assert_population(posterior: Posterior, exact: Exact) -> None:
    """Check means of a population and the evidence, in standard errors from the sums over its lineages."""
    log_weight = np.asarray(posterior.log_weight)
    summary = summarise_weights(log_weight, lineages(posterior))
    assert summary["log_evidence_mcse"] < 0.3, f"too few lineages ({summary['ess']:.0f}) for a meaningful test"
    for label, (name, function, truth) in exact.expectations.items():
        values = function(values_of(posterior, name)).astype(float)
        found = summarise_continuous(values, posterior.weight, lineages(posterior))
        assert abs(found["mean"] - truth) < SIGMAS * found["mcse"], f"{label}: {found}, exact {truth}"
    assert abs(posterior.log_evidence - exact.log_evidence) < SIGMAS * summary["log_evidence_mcse"]


def assert_chain(posterior: Posterior, exact: Exact) -> None:
    """Check means over a chain, in standard errors that account for its autocorrelation."""
    for label, (name, function, truth) in exact.expectations.items():
        assert_mean(function(values_of(posterior, name)), truth, label)


def assert_mean(values: np.ndarray, truth: float, label: str) -> None:
    """Check the mean of autocorrelated draws."""
    error = mcse(values)
    assert error < np.std(values) / 10, f"{label}: too few effective draws for a meaningful test"
    assert abs(values.mean() - truth) < SIGMAS * error, f"{label}: {values.mean()} +- {error}, exact {truth}"


def mcse(values: np.ndarray) -> float:
    """Return the Monte Carlo standard error of the mean of autocorrelated draws."""
    ess = float(array_stats.ess(values[None, :], chain_axis=0, draw_axis=1, method="mean"))
    return float(np.std(values)) / math.sqrt(ess)
