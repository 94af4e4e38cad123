# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Products in bfloat16 train as well as those in float32."""

from pathlib import Path

import numpy as np
from example_traces import ExampleTraces, make_example_traces
from lanes import Statistics
from mpi4py import MPI
from synthetic_batches import SMALL

from etalumis.config import from_mapping
from etalumis.distributions import ArrayDistribution, Normal, Uniform
from etalumis.models import FunctionModel, observe, sample
from etalumis.network import checkpoint
from etalumis.training import prepare

TRAIN, VALID, BATCH, STEPS = 6400, 640, 64, 200
PLACES = np.arange(12.0)


def spot() -> None:
    """A spot at a random place in a noisy image."""
    row, column = (sample(Uniform(0.0, 12.0), name=name) for name in ("row", "column"))
    image = np.outer(*(np.exp(-0.5 * (PLACES - place) ** 2) for place in (row, column)))
    observe(ArrayDistribution(Normal.code, (image, np.array(0.2))), name="image")


def valid_loss(traces: ExampleTraces, folder: Path, dtype: str, seed: int) -> float:
    """Train for `STEPS` steps and return the validation loss."""
    shape = SMALL.model_dump() | {"embedding": "strided", "conv_channels": [8, 16, 16], "mixture_components": 3}
    shape |= {"lstm_hidden": 64, "observation_embedding": 32, "dtype": dtype}
    training = {"batch_size": BATCH, "max_traces": BATCH * STEPS, "learning_rate": 5e-3, "valid_every": STEPS}
    config = from_mapping({"run": {"seed": seed}, "network": shape, "training": training})
    prepare.train(config, traces.layers, traces.train, traces.valid, folder, MPI.COMM_SELF)
    record = checkpoint.read_manifest(folder)["training"]
    assert (record["iterations"], record["arithmetic"]) == (STEPS, dtype)
    assert record["valid_loss"] < record["prior_loss"] - 2.0
    return float(record["valid_loss"])


def test_the_loss_after_200_steps_is_that_of_float32(tmp_path: Path, statistics: Statistics) -> None:
    """Rounding changes the course of a training as another seed does, so the mean over seeds is compared."""
    traces = make_example_traces("spot", tmp_path, TRAIN, VALID, FunctionModel(spot))
    losses = np.array(
        [
            [valid_loss(traces, tmp_path / f"{dtype}-{seed}", dtype, seed) for dtype in ("float32", "bfloat16")]
            for seed in range(1, 1 + statistics.size(4, 16))
        ]
    )
    relative = losses[:, 1] / losses[:, 0] - 1.0
    error = relative.std(ddof=1) / np.sqrt(len(relative))
    assert 0.0 < error < 0.03
    assert abs(relative.mean()) < 0.02 + 3.0 * error
