# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sum gradients over ranks (SC'19, section 4.4.4).

The ranks first exchange which layers are present on any of them. Then they sum one buffer that holds dense gradients
and touched rows.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor

from etalumis.network.grouping import Grouping
from etalumis.training.optimizer import RowGradient
from etalumis.typing import Array


class Synchronizer:
    """Sums gradients over a communicator. All ranks make the same collective calls in the same order.

    Parameters
    ----------
    comm
        The ranks.
    grouping
        Group and row of each layer.
    tables
        Tables of the network by name. A table whose name starts with no group's key has one row per layer.
    """

    def __init__(self, comm: MPI.Comm, grouping: Grouping, tables: Mapping[str, Tensor]) -> None:
        self.comm = comm
        self._buffer = torch.empty(0)
        self.bytes_summed = 0
        """Bytes of this rank's part of all sums so far, with those of `present`."""
        self.use(grouping, tables)

    def use(self, grouping: Grouping, tables: Mapping[str, Tensor]) -> None:
        """Take the tables of a network that has grown; see the constructor."""
        self._layers = len(grouping.group_of)
        self.row_shape = {name: tuple(table.shape[1:]) for name, table in tables.items()}
        # rows of a group are in the order of their layers, so this lists the layers of a table by row
        members = {group.key: np.flatnonzero(grouping.group_of == g) for g, group in enumerate(grouping.groups)}
        everything = np.arange(self._layers)
        self._members = {name: members.get(name.split("_")[0], everything) for name in tables}

    def present(self, touched: Tensor) -> Array:
        """Return which layers (layer,) any rank has touched; bool. The first collective call of an iteration.

        No rank leaves it before all have entered it, and it moves one byte per layer, so its time is that of waiting
        for the slowest rank.

        Parameters
        ----------
        touched
            int64 (touched layer,). Layers in the minibatch of this rank.
        """
        present = np.zeros(self._layers, np.bool_)
        present[touched.numpy()] = True
        if self.comm.size > 1:
            self.comm.Allreduce(MPI.IN_PLACE, present.view(np.uint8), MPI.MAX)
            self.bytes_summed += present.nbytes
        return present

    def touched_rows(self, present: Array) -> dict[str, Array]:
        """Return the rows of each table that belong to the layers in `present`, increasing."""
        return {name: np.flatnonzero(present[members]) for name, members in self._members.items()}

    def sum(
        self, present: Array, dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient]
    ) -> tuple[dict[str, Tensor], dict[str, RowGradient]]:
        """Return the sums over all ranks of dense gradients and of the rows that any rank has touched.

        Parameters
        ----------
        present
            bool (layer,). Layers that any rank has touched, from `present`.
        dense
            Gradients of the dense parameters; the names are the same on every rank.
        rows
            Gradients of touched rows by table.

        Returns
        -------
        (dict, dict)
            Views of a buffer that the next call overwrites, if there are several ranks.
        """
        if self.comm.size == 1:
            return dict(dense), dict(rows)
        union = self.touched_rows(present)
        shapes = {name: tuple(value.shape) for name, value in dense.items()}
        shapes |= {name: (len(numbers), *self.row_shape[name]) for name, numbers in union.items()}
        of_dense = sum(value.numel() for value in dense.values())
        buffer = self._room(sum(math.prod(shape) for shape in shapes.values()))
        buffer[of_dense:] = 0.0
        parts = dict(zip(shapes, torch.split(buffer, [math.prod(s) for s in shapes.values()]), strict=True))
        views = {name: parts[name].view(shape) for name, shape in shapes.items()}
        for name, value in dense.items():
            views[name].copy_(value)
        for name, gradient in rows.items():
            places = torch.from_numpy(np.searchsorted(union[name], gradient.rows.numpy()))
            views[name].index_copy_(0, places, gradient.value)
        self.comm.Allreduce(MPI.IN_PLACE, buffer.numpy(), MPI.SUM)
        self.bytes_summed += buffer.nbytes
        summed = {n: RowGradient(torch.from_numpy(u), views[n]) for n, u in union.items() if len(u)}
        return {name: views[name] for name in dense}, summed

    def _room(self, size: int) -> Tensor:
        """Return `size` numbers of a buffer that grows with the largest request: its pages are mapped only once."""
        if len(self._buffer) < size:
            self._buffer = torch.empty(size)
        return self._buffer[:size]

    def total(self, numbers: Array) -> Array:
        """Return the float64 sums over all ranks of a few numbers."""
        numbers = np.array(numbers, np.float64)
        if self.comm.size > 1:
            self.comm.Allreduce(MPI.IN_PLACE, numbers, MPI.SUM)
        return numbers

    def gathered(self, numbers: Array) -> Array:
        """Return the float64 (rank, number) numbers of all ranks."""
        numbers = np.array(numbers, np.float64)
        everyone = np.empty((self.comm.size, *numbers.shape))
        self.comm.Allgather(numbers, everyone)
        return everyone
