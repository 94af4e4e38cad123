# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A network is trained on traces that have every kind of prior: each of its proposals learns."""

import numpy as np
from example_traces import make_example_traces
from mpi4py import MPI
from synthetic_batches import PRIORS, SMALL

from etalumis.config import from_mapping
from etalumis.distributions import BY_CODE, ArrayDistribution, Normal
from etalumis.inference import compilation, importance
from etalumis.models import FunctionModel, observe, sample
from etalumis.network import checkpoint
from etalumis.training import prepare

TRAIN, VALID, EPOCHS = 6144, 256, 3
NAMES = [f"{prior.kind}{number}" for number, prior in enumerate(PRIORS)]


def _quartiles(prior):
    rng = np.random.default_rng(2)
    return np.quantile([prior.sample(rng) for _ in range(1_001)], [0.25, 0.5, 0.75])


QUARTILES = np.array([*map(_quartiles, PRIORS), *map(_quartiles, (Normal(0.0, 1.0), Normal(1.0, 1.0)))]).T


def seen(values):
    """Return what is observed without noise: values in the units of their priors, heavy tails bent."""
    low, middle, high = QUARTILES
    return np.arctan((values - middle) / np.where(high > low, high - low, 1.0))


def every_prior():
    """One draw from each prior, and a vector; every value is observed with noise."""
    values = [sample(prior, name=name) for prior, name in zip(PRIORS, NAMES, strict=True)]
    vector = sample(ArrayDistribution(Normal.code, (np.array([0.0, 1.0]), np.array(1.0))), name="vector")
    observe(ArrayDistribution(Normal.code, (seen([*values, *vector]), np.array(0.1))), name="obs")


def test_the_proposals_of_every_prior_learn(tmp_path):
    assert {prior.code for prior in PRIORS} == set(BY_CODE)
    model = FunctionModel(every_prior)
    traces = make_example_traces("every_prior", tmp_path / "traces", TRAIN, VALID, model)
    training = {"batch_size": 32, "learning_rate": 5e-3, "learning_rate_end": 5e-4, "warmup_iterations": 5}
    budget = {"max_traces": TRAIN * EPOCHS, "max_minutes": 60.0, "valid_every": 1_000}
    shape = SMALL.model_dump() | {"mixture_components": 3, "observation_embedding": 64, "lstm_hidden": 64}
    config = from_mapping({"network": shape, "training": training | budget})
    prepare.train(config, traces.layers, traces.train, traces.valid, tmp_path / "network", MPI.COMM_SELF)
    parts = checkpoint.read_manifest(tmp_path / "network")["training"]["valid_by_name"]
    assert set(parts) == {*NAMES, "vector[0]", "vector[1]"}
    for name, part in parts.items():
        assert part["loss"] < part["prior_loss"] - 0.05, (name, part)
    # The network's proposals in inference. The mean of log w is at most the log evidence, and equals it if the
    # proposals are the posterior. Its median tells proposals apart with few draws. The effective sample size does
    # not: one draw has nearly all of the weight.
    observed = {"obs": seen(QUARTILES[2])}
    network = checkpoint.load(tmp_path / "network")
    proposed = compilation(model, observed, network, runs=500, seed=1)
    prior = importance(model, observed, runs=500, seed=1)
    assert proposed.info["unknown_address_fraction"] == 0.0
    assert np.median(proposed.log_weight) > np.median(prior.log_weight) + 100.0
