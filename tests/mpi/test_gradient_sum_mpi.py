# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sums of gradients over three ranks against sums of all of them in one place."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mpi4py import MPI
from synthetic_batches import PRIORS, SMALL, layer_table, random_batch

from etalumis.layers import LayerRow, LayerTable
from etalumis.network.grouping import Grouping
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.training.gradient_sum import GradientSum
from etalumis.training.gradients import MinibatchGradients
from etalumis.training.optimizer import RowGradient
from etalumis.training.phase_timer import PhaseTimer
from etalumis.training.phases import PHASES
from etalumis.training.synchronize import Synchronizer

RANKS = 3
TOUCHED = ([0, 2], [], [2, 3])
"""Layers in the minibatch of each rank: one has none, and layer 1 is in no minibatch."""
LAYERS = LayerTable((LayerRow(f"a__Uniform__{number}", "", "Uniform", 0, 1) for number in range(4)), ())
SLEEP_S = 1.0
WIDTH, DENSE = 1000, (7, 11)
"""Numbers of a row, and the shape of the dense gradient; their sum is no multiple of the number of ranks."""
Sums = tuple[dict[str, torch.Tensor], dict[str, RowGradient]]


def gradients_of(rank: int) -> Sums:
    generator = torch.Generator().manual_seed(rank)
    rows = torch.tensor(TOUCHED[rank], dtype=torch.int64)
    value = torch.randn(len(rows), WIDTH, generator=generator)
    return {"w": torch.randn(DENSE, generator=generator)}, {"address": RowGradient(rows, value)} if len(rows) else {}


def expected(dtype: torch.dtype) -> dict[int | str, torch.Tensor]:
    """Return the sum of the dense gradients, and of those of each row, of what the ranks send."""
    sums: dict[int | str, torch.Tensor] = {}
    for rank in range(RANKS):
        dense, rows = gradients_of(rank)
        found: dict[int | str, torch.Tensor] = {"w": dense["w"]}
        for gradient in rows.values():
            found |= dict(zip(gradient.rows.tolist(), gradient.value, strict=True))
        for key, value in found.items():
            sums[key] = sums.get(key, 0.0) + value.to(dtype).double()
    return sums


def check(sums: Sums, dtype: torch.dtype) -> None:
    dense, rows = sums
    found: dict[int | str, torch.Tensor] = {"w": dense["w"]}
    found |= dict(zip(rows["address"].rows.tolist(), rows["address"].value, strict=True))
    wanted = expected(dtype)
    assert set(found) == set(wanted) == {"w", 0, 2, 3}
    for key, value in wanted.items():
        # added in float32, and rounded once more to the type in which it is sent
        torch.testing.assert_close(found[key].double(), value, rtol=torch.finfo(dtype).eps, atol=1e-6)


def sum_on_this_rank() -> None:
    """Check the sums of this rank: blocking, in the background, and in bfloat16."""
    comm = MPI.COMM_WORLD
    ranks = Synchronizer(comm, Grouping.of(LAYERS), {"address": torch.zeros(4, WIDTH)})
    dense, rows = gradients_of(comm.rank)
    present = ranks.present(torch.tensor(TOUCHED[comm.rank], dtype=torch.int64))
    assert present.tolist() == [True, False, True, True]
    numbers = 3 * WIDTH + dense["w"].numel()
    results, sizes = {}, {}
    for dtype in ("float32", "bfloat16"):
        for background in (False, True):
            before = ranks.bytes_summed
            one = GradientSum(ranks, dtype, background)
            for _ in range(2):  # the second time in the same buffer
                one.start(present, dense, rows)
                sums = one.finish()
            check(sums, getattr(torch, dtype))
            results[dtype, background] = torch.cat([sums[0]["w"].flatten(), sums[1]["address"].value.flatten()])
            sizes[dtype] = (ranks.bytes_summed - before) / 2
            one.close()
        assert torch.equal(results[dtype, False], results[dtype, True])
        everyone = comm.allgather(results[dtype, True])
        assert all(torch.equal(everyone[0], each) for each in everyone)
    assert sizes == {"float32": 4 * numbers, "bfloat16": 2 * numbers}

    late = GradientSum(ranks, background=True)
    if comm.rank == 0:  # a sum that were not in the background would wait for the others, which wait for the message
        late.start(present, dense, rows)
        comm.bcast("started", root=0)
    else:
        comm.bcast(None, root=0)
        late.start(present, dense, rows)
    check(late.finish(), torch.float32)
    late.close()


def wait_for_a_slow_rank() -> None:
    """Check that the time in which rank 0 waits for the backward pass of rank 1 is in `sync_wait`, in both ways."""
    comm = MPI.COMM_WORLD
    layers = layer_table(PRIORS, 1, (7,))
    network = ProposalNetwork(layers, SMALL)
    batch = random_batch(layers, PRIORS, [3, 5], np.random.default_rng(1))
    plan = plan_minibatch(batch, network.grouping)
    embed = network.embed

    def slowly(observation: torch.Tensor) -> torch.Tensor:
        embedded = embed(observation)
        if comm.rank == 1:
            embedded.register_hook(lambda _: time.sleep(SLEEP_S))
        return embedded

    network.embed = slowly  # type: ignore[method-assign]
    ranks = Synchronizer(comm, network.grouping, dict(network.tables.items()))
    for overlap in (True, False):
        timer = PhaseTimer(comm, Path(), 0)
        comm.Barrier()
        timer.begin()
        with MinibatchGradients(network, ranks, "float32", overlap) as gradients:
            gradients.compute(plan, batch.observation, ranks.present(plan.touched), 1.0, timer)
            gradients.summed(timer)
        row = timer.end(2, len(plan), len(plan.touched), 0)
        if comm.rank == 0:
            assert row[PHASES.index("sync_wait")] > 0.5 * SLEEP_S, (overlap, row)


def test_waiting_is_not_moving() -> None:
    run_on(2, "wait")


def run_on(ranks: int, part: str) -> None:
    """Run a part of this file under MPI, with the folder of the tests among the modules."""
    words = [sys.executable, "-m", "etalumis.mpiexec", "-n", str(ranks), sys.executable, __file__, part]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]


def test_three_ranks_sum_their_gradients() -> None:
    run_on(RANKS, "sum")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_rank_has_its_own_gradients(dtype: str) -> None:
    ranks = Synchronizer(MPI.COMM_SELF, Grouping.of(LAYERS), {"address": torch.zeros(4, WIDTH)})
    dense, rows = gradients_of(0)
    alone = GradientSum(ranks, dtype, background=True)
    alone.start(np.array([True, False, True, False]), dense, rows)
    summed, summed_rows = alone.finish()
    assert summed["w"] is dense["w"]
    assert summed_rows["address"] is rows["address"]
    assert ranks.bytes_summed == 0


if __name__ == "__main__":
    if sys.argv[1:] == ["wait"]:
        wait_for_a_slow_rank()
    else:
        sum_on_this_rank()
