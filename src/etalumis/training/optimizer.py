# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Adam and SGD, with and without LARC, for dense parameters and for rows of tables.

Each row is a separate parameter. Its moments are updated, and its steps counted, only in iterations that touch it.
Between them the moments do not decay, so an address seen once in a thousand iterations is bias-corrected by its own
count and is not moved by stale momentum. The cost of an iteration depends on the rows touched, not on the table size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

_ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class RowGradient:
    """Gradient of some rows of a table: row numbers (n,) and values (n, ...)."""

    rows: Tensor
    value: Tensor


class _Slot(NamedTuple):
    """Views of one parameter, dense or one row of a table, and of its moments and step count."""

    parameter: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor


class Optimizer:
    """Updates parameters in place.

    Parameters
    ----------
    rule
        "adam", "adam_larc", "sgd" or "sgd_larc".
    dense
        Parameters with a gradient in every iteration.
    tables
        Parameters whose first axis is rows.
    momentum
        Momentum of SGD.
    betas
        Decay of Adam's first and second moments.
    trust
        Trust coefficient of LARC: largest ratio of update norm to weight norm of a parameter (You et al. 2017).
    """

    def __init__(
        self,
        rule: str,
        dense: Mapping[str, Tensor],
        tables: Mapping[str, Tensor],
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        trust: float = 0.02,
    ) -> None:
        self.rule, self.adaptive = rule, rule.startswith("adam")
        self._momentum, self._betas, self._trust = momentum, betas, trust
        self._parameters = {name: value.detach() for name, value in (dict(dense) | dict(tables)).items()}
        self._first = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        # SGD has only one moment; empty tensors stand for the second
        self._second = {
            name: torch.zeros_like(value) if self.adaptive else value.new_empty(len(value), 0)
            for name, value in self._parameters.items()
        }
        self._steps = {
            name: torch.zeros(len(value) if name in tables else 1, device=value.device)
            for name, value in self._parameters.items()
        }
        self._slots: dict[tuple[str, int | None], _Slot] = {}

    @torch.no_grad()
    def step(self, dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient], rate: float) -> None:
        """Apply one update.

        Parameters
        ----------
        dense
            Gradient of each dense parameter.
        rows
            Gradients of the touched rows, by table.
        rate
            Learning rate.
        """
        slots = [self._slot(name, None) for name in dense]
        gradients = list(dense.values())
        for name, gradient in rows.items():
            slots += [self._slot(name, row) for row in gradient.rows.tolist()]
            gradients += gradient.value.unbind()
        parameters = [slot.parameter for slot in slots]
        before = [parameter.clone() for parameter in parameters] if self.rule.endswith("larc") else []
        if self.adaptive:
            _adam_step(slots, gradients, rate, self._betas)
        else:
            _sgd_step(slots, gradients, rate, self._momentum)
        if before:
            _limit_steps(parameters, before, self._trust)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that a resumed training needs."""
        return {"first": self._first, "second": self._second, "steps": self._steps}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy the tensors of `state`."""
        for part, tensors in self.state().items():
            for name, tensor in tensors.items():
                tensor.copy_(state[part][name])

    def grow(self, tables: Mapping[str, Tensor]) -> None:
        """Take tables that have more rows than before, or are new; the state of the known rows stays, bit for bit."""
        grown = {name for name, table in tables.items() if len(table) != len(self._first.get(name, ()))}
        for name in grown:
            value = tables[name].detach()
            self._parameters[name] = value
            self._first[name] = extended(self._first.get(name), torch.zeros_like(value))
            second = torch.zeros_like(value) if self.adaptive else value.new_empty(len(value), 0)
            self._second[name] = extended(self._second.get(name), second)
            self._steps[name] = extended(self._steps.get(name), torch.zeros(len(value), device=value.device))
        # slots are views of the tensors before
        self._slots = {key: slot for key, slot in self._slots.items() if key[0] not in grown}

    def _slot(self, name: str, row: int | None) -> _Slot:
        slot = self._slots.get((name, row))
        if slot is None:
            parts = (self._parameters[name], self._first[name], self._second[name], self._steps[name])
            if row is None:
                slot = _Slot(parts[0], parts[1], parts[2], parts[3][0])
            else:
                slot = _Slot(*(part[row] for part in parts))
            self._slots[(name, row)] = slot
        return slot


def extended(known: Tensor | None, whole: Tensor) -> Tensor:
    """Return `whole` with its first rows replaced by those of `known`, if there are any."""
    if known is not None:
        whole[: len(known)] = known
    return whole


def _adam_step(slots: list[_Slot], gradients: list[Tensor], rate: float, betas: tuple[float, float]) -> None:
    parameters, first, second, steps = (list(column) for column in zip(*slots, strict=True))
    adam(
        parameters, gradients, first, second, [], steps,
        fused=True, amsgrad=False, maximize=False, lr=rate, weight_decay=0.0,
        beta1=betas[0], beta2=betas[1], eps=_ADAM_EPSILON,
    )  # fmt: skip


def _sgd_step(slots: list[_Slot], gradients: list[Tensor], rate: float, momentum: float) -> None:
    parameters, first = [slot.parameter for slot in slots], [slot.first for slot in slots]
    torch._foreach_mul_(first, momentum)
    torch._foreach_add_(first, gradients)
    torch._foreach_add_(parameters, first, alpha=-rate)


def _limit_steps(parameters: list[Tensor], before: list[Tensor], trust: float) -> None:
    """Limit the norm of each step to the trust coefficient times the norm of the parameter before it (LARC, clipping).

    The step is limited, not the gradient: Adam divides by the size of the gradient, so a smaller gradient gives the
    same step. A parameter at zero is not limited, since it could never leave zero.
    """
    steps = torch._foreach_sub(parameters, before)
    weights = torch.stack(list(torch._foreach_norm(before))).cpu().numpy().astype(np.float64)
    lengths = torch.stack(list(torch._foreach_norm(steps))).cpu().numpy().astype(np.float64)
    too_long = (weights > 0) & (lengths > trust * weights)
    scales = np.where(too_long, trust * weights / np.where(too_long, lengths, 1.0), 1.0)
    for place in np.flatnonzero(too_long):  # other steps stay bit for bit the same
        torch.add(before[place], steps[place], alpha=float(scales[place]), out=parameters[place])


def clip(gradients: list[Tensor], max_norm: float) -> float:
    """Scale gradients in place to a joint norm of at most `max_norm`; return the norm before."""
    norm = float(torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(gradients)))))
    if norm > max_norm:
        torch._foreach_mul_(gradients, max_norm / norm)
    return norm
