# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a `ProposalSession` computes with: the state of its lanes, and the weights of the network as it uses them."""

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from etalumis.network.independent_rows import widened

if TYPE_CHECKING:
    from etalumis.network.model import ProposalNetwork


class LaneState:
    """State of each lane: the previous entry, (lane, hidden) of each LSTM layer, and the log weights of the shares.

    `tags` (lane, n) are the standardised tags of the runs; None if the network sees none.
    `log_share_weight` (lane, share) is the log probability of each defensive share given the values so far, up to a
    constant; the largest of a lane is 0.
    """

    def __init__(self, network: "ProposalNetwork", lanes: int, shares: int) -> None:
        config = network.config
        self.hidden = [torch.zeros(lanes, config.lstm_hidden) for _ in range(config.lstm_layers)]
        self.cell = [torch.zeros(lanes, config.lstm_hidden) for _ in range(config.lstm_layers)]
        self.previous_layer = [-1] * lanes
        self.previous_value = torch.zeros(lanes, config.sample_embedding)
        self.tags = torch.zeros(lanes, network.tag_width) if network.tag_width else None
        self.log_share_weight = np.zeros((lanes, shares))

    def reset(self, lane: int) -> None:
        """Set the state of a lane to that before the first entry."""
        for tensor in (*self.hidden, *self.cell, self.previous_value):
            tensor[lane] = 0.0
        self.previous_layer[lane] = -1
        self.log_share_weight[lane] = 0.0


class LayerRow(NamedTuple):
    """The rows of the proposal of one layer in the tables of its group; matrices are (in, out)."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor

    @classmethod
    def of(cls, network: "ProposalNetwork", layer: int) -> Self:
        """Return the rows of a layer, as views of the tables; with zeros behind if they are narrow."""
        grouping = network.grouping
        key, row = grouping.groups[grouping.group_of[layer]].key, int(grouping.row_of[layer])
        return cls(**{name: widened(network.tables[f"{key}_{name}"].detach()[row]) for name in cls._fields})


class LstmLayer:
    """Weights (in, out) of one LSTM layer, and the sum of its two biases."""

    def __init__(self, network: "ProposalNetwork", number: int) -> None:
        lstm = network.lstm
        self.inputs: Tensor = getattr(lstm, f"weight_ih_l{number}").detach().T.contiguous()
        self.recurrent: Tensor = getattr(lstm, f"weight_hh_l{number}").detach().T.contiguous()
        self.bias: Tensor = (getattr(lstm, f"bias_ih_l{number}") + getattr(lstm, f"bias_hh_l{number}")).detach()
