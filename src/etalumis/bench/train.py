# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis bench train`: steps of the training loop, relative to the embedding alone, to float32 and to one rank."""

import math
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from etalumis.bench.cores import pinned
from etalumis.bench.measure import BenchReport, Contender, Slice, Target, machine, take_turns
from etalumis.bench.train_ranks import ranks_together
from etalumis.config import Config
from etalumis.errors import ConfigError
from etalumis.layers import LayerTable
from etalumis.network.flops import StepFlops
from etalumis.network.minibatch_plan import MinibatchPlan, plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.prefetch import Prefetcher
from etalumis.training.initialise import initialise_from_data
from etalumis.training.single_rank import SingleRankSteps
from etalumis.typing import Array

TARGETS = {
    "step_ratio": Target(0.8),
    "mixed_ratio": Target(0.75),
    "bf16_ratio": Target(3.0 if torch.cpu.get_capabilities().get("amx_bf16") else 1.5),
    "data_wait_share": Target(0.03, at_least=False),
    "two_rank_efficiency": Target(0.9),
    "sync_bytes_ratio": Target(1.1, at_least=False),
    "overlap_share": Target(0.5),
    "simulated_efficiency_1024": Target(0.9),
}
RATIOS = {
    "step_ratio": ("one_type_traces_per_s", "cnn_only_traces_per_s"),
    "mixed_ratio": ("mixed_traces_per_s", "one_type_traces_per_s"),
    "bf16_ratio": ("bf16_traces_per_s", "fp32_traces_per_s"),
}
PINNING = dict.fromkeys(
    (
        "cnn_only_traces_per_s",
        "one_type_traces_per_s",
        "mixed_traces_per_s",
        "bf16_traces_per_s",
        "fp32_traces_per_s",
    ),
    "one core",
)
BATCH = 64


def bench(
    seconds: float, config: Config, layers_path: Path, train: Path, valid: Path, batch_size: int = BATCH
) -> BenchReport:
    """Measure training for about `seconds`: half of it steps in this process, half two ranks against one.

    Parameters
    ----------
    seconds
        Total time, without the starts of the ranks.
    config
        Sections network and training.
    layers_path, train, valid
        Layer table and sorted traces of a run.
    batch_size
        Traces per step.

    Raises
    ------
    ConfigError
        If the training set is smaller than a minibatch.
    """
    about = machine()
    torch.set_num_threads(1)
    layers = LayerTable.load(layers_path)
    dataset = TraceDataset(train, layers, tags=tuple(config.network.tags))
    if len(dataset) < batch_size:
        raise ConfigError(f"{train}: expected at least {batch_size} traces, found {len(dataset)}; generate more")
    types = np.bincount(dataset.types)
    frequent = np.flatnonzero(dataset.types == types.argmax())

    def network_of(dtype: str) -> ProposalNetwork:
        network = ProposalNetwork(layers, config.network.model_copy(update={"dtype": dtype}))
        initialise_from_data(network, dataset)
        return network

    def steps(dtype: str, traces: Array) -> "_Steps":
        return _Steps(network_of(dtype), dataset, traces, config, batch_size)

    everything, own = np.arange(len(dataset)), config.network.dtype
    together: dict[str, _Steps] = {}
    with pinned() as cores:
        try:
            together |= {
                "one_type_traces_per_s": steps(own, frequent),
                "mixed_traces_per_s": steps(own, everything),
                "bf16_traces_per_s": steps("bfloat16", everything),
                "fp32_traces_per_s": steps("float32", everything),
            }
            cnn: Contender = _Embedding(network_of(own), dataset, batch_size)
            contenders: dict[str, Contender] = {"cnn_only_traces_per_s": cnn, **together}
            slices = take_turns(contenders, list(RATIOS.values()), seconds / 2, longest_s=seconds / 2)
        finally:
            for each in together.values():
                each.close()
    gpu = _on_gpu(lambda: network_of(own), dataset, config, batch_size, seconds / 4)
    step_s = batch_size / slices["mixed_traces_per_s"][-1].rate
    figures = ranks_together(seconds / 2, config, layers_path, train, valid, batch_size, step_s)
    return BenchReport(
        title="Training",
        rates={name: [turn.rate for turn in turns] for name, turns in slices.items()},
        ratios=RATIOS,
        targets=TARGETS,
        figures=figures,
        pinning=PINNING,
        measured={
            **about,
            "cores_used": list(cores[:1]),
            "rounds": len(next(iter(slices.values()))),
            "batch_size": batch_size,
            "types": len(types),
            "types_in_a_mixed_minibatch": together["mixed_traces_per_s"].mean_types,
            "gpu": gpu,
        },
    )


