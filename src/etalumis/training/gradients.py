# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Forward and backward pass of a minibatch, and the sums of its gradients over the ranks."""

from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from etalumis.network.minibatch_plan import MinibatchPlan
from etalumis.network.model import ProposalNetwork
from etalumis.training.gradient_sum import GradientSum
from etalumis.training.optimizer import RowGradient
from etalumis.training.phase_timer import PhaseTimer
from etalumis.training.synchronize import Synchronizer
from etalumis.typing import Array

_EMBEDDING = "observation."
"""How the names of the parameters of the observation embedding begin."""


class MinibatchGradients:
    """Computes gradients and sums them over the ranks; all ranks make the same calls.

    The backward pass reaches the observation embedding last. By then all other gradients are known, most of the
    numbers, and the ranks sum them while the backward pass of the embedding runs.

    Parameters
    ----------
    network
        The network.
    ranks
        The ranks.
    dtype
        See `GradientSum`.
    overlap
        Whether to sum during the backward pass.
    """

    def __init__(self, network: ProposalNetwork, ranks: Synchronizer, dtype: str, overlap: bool) -> None:
        self._network, self._ranks = network, ranks
        self._others = GradientSum(ranks, dtype, background=overlap, device=network.device)
        self._embedding = GradientSum(ranks, dtype, device=network.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free what belongs to the thread, on all ranks; not after a failure, when the others do not come here."""
        if error is None:
            self._others.close()

    def compute(
        self, plan: MinibatchPlan, observation: Array, present: Array, scale: float, timer: PhaseTimer
    ) -> Tensor:
        """Compute the gradients of `scale` times the loss of this rank, and begin to sum them.

        Parameters
        ----------
        plan, observation
            The minibatch; its plan may be empty.
        present
            bool (layer,). Layers that any rank has touched, from `Synchronizer.present`.
        scale
            Factor of the loss.
        timer
            Gets the phases "forward", "backward", "sync_wait" and "sync_move".

        Returns
        -------
        Tensor
            log q (token,) of the minibatch, in LSTM order, on the CPU.
        """
        network = self._network
        network.zero_grad(set_to_none=True)
        log_q, rows = torch.empty(0), {}
        embedded = inputs = torch.empty(0)
        if len(plan):
            plan = plan.to(network.device)
            leaves = network.leaves(plan)
            embedded = network.embed(torch.from_numpy(observation).to(network.device))
            # cut here, the graph has two backward passes, which give the same numbers as one
            inputs = embedded.detach().requires_grad_()
            log_q = network.log_proposal_given(plan, inputs, leaves)
            timer.lap("forward")
            (-log_q.sum() * scale).backward()  # type: ignore[no-untyped-call] # untyped in torch
            timer.lap("backward")
            found = {name: (leaf.rows, leaf.value.grad) for name, leaf in leaves.items()}
            rows = {name: RowGradient(r, g) for name, (r, g) in found.items() if g is not None}
        if self._others.background:
            self._others.start(present, self._dense(of_embedding=False), rows)
            timer.lap("sync_move")
        if embedded.requires_grad:
            embedded.backward(inputs.grad)  # type: ignore[no-untyped-call] # untyped in torch
            timer.lap("backward")
        self._ranks.wait()  # so that the sums below take the time of moving alone
        timer.lap("sync_wait")
        if not self._others.background:
            self._others.start(present, self._dense(of_embedding=False), rows)
        self._embedding.start(np.zeros_like(present), self._dense(of_embedding=True), {})
        timer.lap("sync_move")
        return log_q.detach().cpu()

    def summed(self, timer: PhaseTimer) -> tuple[dict[str, Tensor], dict[str, RowGradient]]:
        """Return the sums over all ranks of the dense gradients, and of the rows that any rank has touched.

        With several ranks, they are views of buffers that the next `compute` overwrites.
        """
        dense, rows = self._others.finish()
        dense |= self._embedding.finish()[0]
        timer.lap("sync_move")
        return dense, rows

    def _dense(self, of_embedding: bool) -> dict[str, Tensor]:
        """Return the gradients of the observation embedding, or of the other dense parameters."""
        return {
            name: torch.zeros_like(value) if value.grad is None else value.grad
            for name, value in self._network.dense().items()
            if name.startswith(_EMBEDDING) == of_embedding
        }
