# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Validation loss, computed on all ranks, in total and by layer."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from etalumis.layers import LayerTable
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.prefetch import read_ahead
from etalumis.training.synchronize import Synchronizer
from etalumis.typing import Array


class TraceSource(Protocol):
    """The part of a dataset, or of a stream of traces, that the training loop uses."""

    def use_layers(self, layers: LayerTable) -> None:
        """Use a layer table that begins with the one before."""
        ...

    def batch(self, indices: Array, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> Minibatch:
        """Return the minibatch of the traces `indices`, with noise from `noise_seed` scaled by `noise_scale`."""
        ...


class MinibatchSource(TraceSource, Protocol):
    """The part of a dataset that training uses; see `traces.reading.dataset.TraceDataset`."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Evaluation:
    """Losses of a set of traces, summed by layer.

    Attributes
    ----------
    traces
        Number of traces.
    loss, prior
        float64 (layer + 1,). Sums of -log q and of -log p. The last element belongs to addresses without a layer.
    count
        float64 (layer + 1,). Number of entries.
    """

    traces: int
    loss: Array
    prior: Array
    count: Array

    @property
    def mean_loss(self) -> float:
        """Mean over traces of -log q(x | y), nats."""
        return float(self.loss.sum()) / self.traces

    @property
    def mean_prior_loss(self) -> float:
        """Mean over traces of -log p(x) of the controlled entries, nats."""
        return float(self.prior.sum()) / self.traces

    def by_name(self, layers: LayerTable) -> dict[str, dict[str, float]]:
        """Return the mean loss and prior loss per entry of each named variable and of "unknown" addresses."""
        parts: dict[str, Array] = {}
        for number, name in enumerate([*(row.name for row in layers.rows), "unknown"]):
            if name and self.count[number]:
                numbers = np.array([self.loss[number], self.prior[number], self.count[number]])
                parts[name] = parts.get(name, np.zeros(3)) + numbers
        return {
            name: {"loss": float(p[0] / p[2]), "prior_loss": float(p[1] / p[2]), "entries": int(p[2])}
            for name, p in parts.items()
        }


def evaluate(
    network: ProposalNetwork,
    dataset: MinibatchSource,
    batch_size: int,
    noise_seed: tuple[int, ...],
    ranks: Synchronizer,
    prefetch: int = 0,
) -> Evaluation:
    """Return the losses over a dataset. Its traces are distributed over the ranks round-robin.

    Up to `prefetch` minibatches are read in advance.
    """
    own = np.arange(ranks.comm.rank, len(dataset), ranks.comm.size)
    sums = np.zeros((3, len(network.layers) + 1))
    requests = ((own[start : start + batch_size], noise_seed) for start in range(0, len(own), batch_size))
    for batch in read_ahead(dataset.batch, requests, prefetch):
        log_q = log_proposals(network, batch)
        for row, weights in enumerate((-log_q, -batch.log_prior, np.ones(len(log_q)))):
            # layer -1, an unknown address, goes to the last bin
            sums[row] += np.bincount(batch.layer % sums.shape[1], weights, sums.shape[1])
    total = ranks.total(sums)
    return Evaluation(len(dataset), total[0], total[1], total[2])


def log_proposals(network: ProposalNetwork, batch: Minibatch) -> Array:
    """Return log q (token,) of the tokens of a batch, in the order of the batch; log p for unknown addresses."""
    log_q = batch.log_prior.copy()
    plan = plan_minibatch(batch, network.grouping)
    if len(plan):
        with torch.inference_mode():
            plan = plan.to(network.device)
            leaves = network.leaves(plan, requires_grad=False)
            observation = torch.from_numpy(batch.observation).to(network.device)
            log_q[plan.source] = network.log_proposal(plan, observation, leaves).cpu().numpy()
    return log_q
