# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where a loss or a gradient stopped being finite: traces, addresses, parameters."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from etalumis.layers import LayerTable
from etalumis.network.minibatch_plan import MinibatchPlan
from etalumis.training.optimizer import RowGradient
from etalumis.typing import Array

_SHOWN = 5


def describe_loss(plan: MinibatchPlan, log_q: Tensor, indices: Array, layers: LayerTable) -> str:
    """Return the traces and addresses at which log q is not finite, in words; empty if there are none.

    Parameters
    ----------
    plan
        Plan of the minibatch.
    log_q
        (token,). In LSTM order.
    indices
        (trace,). Numbers of the traces in the training set.
    layers
        The layer table.
    """
    bad = torch.nonzero(~torch.isfinite(log_q)).flatten()
    if not len(bad):
        return ""
    traces = np.unique(indices[plan.trace[bad].numpy()]).tolist()
    # tokens of a trace after its first bad one follow from it
    _, first = np.unique(plan.trace[bad].numpy(), return_index=True)
    numbers = np.unique(plan.touched[plan.layer[bad[torch.from_numpy(first)]]].numpy()).tolist()
    addresses = [layers.rows[number].address for number in numbers]
    return f"the loss is not finite in {_listed('training trace', traces)}, first at {_listed('address', addresses)}"


def describe_gradient(dense: Mapping[str, Tensor], rows: Mapping[str, RowGradient]) -> str:
    """Return the parameters whose gradient is not finite, in words; empty if there are none."""
    names = [name for name, value in dense.items() if not torch.isfinite(value).all()]
    names += [name for name, gradient in rows.items() if not torch.isfinite(gradient.value).all()]
    return f"the gradient is not finite in {_listed('parameter', names)}" if names else ""


def _listed(noun: str, items: list[int] | list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    plural = {"address": "addresses"}.get(noun, f"{noun}s")
    return f"{noun if len(items) == 1 else plural} {', '.join(map(str, items[:_SHOWN]))}{more}"
