# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Ways to sum the gradients of several ranks, timed against each other (SC'19, section 4.4.4)."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor

from etalumis.config import Config
from etalumis.experiments.sub_minibatches import SEED
from etalumis.layers import LayerTable
from etalumis.network.minibatch_plan import MinibatchPlan, plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.gradient_sum import GradientSum
from etalumis.training.optimizer import RowGradient
from etalumis.training.sampler import Position, Sampler
from etalumis.training.synchronize import Synchronizer

_SUMS = 20


def time_sums(config: Config, layers_path: Path, train: Path, comm: MPI.Comm) -> dict[str, float]:
    """Time the ways to sum the gradients of one minibatch per rank; all ranks call it together.

    Returns
    -------
    dict
        Median seconds of each way, ``sync_fused_s`` (one buffer, as in training), ``sync_fused_bf16_s``,
        ``sync_per_tensor_s`` (a call for each tensor) and ``sync_all_tables_s`` (one buffer, with whole tables in place
        of touched rows); these over the first; and ``sync_bytes_ratio``: bytes that a rank puts into the calls, over
        those of the dense gradients and the touched rows. All ways copy the gradients into memory that they keep.
    """
    torch.set_num_threads(1)
    layers = LayerTable.load(layers_path)
    dataset = TraceDataset(train, layers, tags=tuple(config.network.tags))
    network = ProposalNetwork(layers, config.network)
    sampler = Sampler(len(dataset), config.training.batch_size, comm.size, SEED)
    batch = dataset.batch(sampler.indices(Position(), comm.rank), (SEED,))
    plan = plan_minibatch(batch, network.grouping)
    dense = {name: torch.ones_like(value) for name, value in network.dense().items()}
    leaves = network.leaves(plan, requires_grad=False)
    rows = {name: RowGradient(leaf.rows, torch.ones_like(leaf.value)) for name, leaf in leaves.items()}
    tables = dict(network.tables.items())
    ranks = Synchronizer(comm, network.grouping, tables)
    whole = {name: torch.zeros_like(table) for name, table in tables.items()}
    for name, gradient in rows.items():
        whole[name].index_copy_(0, gradient.rows, gradient.value)
    fused, half, everything = GradientSum(ranks), GradientSum(ranks, "bfloat16"), GradientSum(ranks)
    room = {name: torch.empty_like(value, memory_format=torch.contiguous_format) for name, value in dense.items()}
    ways: dict[str, Callable[[], None]] = {
        "fused": lambda: _fused(ranks, fused, plan, dense, rows),
        "fused_bf16": lambda: _fused(ranks, half, plan, dense, rows),
        "per_tensor": lambda: _per_tensor(ranks, plan, dense, rows, room),
        "all_tables": lambda: _all_tables(everything, dense | whole, len(layers)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_SUMS):
        for name, way in ways.items():
            comm.Barrier()
            began = time.perf_counter()
            way()
            comm.Barrier()
            seconds[name].append(time.perf_counter() - began)
    before = ranks.bytes_summed
    _fused(ranks, fused, plan, dense, rows)
    summed_dense, summed_rows = fused.finish()
    needed = [*summed_dense.values(), *(gradient.value for gradient in summed_rows.values())]
    times = {name: statistics.median(each[1:]) for name, each in seconds.items()}
    return {
        **{f"sync_{name}_s": each for name, each in times.items()},
        "sync_per_tensor_over_fused": times["per_tensor"] / times["fused"],
        "sync_all_tables_over_fused": times["all_tables"] / times["fused"],
        "sync_bf16_over_fused": times["fused_bf16"] / times["fused"],
        "sync_bytes_ratio": (ranks.bytes_summed - before) / sum(value.nbytes for value in needed),
    }


def _fused(
    ranks: Synchronizer,
    gradients: GradientSum,
    plan: MinibatchPlan,
    dense: Mapping[str, Tensor],
    rows: Mapping[str, RowGradient],
) -> None:
    gradients.start(ranks.present(plan.touched), dense, rows)
    gradients.finish()


def _per_tensor(
    ranks: Synchronizer,
    plan: MinibatchPlan,
    dense: Mapping[str, Tensor],
    rows: Mapping[str, RowGradient],
    room: dict[str, Tensor],
) -> None:
    """Sum the same numbers with one call for each dense parameter and each touched row.

    They are copied into tensors of `room`, which stay from call to call as the buffer of `GradientSum` does.
    """
    present = ranks.present(plan.touched)
    for name, value in dense.items():
        ranks.comm.Allreduce(MPI.IN_PLACE, room[name].copy_(value).numpy(), MPI.SUM)
    for name, union in ranks.touched_rows(present).items():
        if name not in room:
            room[name] = torch.empty(len(union), *ranks.row_shape[name])
        values = room[name].zero_()
        if name in rows:
            values.index_copy_(0, torch.from_numpy(np.searchsorted(union, rows[name].rows.numpy())), rows[name].value)
        for value in values:
            ranks.comm.Allreduce(MPI.IN_PLACE, value.numpy(), MPI.SUM)


def _all_tables(gradients: GradientSum, dense_and_tables: Mapping[str, Tensor], layers: int) -> None:
    """Sum gradients of the size of whole tables in one buffer, so that only the number of rows differs."""
    gradients.start(np.zeros(layers, np.bool_), dense_and_tables, {})
    gradients.finish()