def _on_gpu(
    network: Callable[[], ProposalNetwork], dataset: TraceDataset, config: Config, batch_size: int, seconds: float
) -> dict[str, str | float] | None:
    """Measure steps on random traces on a GPU; None if there is none."""
    if not torch.cuda.is_available():
        return None
    moved = network()
    moved.move(torch.device("cuda", torch.cuda.current_device()))
    steps = _Steps(moved, dataset, np.arange(len(dataset)), config, batch_size)
    try:
        steps(min(seconds, 5.0))  # libraries choose their algorithms
        before = steps.flops
        turn = steps(seconds)
    finally:
        steps.close()
    return {
        "name": torch.cuda.get_device_name(),
        "traces_per_s": turn.rate,
        "tflops": (steps.flops - before) / turn.seconds / 1e12,
    }


class _Steps:
    """Whole steps on minibatches of `traces`, which are read from disk in the background as in a training."""

    def __init__(
        self, network: ProposalNetwork, dataset: TraceDataset, traces: Array, config: Config, batch_size: int
    ) -> None:
        self._network, self._dataset = network, dataset
        self._steps = SingleRankSteps(network, config.training)
        self._indices = _minibatches(traces, batch_size)
        self._types: list[int] = []
        self._flops = StepFlops(network)
        self.flops = 0
        """Useful operations of the steps so far."""
        self._reader = Prefetcher(self._read)
        for _ in range(1 + config.training.prefetch):
            self._reader.ask()

    def __call__(self, seconds: float) -> Slice:
        """Make steps for about `seconds`."""
        return _repeat(self._step, seconds)

    @property
    def mean_types(self) -> float:
        """Mean number of trace types of the minibatches so far."""
        return float(np.mean(self._types))

    def close(self) -> None:
        """End the reader."""
        self._reader.close()

    def _read(self) -> tuple[Minibatch, MinibatchPlan]:
        indices = next(self._indices)
        self._types.append(len(np.unique(self._dataset.types[indices])))
        batch = self._dataset.batch(indices, (1,))
        return batch, plan_minibatch(batch, self._network.grouping)

    def _step(self) -> int:
        batch, plan = self._reader.take()
        self._reader.ask()
        self.flops += self._flops.of(plan)
        self._steps.step(plan, batch.observation)
        return len(batch)


class _Embedding:
    """Forward and backward pass of the embedding of one minibatch of observations, which stays in memory."""

    def __init__(self, network: ProposalNetwork, dataset: TraceDataset, batch_size: int) -> None:
        self._network = network
        self._observation = torch.from_numpy(dataset.batch(np.arange(batch_size), (1,)).observation)

    def __call__(self, seconds: float) -> Slice:
        """Make passes for about `seconds`."""
        return _repeat(self._step, seconds)

    def _step(self) -> int:
        self._network.zero_grad(set_to_none=True)
        self._network.embed(self._observation).sum().backward()  # type: ignore[no-untyped-call] # untyped in torch
        return len(self._observation)


def _repeat(step: Callable[[], int], seconds: float) -> Slice:
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        done += step()
    return Slice(done, 0, time.perf_counter() - began)


def _minibatches(traces: Array, batch_size: int) -> Iterator[Array]:
    """Yield minibatches of traces in random order, for ever; with repetitions if there are fewer than a minibatch."""
    rng = np.random.Generator(np.random.PCG64(1))
    epoch = np.tile(traces, math.ceil(batch_size / len(traces)))
    return chain.from_iterable(iter(lambda: _cut(rng.permutation(epoch), batch_size), None))


def _cut(order: Array, batch_size: int) -> list[Array]:
    return [order[start : start + batch_size] for start in range(0, len(order) - batch_size + 1, batch_size)]
