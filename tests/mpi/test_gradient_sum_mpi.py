# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sums of gradients over three ranks against sums of all of them in one place."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from mpi4py import MPI

from etalumis.layers import LayerRow, LayerTable
from etalumis.network.grouping import Grouping
from etalumis.training.gradient_sum import GradientSum
from etalumis.training.optimizer import RowGradient
from etalumis.training.synchronize import Synchronizer

RANKS = 3
TOUCHED = ([0, 2], [], [2, 3])
"""Layers in the minibatch of each rank: one has none, and layer 1 is in no minibatch."""
LAYERS = LayerTable((LayerRow(f"a__Uniform__{number}", "", "Uniform", 0, 1) for number in range(4)), ())
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


def test_three_ranks_sum_their_gradients() -> None:
    words = [sys.executable, "-m", "etalumis.mpiexec", "-n", str(RANKS), sys.executable, __file__]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


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
    sum_on_this_rank()
