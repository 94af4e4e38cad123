# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sums of gradients over ranks, also while the backward pass still runs (SC'19, section 4.4.4)."""

import logging
import math
from collections.abc import Mapping
from threading import Thread

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor

from etalumis.training.optimizer import RowGradient
from etalumis.training.synchronize import Synchronizer
from etalumis.typing import Array

logger = logging.getLogger(__name__)


class GradientSum:
    """Sums gradients of dense parameters and of touched rows, which share one buffer and one collective call.

    All ranks call `start` and `finish` in the same order.

    Parameters
    ----------
    ranks
        The ranks, and the tables with their rows.
    dtype
        "float32", or "bfloat16" to move half the bytes: the gradients are rounded, added in float32, and rounded again.
    background
        Sum in a thread, between `start` and `finish`. The sums are the same, bit for bit. Without several ranks, or if
        the MPI library does not allow calls from several threads, there is no thread, and the attribute is False.
    device
        Where the gradients are; None: the CPU. MPI gets a copy in the memory of the host.
    """

    def __init__(
        self,
        ranks: Synchronizer,
        dtype: str = "float32",
        background: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self._ranks, self._half = ranks, dtype == "bfloat16"
        several = ranks.comm.size > 1
        if several and background and MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            background = False
            logger.warning(
                "the MPI library does not allow calls from several threads: gradients are summed after the backward "
                "pass (training.gradient_sum: blocking)"
            )
        # messages of the thread must not meet those of the other collective calls
        self.background = several and background
        self._comm = ranks.comm.Dup() if self.background else ranks.comm
        self._thread: Thread | None = None
        self._failure: BaseException | None = None
        self._device = torch.device("cpu") if device is None else device
        self._buffer = torch.empty(0, device=self._device)
        self._on_host = None if self._device.type == "cpu" else torch.empty(0)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._union: dict[str, Array] = {}
        self._sent = self._received = np.empty(0, np.int16)
        self._dense: dict[str, Tensor] = {}
        self._rows: dict[str, RowGradient] = {}

    def start(self, present: Array, dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient]) -> None:
        """Begin to sum; `finish` returns the sums. The gradients must not change until then.

        Parameters
        ----------
        present
            bool (layer,). Layers that any rank has touched, from `Synchronizer.present`.
        dense
            Gradients of dense parameters; the names are the same on every rank.
        rows
            Gradients of the touched rows by table; empty if this sum has none on any rank.
        """
        if self._ranks.comm.size == 1:
            self._dense, self._rows = dict(dense), dict(rows)
            return
        touched = self._ranks.touched_rows(present).items()
        self._union = {name: numbers for name, numbers in touched if len(numbers)}
        self._shapes = {name: tuple(value.shape) for name, value in dense.items()}
        self._shapes |= {name: (len(u), *self._ranks.row_shape[name]) for name, u in self._union.items()}
        # here, not in the thread, since two sums may run at the same time
        self._ranks.bytes_summed += (2 if self._half else 4) * self._size
        if not self.background:
            self._fill_and_sum(dense, rows)
            return
        # a daemon, since after a failure of another rank it would wait for ever
        self._thread = Thread(target=self._try, args=(dense, rows), name="gradient-sum", daemon=True)
        self._thread.start()

    def finish(self) -> tuple[dict[str, Tensor], dict[str, RowGradient]]:
        """Return the sums over all ranks of the dense gradients, and of the rows that any rank has touched.

        With several ranks, they are views of a buffer that the next `start` overwrites.
        """
        if self._ranks.comm.size == 1:
            return self._dense, self._rows
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            raise self._failure
        if self._on_host is not None:
            self._buffer[: self._size].copy_(self._on_host[: self._size])
        views = self._views(self._buffer[: self._size])
        numbers = {name: torch.from_numpy(u).to(self._device) for name, u in self._union.items()}
        rows = {name: RowGradient(numbers[name], views[name]) for name in numbers}
        return {name: view for name, view in views.items() if name not in numbers}, rows

    @property
    def _size(self) -> int:
        """Number of gradients in the buffer."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    def _views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return the parts of the buffer by name, in their shapes."""
        parts = torch.split(buffer, [math.prod(shape) for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def close(self) -> None:
        """Free the communicator of the thread; all ranks call it together, after `finish`."""
        if self.background:
            self._comm.Free()
            self.background = False

    def _try(self, dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient]) -> None:
        try:
            self._fill_and_sum(dense, rows)
        except BaseException as error:  # raised again by `finish`
            self._failure = error

    @torch.no_grad()
    def _fill_and_sum(self, dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient]) -> None:
        """Copy the gradients into the buffer, and sum it over the ranks."""
        buffer = self._room(self._size)
        views = self._views(buffer)
        buffer[sum(value.numel() for value in dense.values()) :] = 0.0
        for name, value in dense.items():
            views[name].copy_(value)
        for name, gradient in rows.items():
            places = torch.from_numpy(np.searchsorted(self._union[name], gradient.rows.cpu().numpy()))
            views[name].index_copy_(0, places.to(self._device), gradient.value)
        sent = buffer if self._on_host is None else self._on_host[: self._size].copy_(buffer)
        self._sum(sent)

    def _sum(self, buffer: Tensor) -> None:
        if self._half:
            self._sum_halves(buffer)
        else:
            self._comm.Allreduce(MPI.IN_PLACE, buffer.numpy(), MPI.SUM)

    def _sum_halves(self, buffer: Tensor) -> None:
        """Sum in bfloat16, which MPI cannot add: each rank adds a slice of all, in float32, and sends it to all."""
        ranks = self._comm.size
        width = -(-len(buffer) // ranks)
        if len(self._sent) < ranks * width:
            self._sent, self._received = np.zeros(ranks * width, np.int16), np.zeros(ranks * width, np.int16)
        sent, received = self._sent[: ranks * width], self._received[: ranks * width]
        rounded, of_ranks = (torch.from_numpy(each).view(torch.bfloat16) for each in (sent, received))
        rounded[: len(buffer)].copy_(buffer)
        self._comm.Alltoall(sent, received)
        own = of_ranks.view(ranks, width).sum(0, dtype=torch.float32).to(torch.bfloat16)
        self._comm.Allgather(own.view(torch.int16).numpy(), sent)
        buffer.copy_(rounded[: len(buffer)])

    def _room(self, size: int) -> Tensor:
        """Return `size` numbers of a buffer that grows with the largest request: its pages are mapped only once."""
        if len(self._buffer) < size:
            self._buffer = torch.empty(size, device=self._device)
            if self._on_host is not None:
                self._on_host = torch.empty(size, pin_memory=self._device.type == "cuda")
        return self._buffer[:size]
