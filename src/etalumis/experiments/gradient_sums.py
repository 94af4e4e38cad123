# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Ways to sum the gradients of several ranks, timed against each other (SC'19, section 4.4.4)."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from mpi4py import MPI
from torch import Tensor

from etalumis.config import Config
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
        ``sync_per_tensor_s`` (a call for each tensor) and ``sync_all_tables_s`` (whole tables in place of touched
        rows); these over the first; and ``sync_bytes_ratio``: bytes that a rank puts into the calls, over those of the
        dense gradients and the touched rows.
    """
    torch.set_num_threads(1)
    layers = LayerTable.load(layers_path)
    dataset = TraceDataset(train, layers, tags=tuple(config.network.tags))
    network = ProposalNetwork(layers, config.network)
    sampler = Sampler(len(dataset), config.training.batch_size, comm.size, 1)
    batch = dataset.batch(sampler.indices(Position(), comm.rank), (1,))
    plan = plan_minibatch(batch, network.grouping)
    dense = {name: torch.ones_like(value) for name, value in network.dense().items()}
    leaves = network.leaves(plan, requires_grad=False)
    rows = {name: RowGradient(leaf.rows, torch.ones_like(leaf.value)) for name, leaf in leaves.items()}
    tables = dict(network.tables.items())
    ranks = Synchronizer(comm, network.grouping, tables)
    fused, half = GradientSum(ranks), GradientSum(ranks, "bfloat16")
    ways: dict[str, Callable[[], None]] = {
        "fused": lambda: _fused(ranks, fused, plan, dense, rows),
        "fused_bf16": lambda: _fused(ranks, half, plan, dense, rows),
        "per_tensor": lambda: _per_tensor(ranks, plan, dense, rows),
        "all_tables": lambda: _all_tables(comm, tables, dense, rows),
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
    ranks: Synchronizer, plan: MinibatchPlan, dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient]
) -> None:
    """Sum the same numbers with one call for each dense parameter and each touched row."""
    present = ranks.present(plan.touched)
    for value in dense.values():
        ranks.comm.Allreduce(MPI.IN_PLACE, value.clone(memory_format=torch.contiguous_format).numpy(), MPI.SUM)
    for name, union in ranks.touched_rows(present).items():
        own = dict(zip(rows[name].rows.tolist(), rows[name].value, strict=True)) if name in rows else {}
        for row in union.tolist():
            value = own[row].clone() if row in own else torch.zeros(ranks.row_shape[name])
            ranks.comm.Allreduce(MPI.IN_PLACE, value.numpy(), MPI.SUM)


def _all_tables(
    comm: MPI.Comm, tables: Mapping[str, Tensor], dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient]
) -> None:
    """Sum gradients of the size of whole tables, one call for each."""
    for value in dense.values():
        comm.Allreduce(MPI.IN_PLACE, value.clone(memory_format=torch.contiguous_format).numpy(), MPI.SUM)
    for name, table in tables.items():
        whole = torch.zeros_like(table)
        if name in rows:
            whole.index_copy_(0, rows[name].rows, rows[name].value)
        comm.Allreduce(MPI.IN_PLACE, whole.numpy(), MPI.SUM)
