# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Adam and SGD, with and without LARC, over dense parameters and over rows of tables.

A row is a parameter of its own: its moments change, and its steps are counted, in iterations that touch it. Between
them it rests (the moments do not decay), so an address seen once in a thousand iterations is bias-corrected by its own
count and not moved by stale momentum. The cost of an iteration follows what it touched, not the size of the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

_MOMENTUM = 0.9
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_TRUST = 0.02
"""LARC's trust coefficient: largest ratio of update to weight norm of a parameter (You et al. 2017)."""


@dataclass(frozen=True)
class RowGradient:
    """Gradient of some rows of a table: row numbers (n,) and values (n, ...)."""

    rows: Tensor
    value: Tensor


class _Slot(NamedTuple):
    """What belongs to one parameter: a dense one, or one row of a table. All are views."""

    parameter: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor


class Optimizer:
    """Update parameters in place.

    Parameters
    ----------
    rule
        "adam", "adam_larc", "sgd" or "sgd_larc".
    dense
        Parameters with a gradient in every iteration.
    tables
        Parameters whose first axis is rows.
    """

    def __init__(self, rule: str, dense: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> None:
        self.rule, self.adaptive = rule, rule.startswith("adam")
        self._parameters = {name: value.detach() for name, value in (dict(dense) | dict(tables)).items()}
        self._first = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        # SGD has one moment only; empty tensors keep the places of the other two
        self._second = {
            name: torch.zeros_like(value) if self.adaptive else value.new_empty(len(value), 0)
            for name, value in self._parameters.items()
        }
        self._steps = {
            name: torch.zeros(len(value) if name in tables else 1) for name, value in self._parameters.items()
        }
        self._slots: dict[tuple[str, int | None], _Slot] = {}

    @torch.no_grad()
    def step(self, dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient], rate: float) -> None:
        """Apply one update.

        Parameters
        ----------
        dense
            Gradient of every dense parameter.
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
            _adam_step(slots, gradients, rate)
        else:
            _sgd_step(slots, gradients, rate)
        if before:
            _shorten(parameters, before)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors a resumed run needs."""
        return {"first": self._first, "second": self._second, "steps": self._steps}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over the tensors of `state`."""
        for part, mine in self.state().items():
            for name, value in mine.items():
                value.copy_(state[part][name])

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


def _adam_step(slots: list[_Slot], gradients: list[Tensor], rate: float) -> None:
    parameters, first, second, steps = (list(column) for column in zip(*slots, strict=True))
    adam(
        parameters, gradients, first, second, [], steps,
        fused=True, amsgrad=False, beta1=_BETAS[0], beta2=_BETAS[1], lr=rate, weight_decay=0.0, eps=_EPSILON,
        maximize=False,
    )  # fmt: skip


def _sgd_step(slots: list[_Slot], gradients: list[Tensor], rate: float) -> None:
    parameters, first = [slot.parameter for slot in slots], [slot.first for slot in slots]
    torch._foreach_mul_(first, _MOMENTUM)
    torch._foreach_add_(first, gradients)
    torch._foreach_add_(parameters, first, alpha=-rate)


def _shorten(parameters: list[Tensor], before: list[Tensor]) -> None:
    """Shorten each step to at most the trust coefficient times the norm of what it started from (LARC, clipping).

    The step, not the gradient: Adam divides by the gradient's own size, so a smaller gradient gives the same step.
    A parameter that starts from zero is not bounded, or it could never leave it.
    """
    steps = torch._foreach_sub(parameters, before)
    weights = torch.stack(list(torch._foreach_norm(before))).numpy().astype(np.float64)
    lengths = torch.stack(list(torch._foreach_norm(steps))).numpy().astype(np.float64)
    too_long = (weights > 0) & (lengths > _TRUST * weights)
    scales = np.where(too_long, _TRUST * weights / np.where(too_long, lengths, 1.0), 1.0)
    for place in np.flatnonzero(too_long):  # the others keep their step to the last bit
        torch.add(before[place], steps[place], alpha=float(scales[place]), out=parameters[place])


def clip(gradients: list[Tensor], largest: float) -> float:
    """Scale gradients in place to a joint norm of at most `largest`; return the norm they had."""
    norm = float(torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(gradients)))))
    if norm > largest:
        torch._foreach_mul_(gradients, largest / norm)
    return norm
