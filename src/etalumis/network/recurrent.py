# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""An LSTM over packed sequences whose weight gradient is one matrix product over all tokens.

torch's LSTM accumulates a weight gradient per step on packed sequences. With few sequences per step, that costs more
than the rest of the layer. Here the caller computes the input's part of the gates, so that the observation's part is
computed once per trace, not once per token.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function


class _PackedLstm(Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
        recurrent = weight.T.to(dtype)
        width = weight.shape[1]
        gates = torch.empty_like(inputs)
        hidden, cell = inputs.new_empty(len(inputs), width), inputs.new_empty(len(inputs), width)
        start = 0
        for step, size in enumerate(sizes):
            here = slice(start, start + size)
            before = slice(start - sizes[step - 1], start - sizes[step - 1] + size) if step else None
            raw = inputs[here]
            if before is not None:
                raw = raw + (hidden[before].to(dtype) @ recurrent).float()
            i, f, g, o = torch.split(gates[here], width, 1)
            i.copy_(raw[:, :width]).sigmoid_()
            f.copy_(raw[:, width : 2 * width]).sigmoid_()
            g.copy_(raw[:, 2 * width : 3 * width]).tanh_()
            o.copy_(raw[:, 3 * width :]).sigmoid_()
            torch.mul(i, g, out=cell[here])
            if before is not None:
                cell[here].addcmul_(f, cell[before])
            torch.mul(o, torch.tanh(cell[here]), out=hidden[here])
            start += size
        ctx.save_for_backward(weight, gates, hidden, cell)
        ctx.sizes, ctx.dtype = list(sizes), dtype
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, gates, hidden, cell = ctx.saved_tensors
        sizes, dtype = ctx.sizes, ctx.dtype
        recurrent, width = weight.to(dtype), weight.shape[1]
        to_gates = torch.empty_like(gates)
        to_hidden = to_cell = gates.new_zeros(0, width)
        end = len(gates)
        for step in reversed(range(len(sizes))):
            here = slice(end - sizes[step], end)
            end -= sizes[step]
            i, f, g, o = torch.split(gates[here], width, 1)
            squashed = torch.tanh(cell[here])
            out = gradients[0][here].clone()
            out[: len(to_hidden)] += to_hidden
            state = out * o * (1.0 - squashed * squashed)
            state[: len(to_cell)] += to_cell
            di, df, dg, do = torch.split(to_gates[here], width, 1)
            torch.mul(state * g, i * (1.0 - i), out=di)
            torch.mul(state * i, 1.0 - g * g, out=dg)
            torch.mul(out * squashed, o * (1.0 - o), out=do)
            if step:
                before = slice(end - sizes[step - 1], end - sizes[step - 1] + sizes[step])
                torch.mul(state * cell[before], f * (1.0 - f), out=df)
                to_hidden, to_cell = (to_gates[here].to(dtype) @ recurrent).float(), state * f
            else:
                df.zero_()
        return to_gates, _weight_gradient(to_gates, hidden, sizes, dtype), None, None


def _weight_gradient(to_gates: Tensor, hidden: Tensor, sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return the sum over tokens of (gradient of the gates) x (hidden state before them), in one product."""
    first = sizes[0] if len(sizes) else 0
    before, start = [hidden[:0]], 0
    for size, following in pairwise(sizes):
        before.append(hidden[start : start + following])
        start += size
    return (to_gates[first:].T.to(dtype) @ torch.cat(before).to(dtype)).float()


def packed_lstm(inputs: Tensor, weight: Tensor, sizes: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the hidden states (token, hidden) of one LSTM layer that starts from zeros.

    Parameters
    ----------
    inputs
        float32 (token, 4 hidden). The input's part of the gates, including both biases, in torch's order: input,
        forget, candidate, output. Tokens are packed: all first tokens, longest trace first, then all second tokens, ...
    weight
        (4 hidden, hidden). torch's `weight_hh`.
    sizes
        Number of tokens of each step, in non-increasing order.
    dtype
        Type of the matrix products; states and gradients are float32.
    """
    return _PackedLstm.apply(inputs, weight, sizes, dtype)  # type: ignore[no-any-return,no-untyped-call] # untyped in torch


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return x @ weight^T + bias as float32; the product is computed in `dtype`."""
    product = torch.nn.functional.linear(x.to(dtype), weight.to(dtype)).float()
    return product if bias is None else product + bias
