# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What minibatches of many trace types cost, with and without sub-minibatches (SC'19, sections 4.4.1 and 4.4.3)."""

import statistics
import time
from typing import NamedTuple

import numpy as np
import torch

from etalumis.network.minibatch_plan import MinibatchPlan, plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.typing import Array

SEED = 1
"""Seed of the choice of the traces."""


class SubMinibatchRates(NamedTuple):
    """Traces per second in forward and backward passes of minibatches in memory, medians of rounds.

    Attributes
    ----------
    one_type
        Minibatches of one trace type, the most frequent one, as sorting makes them.
    by_type
        Random minibatches, with a pass for each trace type in them: sub-minibatches.
    together
        The same minibatches in one pass each, as this project does.
    types
        Mean number of trace types of the random minibatches.
    """

    one_type: float
    by_type: float
    together: float
    types: float


def measure(network: ProposalNetwork, dataset: TraceDataset, batch_size: int, rounds: int) -> SubMinibatchRates:
    """Measure the three ways in turn, each with one minibatch a round.

    Parameters
    ----------
    network
        The network.
    dataset
        Its training traces.
    batch_size
        Traces in a minibatch.
    rounds
        Number of rounds; one more, before them, does not count.
    """
    rng = np.random.Generator(np.random.PCG64(SEED))
    types = dataset.types
    frequent = np.flatnonzero(types == np.bincount(types).argmax())
    seconds: list[list[float]] = []
    found: list[int] = []
    for _ in range(rounds + 1):
        mixed = rng.choice(len(dataset), batch_size, replace=len(dataset) < batch_size)
        alike = rng.choice(frequent, batch_size, replace=len(frequent) < batch_size)
        parts = [mixed[types[mixed] == number] for number in np.unique(types[mixed])]
        found.append(len(parts))
        ways = ([alike], parts, [mixed])
        seconds.append([_pass_s(network, [dataset.batch(part, (SEED,)) for part in way]) for way in ways])
    one_type, by_type, together = (batch_size / statistics.median(each) for each in zip(*seconds[1:], strict=True))
    return SubMinibatchRates(one_type, by_type, together, float(np.mean(found[1:])))


def _pass_s(network: ProposalNetwork, batches: list[Minibatch]) -> float:
    """Return the time of a forward and a backward pass of each of some minibatches."""
    planned = [(plan_minibatch(batch, network.grouping), batch.observation) for batch in batches]
    began = time.perf_counter()
    network.zero_grad(set_to_none=True)
    for plan, observation in planned:
        _pass(network, plan, observation)
    return time.perf_counter() - began


def _pass(network: ProposalNetwork, plan: MinibatchPlan, observation: Array) -> None:
    loss = -network.log_proposal(plan, torch.from_numpy(observation), network.leaves(plan)).sum()
    loss.backward()  # type: ignore[no-untyped-call] # untyped in torch
