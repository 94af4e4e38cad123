# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A network that sees an image, a vector and a number, each with an embedding of its own: all of them are used."""

import math

import numpy as np
import pytest
from exact.answers import Exact, assert_weighted
from example_traces import make_example_traces
from mpi4py import MPI
from scipy import stats
from synthetic_batches import SMALL

from etalumis.config import from_mapping
from etalumis.distributions import ArrayDistribution, Normal
from etalumis.inference import compilation
from etalumis.models import FunctionModel, observe, sample
from etalumis.network import checkpoint
from etalumis.training import prepare
from etalumis.training.history import read_history

TRAIN, VALID, EPOCHS = 2048, 512, 16
NOISE = 0.5
_BUMP = np.exp(-0.5 * np.add.outer((np.arange(8) - 3.0) ** 2, (np.arange(9) - 5.0) ** 2) / 2.0)
SLOPES = {
    "image": np.stack([2.0 * _BUMP / math.sqrt(np.square(_BUMP).sum()), np.zeros((8, 9))], -1),
    "vector": np.stack([np.zeros(3), np.array([1.0, -1.5, 0.8])], -1),
    "number": np.array([2.0, -2.0]),
}
"""Name -> derivatives (*shape, 2) of the mean of an observe statement with respect to the two draws."""


def three_detectors():
    """Draw a, b ~ N(0, 1); the image shows a, the vector shows b, and the number shows a - b."""
    draws = np.array([sample(Normal(0.0, 1.0), name=name) for name in ("a", "b")])
    for name, slopes in SLOPES.items():
        mean = slopes @ draws
        observe(ArrayDistribution(Normal.code, (np.asarray(mean), np.asarray(NOISE))), name=name)


MODEL = FunctionModel(three_detectors)


def precision(*left_out):
    """Return the posterior precision (2, 2) of a and b without some observations."""
    flat = [slopes.reshape(-1, 2) for name, slopes in SLOPES.items() if name not in left_out]
    return np.eye(2) + sum(slopes.T @ slopes for slopes in flat) / NOISE**2


def entropy(*left_out):
    """Return the entropy of the posterior of a and b, in nats. It is the same for all observed values."""
    return math.log(2 * math.pi * math.e) - 0.5 * math.log(np.linalg.det(precision(*left_out)))


def exact_answer(observed):
    """Return posterior means, a second moment and the evidence."""
    slopes = np.concatenate([slopes.reshape(-1, 2) for slopes in SLOPES.values()])
    values = np.concatenate([np.ravel(observed[name]) for name in SLOPES])
    covariance = np.linalg.inv(precision())
    mean = covariance @ slopes.T @ values / NOISE**2
    marginal = slopes @ slopes.T + NOISE**2 * np.eye(len(values))
    return Exact(
        observed,
        stats.multivariate_normal(np.zeros(len(values)), marginal).logpdf(values),
        {
            "a": ("a", lambda a: a, mean[0]),
            "b": ("b", lambda b: b, mean[1]),
            "a^2": ("a", lambda a: a**2, mean[0] ** 2 + covariance[0, 0]),
        },
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three_detectors")
    traces = make_example_traces("three_detectors", folder / "traces", TRAIN, VALID, MODEL)
    training = {
        "batch_size": 32, "learning_rate": 1e-2, "learning_rate_end": 1e-4, "warmup_iterations": 5,
        "noise_ramp_share": 0.0, "max_traces": TRAIN * EPOCHS, "max_minutes": 60.0, "valid_every": 512,
    }  # fmt: skip
    shape = SMALL.model_dump() | {"mixture_components": 2, "observation_embedding": 16, "lstm_hidden": 32}
    config = from_mapping({"network": shape | {"embedding": "strided", "conv_channels": [4, 8]}, "training": training})
    prepare.train(config, traces.layers, traces.train, traces.valid, folder / "network", MPI.COMM_SELF)
    return folder / "network"


def test_every_observation_is_used(trained):
    """Whatever a network proposes without an observation, its mean loss is at least the entropy given the others."""
    loss = read_history(trained / "history.csv")[-1].valid_loss
    mcse = 1 / math.sqrt(VALID)  # half a chi-square of two degrees of freedom has variance 1
    bounds = {name: entropy(name) for name in SLOPES}
    assert loss > entropy() - 4 * mcse
    assert all(loss < bound - 4 * mcse for bound in bounds.values()), f"{loss}; {entropy()}; {bounds}"


def test_the_posterior_is_exact(trained, statistics):
    rng = np.random.default_rng(3)
    observed = {
        name: slopes @ [0.8, -0.9] + NOISE * rng.standard_normal(slopes.shape[:-1]) for name, slopes in SLOPES.items()
    }
    posterior = compilation(MODEL, observed, checkpoint.load(trained), runs=statistics.size(1_000, 8_000), seed=14)
    assert_weighted(posterior, exact_answer(observed))
    assert 1.0 / float(np.square(posterior.weight).sum()) > 0.2 * len(posterior.weight)
