# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trainings on one and on two ranks, and the ways to sum gradients: `python -m etalumis.bench.train_ranks`.

The module is the program of two ranks that sum gradients; rank 0 prints one line of JSON.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI

from etalumis.bench.cores import pinned
from etalumis.bench.programs import line_of
from etalumis.config import Config, load, to_yaml
from etalumis.errors import NetworkError
from etalumis.layers import LayerTable
from etalumis.network.minibatch_plan import MinibatchPlan, plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.cost_measurement import MEASURED_ITERATIONS
from etalumis.training.gradient_sum import GradientSum
from etalumis.training.optimizer import RowGradient
from etalumis.training.phases import PHASES, Phases, read_phases
from etalumis.training.sampler import Position, Sampler
from etalumis.training.synchronize import Synchronizer

_ROUNDS = 3
_MIN_ITERATIONS = 10
_SUMS = 20


def ranks_together(
    seconds: float, config: Config, layers: Path, train: Path, valid: Path, batch_size: int, step_s: float
) -> dict[str, float]:
    """Return the figures of two ranks: trainings that alternate with those of one rank, and sums of gradients.

    Parameters
    ----------
    seconds
        Time of all trainings, without their starts; a short time leaves one round.
    config, layers, train, valid, batch_size
        See `bench.train.bench`.
    step_s
        Approximate time of a step on one rank.

    Raises
    ------
    NetworkError
        If a training fails.
    """
    skipped = MEASURED_ITERATIONS + config.training.prefetch + 2
    with tempfile.TemporaryDirectory(prefix="etalumis-bench-") as folder:

        def train_on(ranks: int, iterations: int, name: str, gradient_sum: str = "overlapped") -> Phases:
            output = Path(folder) / name
            output.mkdir()
            changes = {
                "tasks": ranks, "threads_per_task": 1, "sampler": "balanced", "batch_size": batch_size,
                "max_minutes": None, "max_traces": batch_size * ranks * (skipped + iterations),
                "valid_every": 10**8, "average_decay": None, "patience": None, "gradient_sum": gradient_sum,
            }  # fmt: skip
            training = config.training.model_copy(update=changes)
            file = output / "config.yaml"
            file.write_text(to_yaml(config.model_copy(update={"training": training})), encoding="utf-8")
            words = ["network", "train", "--config", file, "--layers", layers, "--train", train, "--valid", valid]
            _run(ranks, ["etalumis", *words, "--output", output / "network"])
            return read_phases(output / "network" / "phases.h5")

        fitting = int(seconds / (3 * step_s))  # iterations for which there is time in each of three trainings
        rounds = min(_ROUNDS, max(1, fitting // (skipped + _MIN_ITERATIONS)))
        iterations = max(_MIN_ITERATIONS, fitting // rounds - skipped)
        one, two, overlapped, blocking = [], [], [], []
        for number in range(rounds):
            with pinned():
                one.append(_rate(train_on(1, iterations, f"one-{number}"), skipped))
            both = train_on(2, iterations, f"two-{number}")
            two.append(_rate(both, skipped))
            overlapped.append(_move_s(both, skipped))
            blocking.append(_move_s(train_on(2, iterations, f"blocking-{number}", "blocking"), skipped))
        file = Path(folder) / "one-0" / "config.yaml"
        arguments = [str(each) for each in (file, layers, train)]
        sums = line_of(_command(2, [__name__, *arguments]), timeout_s=600.0)
    spent = {name: float(both.seconds[name][skipped:].sum()) for name in PHASES}
    total = sum(spent.values())
    return {
        "demo_traces_per_s": statistics.median(two),
        "one_rank_traces_per_s": statistics.median(one),
        "two_rank_efficiency": statistics.median(b / (2 * a) for a, b in zip(one, two, strict=True)),
        "data_wait_share": spent["read"] / total,
        "sync_wait_share": spent["sync_wait"] / total,
        "sync_move_share": spent["sync_move"] / total,
        "overlap_share": statistics.median(1.0 - a / b for a, b in zip(overlapped, blocking, strict=True)),
        **sums,
    }


def _iteration_s(phases: Phases) -> np.ndarray:
    """Return the time of each iteration (iteration,), the mean over the ranks, which go in step."""
    return np.asarray(np.sum([phases.seconds[name] for name in PHASES], axis=0).mean(axis=1))


def _rate(phases: Phases, skipped: int) -> float:
    return float(phases.traces[skipped:].sum() / _iteration_s(phases)[skipped:].sum())


def _move_s(phases: Phases, skipped: int) -> float:
    """Return the mean time in which an iteration waits for sums, other ranks apart."""
    return float(phases.seconds["sync_move"][skipped:].mean())


def _command(ranks: int, words: list[Any]) -> list[str]:
    return [sys.executable, "-m", "etalumis.mpiexec", "-n", str(ranks), sys.executable, "-m", *map(str, words)]


def _run(ranks: int, words: list[Any]) -> None:
    done = subprocess.run(_command(ranks, words), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"bench train: a training on {ranks} ranks failed:\n{done.stderr.strip()[-2000:]}")


def sum_gradients(config: Config, layers_path: Path, train: Path, comm: MPI.Comm) -> dict[str, float]:
    """Time the ways to sum the gradients of one minibatch per rank (SC'19, section 4.4.4); call it on every rank."""
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
    dense: Mapping[str, torch.Tensor],
    rows: Mapping[str, RowGradient],
) -> None:
    gradients.start(ranks.present(plan.touched), dense, rows)
    gradients.finish()


def _per_tensor(
    ranks: Synchronizer,
    plan: MinibatchPlan,
    dense: Mapping[str, torch.Tensor],
    rows: Mapping[str, RowGradient],
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
    comm: MPI.Comm,
    tables: Mapping[str, torch.Tensor],
    dense: Mapping[str, torch.Tensor],
    rows: Mapping[str, RowGradient],
) -> None:
    """Sum gradients of the size of whole tables, one call for each."""
    for value in dense.values():
        comm.Allreduce(MPI.IN_PLACE, value.clone(memory_format=torch.contiguous_format).numpy(), MPI.SUM)
    for name, table in tables.items():
        whole = torch.zeros_like(table)
        if name in rows:
            whole.index_copy_(0, rows[name].rows, rows[name].value)
        comm.Allreduce(MPI.IN_PLACE, whole.numpy(), MPI.SUM)


def _main(config: str, layers: str, train: str) -> None:
    found = sum_gradients(load(Path(config)), Path(layers), Path(train), MPI.COMM_WORLD)
    if MPI.COMM_WORLD.rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
