# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a training will take, without training: parameters by part, and the time of a step on this machine."""

import statistics
import time

import numpy as np
import torch
from mpi4py import MPI

from etalumis.config import TrainingConfig
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.network.model import ADDRESS_TABLE, ProposalNetwork
from etalumis.training.device import device_of
from etalumis.training.evaluate import TraceSource
from etalumis.training.single_rank import SingleRankSteps

_STEPS = 3
"""Steps that are measured, after one that is not."""


def parameters_by_part(network: ProposalNetwork) -> dict[str, int]:
    """Return the number of parameters of each part of a network; their sum is `parameter_count`.

    The parts are the observation embedding, the LSTM, the embeddings of the addresses, and the addresses of each group
    (their embeddings of values and their proposal layers).
    """
    parts = {"observation embedding": 0, "LSTM": 0, "address embeddings": 0}
    sizes = dict(zip((group.key for group in network.grouping.groups), network.grouping.sizes, strict=True))
    of_group = {key: f"{number} x {key}" for key, number in sizes.items()}
    for name, value in network.named_parameters():
        table = name.removeprefix("tables.")
        if table == name:
            part = "LSTM" if name.startswith("lstm.") else "observation embedding"
        else:
            part = "address embeddings" if table == ADDRESS_TABLE else of_group[table.split("_")[0]]
        parts[part] = parts.get(part, 0) + value.numel()
    return parts


def step_s(network: ProposalNetwork, traces: TraceSource, number: int, config: TrainingConfig) -> float:
    """Return the median time of a step of one rank alone, on random traces in memory; it changes the network.

    Parameters
    ----------
    network
        The network.
    traces, number
        Training traces, and how many there are.
    config
        Batch size, optimizer, threads and device.
    """
    torch.set_num_threads(config.threads_per_task)
    network.move(device_of(config.device, MPI.COMM_SELF))
    steps = SingleRankSteps(network, config)
    rng = np.random.Generator(np.random.PCG64(1))
    seconds = []
    for _ in range(_STEPS + 1):
        batch = traces.batch(rng.integers(number, size=config.batch_size), (1,))
        plan = plan_minibatch(batch, network.grouping)
        began = time.perf_counter()
        steps.step(plan, batch.observation)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
