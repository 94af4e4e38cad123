# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A linear layer over all tokens with one weight matrix per address: the token-parallel core of the network.

Tokens are sorted by address, so that each address has one contiguous block of rows. The weights are compact copies
(used addresses only): if a whole table were indexed, autograd would allocate gradients of the size of the table.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx


class _GroupedLinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, bounds: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bounds = bounds
        out = x.new_empty(x.shape[0], weight.shape[2])
        for i in range(len(bounds) - 1):
            start, end = bounds[i], bounds[i + 1]
            torch.addmm(bias[i], x[start:end], weight[i], out=out[start:end])
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined] # torch types only the base of the context
        bounds: Sequence[int] = ctx.bounds  # type: ignore[attr-defined] # set in forward
        gradient = gradients[0].contiguous()
        grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
        grad_bias = x.new_empty(weight.shape[0], weight.shape[2])
        for i in range(len(bounds) - 1):
            start, end = bounds[i], bounds[i + 1]
            run = gradient[start:end]
            torch.mm(run, weight[i].T, out=grad_x[start:end])
            torch.mm(x[start:end].T, run, out=grad_weight[i])
            torch.sum(run, 0, out=grad_bias[i])
        return grad_x, grad_weight, grad_bias, None


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, bounds: Sequence[int]) -> Tensor:
    """Return `x[s:e] @ weight[i] + bias[i]` for each block `s:e = bounds[i]:bounds[i + 1]`.

    Parameters
    ----------
    x
        (token, in), sorted by address.
    weight, bias
        (address, in, out) and (address, out).
    bounds
        (address + 1,). Increasing token indices from 0 to the number of tokens; no block is empty.
    """
    return _GroupedLinear.apply(x, weight, bias, bounds)  # type: ignore[no-any-return,no-untyped-call] # untyped in torch
