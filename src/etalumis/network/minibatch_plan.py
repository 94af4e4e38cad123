# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The order of computation of a minibatch: tokens in LSTM order, and by group, sorted by address.

A plan is a pure function of a minibatch and the grouping of the layers. It has no parameters.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from etalumis.network.grouping import Group, Grouping
from etalumis.network.standardise import standardise
from etalumis.traces.reading.batch import Minibatch
from etalumis.typing import Array

Plan = TypeVar("Plan", "GroupPlan", "MinibatchPlan")


@dataclass(frozen=True)
class GroupPlan:
    """The tokens of one group, sorted by row.

    Attributes
    ----------
    group
        The group.
    tokens
        int64 (token of the group,). Positions of the tokens in LSTM order.
    touched
        int64 (touched row,). Rows of the group's tables that occur, increasing.
    inverse
        int64 (token of the group,). Index of each token's row in `touched`, increasing.
    bounds
        (touched row + 1,). Tokens `bounds[i]:bounds[i + 1]` have row `touched[i]`.
    x, context, log_jacobian, feature
        float32, as in `standardise.Standardised`.
    """

    group: Group
    tokens: Tensor
    touched: Tensor
    inverse: Tensor
    bounds: list[int]
    x: Tensor
    context: Tensor
    log_jacobian: Tensor
    feature: Tensor

    def to(self, device: torch.device) -> "GroupPlan":
        """Return the plan with its tensors on a device."""
        return on_device(self, device)


@dataclass(frozen=True)
class MinibatchPlan:
    """A minibatch in LSTM order: the first tokens of all traces (longest trace first), the second tokens, and so on.

    Tokens whose address has no layer are left out: they are proposed from the prior.

    Attributes
    ----------
    source
        int64 (token,). Position of each token in the minibatch.
    batch_sizes
        Number of traces with a token in each step.
    trace
        int64 (token,). Trace of each token.
    previous
        int64 (token,). Position of the previous token of the same trace; the number of tokens if there is none.
    touched
        int64 (touched layer,). Layers that occur, increasing.
    layer
        int64 (token,). Index into `touched`.
    groups
        One plan per group that occurs.
    order
        int64 (token,). Permutation from the concatenated groups back to LSTM order.
    tags
        float64 (trace, n). As in the minibatch.
    """

    source: Array
    batch_sizes: list[int]
    trace: Tensor
    previous: Tensor
    touched: Tensor
    layer: Tensor
    groups: tuple[GroupPlan, ...]
    order: Tensor
    tags: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device) -> "MinibatchPlan":
        """Return the plan with its tensors on a device."""
        return replace(on_device(self, device), groups=tuple(group.to(device) for group in self.groups))


def on_device(plan: Plan, device: torch.device) -> Plan:
    """Return a dataclass whose tensors are on a device; itself if they are there."""
    tensors: dict[str, Any] = {
        f.name: value for f in fields(plan) if isinstance(value := getattr(plan, f.name), Tensor)
    }
    if all(value.device == device for value in tensors.values()):
        return plan
    return replace(plan, **{name: value.to(device) for name, value in tensors.items()})


def plan_minibatch(batch: Minibatch, grouping: Grouping) -> MinibatchPlan:
    """Return the plan of a minibatch."""
    source, trace, step, batch_sizes = _lstm_order(batch)
    place = np.empty(len(source), np.int64)
    by_trace = np.lexsort((step, trace))
    place[by_trace] = np.arange(len(source))
    previous = np.where(step > 0, by_trace[np.maximum(place - 1, 0)], len(source))
    layer = batch.layer[source]
    touched, inverse = np.unique(layer, return_inverse=True)
    groups = tuple(
        _group_plan(batch, grouping, number, source, layer) for number in np.unique(grouping.group_of[touched])
    )
    together = torch.cat([plan.tokens for plan in groups]) if groups else torch.zeros(0, dtype=torch.int64)
    return MinibatchPlan(
        source,
        batch_sizes.tolist(),
        torch.from_numpy(trace),
        torch.from_numpy(previous),
        torch.from_numpy(touched),
        torch.from_numpy(inverse.astype(np.int64)),
        groups,
        torch.argsort(together),
        torch.from_numpy(batch.tags),
    )


def _lstm_order(batch: Minibatch) -> tuple[Array, Array, Array, Array]:
    """Return position, trace and step of the tokens with a layer in LSTM order, and the number of traces per step."""
    known = np.flatnonzero(batch.layer >= 0)
    trace = np.repeat(np.arange(len(batch)), np.diff(batch.offset))[known]
    lengths = np.bincount(trace, minlength=len(batch))
    step = np.arange(len(known)) - (np.cumsum(lengths) - lengths)[trace]
    rank = np.empty(len(batch), np.int64)
    rank[np.argsort(-lengths, kind="stable")] = np.arange(len(batch))
    order = np.lexsort((rank[trace], step))
    return known[order], trace[order], step[order], np.bincount(step)


def _group_plan(batch: Minibatch, grouping: Grouping, number: int, source: Array, layer: Array) -> GroupPlan:
    tokens = np.flatnonzero(grouping.group_of[layer] == number)
    tokens = tokens[np.argsort(grouping.row_of[layer[tokens]], kind="stable")]
    touched, first, inverse = np.unique(grouping.row_of[layer[tokens]], return_index=True, return_inverse=True)
    group, rows = grouping.groups[number], source[tokens]
    values = standardise(group.kind, batch.value[rows], batch.low[rows], batch.high[rows], batch.parameters[rows])
    return GroupPlan(
        group,
        torch.from_numpy(tokens),
        torch.from_numpy(touched),
        torch.from_numpy(inverse.astype(np.int64)),
        [*first.tolist(), len(tokens)],
        *(
            torch.from_numpy(np.ascontiguousarray(column, dtype=np.float32))
            for column in (values.x, values.context, values.log_jacobian, values.feature)
        ),
    )
