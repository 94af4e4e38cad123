# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Exponential average of the weights over the iterations of a training (Polyak and Juditsky 1992).

After t iterations with weights p_1 ... p_t, the average is the sum of d^(t-i) p_i, divided by the sum of d^(t-i). A row
of a table that is not touched keeps its weights, so its part of the sum has a closed form: it is added when the row is
touched again, and the cost of an iteration depends on the touched rows, not on the table.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from etalumis.training.optimizer import extended


class WeightAverage:
    """Average of parameters.

    Parameters
    ----------
    decay
        d, per iteration.
    dense
        Parameters that change in every iteration.
    tables
        Parameters whose first axis is rows, of which an iteration changes some.
    """

    def __init__(self, decay: float, dense: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> None:
        self._decay = decay
        self._parameters = {name: value.detach() for name, value in (dict(dense) | dict(tables)).items()}
        self._tables = frozenset(tables)
        self._sum = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        # number of iterations that the sum of each row contains; float64, as checkpoints hold tensors
        self._until = {
            name: torch.zeros(len(value) if name in tables else 1, dtype=torch.float64, device=value.device)
            for name, value in self._parameters.items()
        }

    def grow(self, tables: Mapping[str, Tensor]) -> None:
        """Take tables that have more rows than before, or are new.

        The average of a new row is that of a row which has had its initial weights from the beginning.
        """
        for name, table in tables.items():
            value = table.detach()
            self._parameters[name] = value
            self._sum[name] = extended(self._sum.get(name), torch.zeros_like(value))
            begun = torch.zeros(len(value), dtype=torch.float64, device=value.device)
            self._until[name] = extended(self._until.get(name), begun)
        self._tables = frozenset(tables)

    @torch.no_grad()
    def catch_up(self, iteration: int, rows: Mapping[str, Tensor]) -> None:
        """Add the weights of rows that iteration `iteration` (from 1) is about to change, up to the one before it."""
        for name, numbers in rows.items():
            passed = (iteration - 1 - self._until[name][numbers]).to(torch.float32)
            total = self._sum[name].index_select(0, numbers)
            own = self._parameters[name].index_select(0, numbers)
            self._sum[name].index_copy_(0, numbers, _with_constant(total, own, self._factor(passed, own)))
            self._until[name][numbers] = iteration - 1

    @torch.no_grad()
    def update(self, iteration: int, dense: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        """Add the weights after iteration `iteration`: of the dense parameters and of the rows that it changed."""
        self.catch_up(iteration + 1, rows)
        for name in dense:
            self._sum[name].lerp_(self._parameters[name], 1.0 - self._decay)
            self._until[name].fill_(iteration)

    @contextmanager
    def in_place(self, iteration: int) -> Iterator[None]:
        """Give the parameters their averages after `iteration` iterations while the block runs."""
        last = {name: value.clone() for name, value in self._parameters.items()}
        with torch.no_grad():
            for name, value in self._parameters.items():
                passed = (iteration - self._until[name]).to(torch.float32)
                factor = self._factor(passed, value) if name in self._tables else self._decay ** float(passed[0])
                value.copy_(_with_constant(self._sum[name], value, factor) / (1.0 - self._decay**iteration))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._parameters.items():
                    value.copy_(last[name])

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that a resumed training needs."""
        return {"average": self._sum, "average_until": self._until}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy the tensors of `state`."""
        for part, tensors in self.state().items():
            for name, tensor in tensors.items():
                tensor.copy_(state[part][name])

    def _factor(self, passed: Tensor, like: Tensor) -> Tensor:
        """Return decay ** passed, one number for each row, in a shape that multiplies rows like those of `like`."""
        return (self._decay**passed).reshape(-1, *(1,) * (like.dim() - 1))


def _with_constant(total: Tensor, value: Tensor, factor: Tensor | float) -> Tensor:
    """Return the sum after iterations in which the weights stayed `value`, with `factor` = decay ** iterations."""
    return total * factor + value * (1.0 - factor)
