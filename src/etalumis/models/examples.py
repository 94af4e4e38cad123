# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Small models with known exact posteriors. The C++ examples of the same names make the same draws."""

import math
from collections.abc import Callable

import numpy as np

from etalumis.distributions import ArrayDistribution, Categorical, Normal, Poisson, Uniform
from etalumis.models.frontend import FunctionModel, observe, rejection_scope, sample, tag

PRIOR_MEAN, PRIOR_STDDEV = 1.0, math.sqrt(5.0)
NOISE_STDDEV = math.sqrt(2.0)


def gaussian_unknown_mean() -> float:
    """Draw mu ~ N(1, sqrt 5) and observe "obs0", "obs1" ~ N(mu, sqrt 2).

    For the observations 8 and 9: posterior mean 7.25, variance 0.833333, log evidence -8.239404.
    """
    mu = sample(Normal(PRIOR_MEAN, PRIOR_STDDEV), name="mu")
    return _observe_mean(mu)


def marsaglia() -> float:
    """Draw the same mu with Marsaglia's polar method; every repetition of its loop is a latent.

    Posterior and evidence as in `gaussian_unknown_mean`.
    """
    while not _in_disc(*(point := _in_square())):
        pass
    return _observe_mean(_polar(*point))


def marsaglia_replaced() -> float:
    """Draw the same mu with Marsaglia's polar method; its loop is a rejection scope.

    The accepted pair (x, y) has density 1{0 < x^2 + y^2 < 1} / (4 Z) with Z = pi / 4, the same in every run.
    Posterior and evidence as in `gaussian_unknown_mean`.
    """
    with rejection_scope() as scope:
        while not _in_disc(*(point := _in_square())):
            scope.repeat()
    return _observe_mean(_polar(*point))


def branching() -> float:
    """Draw r ~ Poisson(4), which decides whether a second draw follows, and observe "obs" ~ Poisson(l).

    l = 6 for r > 4, else 1 + (1, 2, 8, 34, 144)[r] + s with s ~ Poisson(4). For the observation 6: P(r = 0..8) =
    .030375 .122793 .04404 0 0 .338049 .225366 .12878 .06439, mean 5.112284, log evidence -2.600149.
    """
    r = sample(Poisson(4.0), name="r")
    tag("r", r)
    rate = 6.0 if r > 4 else 1.0 + (1, 2, 8, 34, 144)[int(r)] + sample(Poisson(4.0), name="s")
    observe(Poisson(rate), name="obs")
    return r


LOOP_NOISE_STDDEV = 0.2


def dependent_loop() -> float:
    """Draw theta, then x with a rejection loop whose acceptance depends on theta, and observe "obs" ~ N(x, 0.2).

    theta ~ U(0.5, 4); the loop draws x, u ~ U(0, 1) until u <= x^theta, which happens with probability
    Z(theta) = 1 / (theta + 1). The accepted x has density (theta + 1) x^theta, so that
    p(theta, x | y) is proportional to (theta + 1) x^theta N(y; x, 0.2). Ignoring Z gives a different posterior.
    """
    theta = sample(Uniform(0.5, 4.0), name="theta")
    with rejection_scope() as scope:
        while True:
            x = sample(Uniform(0.0, 1.0), name="x")
            if sample(Uniform(0.0, 1.0), name="u") <= x**theta:
                break
            scope.repeat()
    tag("x", x)
    observe(Normal(x, LOOP_NOISE_STDDEV), name="obs")
    return theta


HMM_TRANSITIONS = ((0.7, 0.2, 0.1), (0.15, 0.7, 0.15), (0.1, 0.3, 0.6))
HMM_MEANS = (-1.0, 0.5, 2.0)
HMM_STEPS = 5


def hidden_markov() -> float:
    """Draw a chain of five states, each of which decides the prior of the next, and observe "obs0" ... "obs4".

    The first state is uniform over three, the others follow `HMM_TRANSITIONS`, and obs_t ~ N(`HMM_MEANS[state_t]`, 1).
    The posterior follows from the forward-backward algorithm.
    """
    state, probs = 0.0, (1 / 3, 1 / 3, 1 / 3)
    for step in range(HMM_STEPS):
        state = sample(Categorical(probs), name=f"state{step}")
        probs = HMM_TRANSITIONS[int(state)]
        observe(Normal(HMM_MEANS[int(state)], 1.0), name=f"obs{step}")
    return state


VECTOR_MEAN, VECTOR_STDDEV = (0.0, 1.0, -1.0), (1.0, 2.0, 0.5)
VECTOR_NOISE_STDDEV = 0.7


def linear_gaussian() -> float:
    """Draw a vector theta and observe "obs0" ~ N(theta_0 + theta_1, 0.7), "obs1" ~ N(theta_1 - theta_2, 0.7).

    The elements of theta are normal, of means 0, 1, -1 and standard deviations 1, 2, 0.5.
    """
    theta = sample(ArrayDistribution(Normal.code, (np.array(VECTOR_MEAN), np.array(VECTOR_STDDEV))), name="theta")
    observe(Normal(float(theta[0] + theta[1]), VECTOR_NOISE_STDDEV), name="obs0")
    observe(Normal(float(theta[1] - theta[2]), VECTOR_NOISE_STDDEV), name="obs1")
    return float(theta.sum())


def _in_square() -> tuple[float, float]:
    return sample(Uniform(-1.0, 1.0)), sample(Uniform(-1.0, 1.0))


def _in_disc(x: float, y: float) -> bool:
    return 0.0 < x * x + y * y < 1.0


def _polar(x: float, y: float) -> float:
    s = x * x + y * y
    return PRIOR_MEAN + PRIOR_STDDEV * x * math.sqrt(-2.0 * math.log(s) / s)


def _observe_mean(mu: float) -> float:
    tag("mu", mu)
    for name in ("obs0", "obs1"):
        observe(Normal(mu, NOISE_STDDEV), name=name)
    return mu


ALL: dict[str, Callable[[], float]] = {
    function.__name__: function
    for function in (
        gaussian_unknown_mean,
        marsaglia,
        marsaglia_replaced,
        branching,
        dependent_loop,
        hidden_markov,
        linear_gaussian,
    )
}
"""The examples by name."""


def model(name: str) -> FunctionModel:
    """Return the example with this function name as a model."""
    return FunctionModel(ALL[name], name)
