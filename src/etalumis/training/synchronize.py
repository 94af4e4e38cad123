# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the ranks of a training tell each other, apart from gradients (`gradient_sum`)."""

from collections.abc import Mapping

import numpy as np
from mpi4py import MPI
from torch import Tensor

from etalumis.network.grouping import Grouping
from etalumis.typing import Array


class Synchronizer:
    """Knows the tables and the ranks. All ranks make the same collective calls in the same order.

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

        It moves one byte per layer. The ranks need it before the first gradients are summed.

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

    def wait(self) -> None:
        """Wait for the slowest rank."""
        if self.comm.size > 1:
            self.comm.Barrier()

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
