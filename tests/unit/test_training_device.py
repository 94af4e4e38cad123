# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Training on a GPU. Without one: no step mixes tensors of another device with those of the CPU.

Tensors of torch's device "meta" have a shape but no numbers; they stand for those of a GPU.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from example_traces import make_example_traces
from mpi4py import MPI
from synthetic_batches import PRIORS, SMALL, layer_table, random_batch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from etalumis.config import NetworkConfig, from_mapping
from etalumis.errors import NetworkError
from etalumis.layers import TagInput
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.training.average import WeightAverage
from etalumis.training.device import device_of
from etalumis.training.optimizer import Optimizer
from etalumis.training.prepare import train

OTHER = torch.device("meta")
COPIES = ("aten::copy_", "aten::_to_copy")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
TAG = TagInput("t", (3,))
EMBEDDINGS = {
    "paper": ((20, 20, 20), SMALL),
    "strided": ((6, 8, 8), SMALL.model_copy(update={"embedding": "strided", "conv_channels": (2, 4)})),
    "vector": ((7,), SMALL.model_copy(update={"lstm_layers": 2})),
}
"""Shape of the observation, and architecture."""


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of several devices; only copies may have them, and numbers are everywhere."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim()]
        devices = {str(tensor.device) for tensor in tensors}
        assert len(devices) < 2 or func._schema.name in COPIES, f"{func}: {sorted(devices)}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_step_stays_on_its_device(embedding: str, dtype: str) -> None:
    shape, config = EMBEDDINGS[embedding]
    name = layer_table(PRIORS, 1, shape).rows[0].name
    config = NetworkConfig.model_validate({**config.model_dump(), "dtype": dtype, "tags": {"t": [name]}})
    layers = layer_table(PRIORS, 2, shape, (TAG,))
    network = ProposalNetwork(layers, config).to(OTHER)
    batch = random_batch(layers, PRIORS, [3, 5, 2, 9], np.random.default_rng(1), tags=3)
    plan = plan_minibatch(batch, network.grouping).to(OTHER)
    dense, tables = network.dense(), dict(network.tables.items())
    optimizer, average = Optimizer("sgd_larc", dense, tables), WeightAverage(0.9, dense, tables)
    assert network.device == OTHER
    with OneDevice():
        leaves = network.leaves(plan)
        log_q = network.log_proposal(plan, torch.zeros(4, *shape, device=OTHER), leaves)
        assert (log_q.device, tuple(log_q.shape)) == (OTHER, (len(plan),))
        log_q.sum().backward()
        gradients = [value.grad for value in dense.values()] + [leaf.value.grad for leaf in leaves.values()]
        assert {gradient.device for gradient in gradients if gradient is not None} == {OTHER}
        average.catch_up(1, {name: leaf.rows for name, leaf in leaves.items()})
    states = [*optimizer.state().values(), *average.state().values()]
    assert {tensor.device for state in states for tensor in state.values()} == {OTHER}


def test_a_network_grows_on_its_device() -> None:
    layers, more = (layer_table(PRIORS, instances, (7,), (TAG,)) for instances in (1, 2))
    config = NetworkConfig.model_validate({**SMALL.model_dump(), "tags": {"t": [layers.rows[0].name]}})
    network = ProposalNetwork(layers, config)
    network.move(OTHER)
    optimizer = Optimizer("adam", network.dense(), dict(network.tables.items()))
    with OneDevice():
        network.grow(more, 0)
        optimizer.grow(dict(network.tables.items()))
        batch = random_batch(more, PRIORS, [3, 5], np.random.default_rng(1), tags=3)
        plan = plan_minibatch(batch, network.grouping).to(OTHER)
        network.log_proposal(plan, torch.zeros(2, 7, device=OTHER), network.leaves(plan)).sum().backward()
    assert {table.device for table in network.tables.values()} == {OTHER}
    assert {tensor.device for state in optimizer.state().values() for tensor in state.values()} == {OTHER}


def test_a_plan_moves_whole() -> None:
    layers = layer_table(PRIORS, 2, (7,))
    batch = random_batch(layers, PRIORS, [3, 5], np.random.default_rng(1))
    plan = plan_minibatch(batch, ProposalNetwork(layers, SMALL).grouping)
    moved = plan.to(OTHER)
    tensors = [
        v for part in (moved, *moved.groups) for f in fields(part) if isinstance(v := getattr(part, f.name), Tensor)
    ]
    assert {tensor.device.type for tensor in tensors} == {OTHER.type}
    assert (moved.batch_sizes, len(moved)) == (plan.batch_sizes, len(plan))
    assert plan.to(torch.device("cpu")).order is plan.order


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_does_not_exist_is_an_error() -> None:
    assert device_of("auto", MPI.COMM_SELF) == device_of("cpu", MPI.COMM_SELF) == torch.device("cpu")
    with pytest.raises(NetworkError, match=r"training\.device: cuda: expected a GPU .* found none"):
        device_of("cuda", MPI.COMM_SELF)


@needs_gpu
def test_a_gpu_trains_the_network_of_the_cpu(tmp_path: Path) -> None:
    traces = make_example_traces("branching", tmp_path, 512, 64)
    losses = {}
    for device in ("cpu", "cuda"):
        training = {"device": device, "batch_size": 16, "max_traces": 640, "learning_rate": 1e-3, "valid_every": 10}
        config = from_mapping({"network": SMALL.model_dump(), "training": training})
        outcome = train(config, traces.layers, traces.train, traces.valid, tmp_path / device, MPI.COMM_SELF)
        losses[device] = [row.valid_loss for row in outcome.state.history]
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=5e-3)
    assert losses["cuda"][-1] < losses["cuda"][0]
