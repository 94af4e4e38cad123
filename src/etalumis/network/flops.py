# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Floating-point operations of a training step, counted from shapes.

Only matrix products and convolutions count, two operations for each multiplication with addition. What the hardware
computes beyond these (padding, activations, the optimizer) does not, so a rate in FLOP/s is that of useful work.
"""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from etalumis.network.grouping import Group
from etalumis.network.minibatch_plan import MinibatchPlan
from etalumis.network.model import ProposalNetwork
from etalumis.network.proposal_densities import width

_TRACES = 2
"""Traces with which the embedding is counted: some normalisations refuse a single one."""
_FORWARD_AND_BACKWARD = 3
"""A backward pass has two products, for inputs and for weights, for each one of the forward pass."""


class StepFlops:
    """Counts the operations of forward and backward passes of a network.

    Attributes
    ----------
    per_trace
        Operations for each trace: the embedding of the observation and its part of the gates of the LSTM.
    per_token
        Operations for each token: the other inputs of the LSTM and, in all its layers, the hidden state.
    """

    def __init__(self, network: ProposalNetwork) -> None:
        config = network.config
        gates = 4 * config.lstm_hidden
        self._recurrent = 2 * _FORWARD_AND_BACKWARD * config.lstm_hidden * gates
        by_trace = 2 * _FORWARD_AND_BACKWARD * config.observation_embedding * gates
        inputs = network.input_width - config.observation_embedding + (config.lstm_layers - 1) * config.lstm_hidden
        self.per_trace = _embedding_flops(network) + by_trace
        self.per_token = 2 * _FORWARD_AND_BACKWARD * inputs * gates + config.lstm_layers * self._recurrent
        self._lstm_layers = config.lstm_layers
        self._hidden, self._components = config.lstm_hidden, config.mixture_components

    def of(self, plan: MinibatchPlan) -> int:
        """Return the operations of one step on a minibatch; 0 if no token has a layer, since nothing is computed."""
        if len(plan) == 0:
            return 0
        proposals = sum(self._proposal(group.group) * len(group.tokens) for group in plan.groups)
        # the first tokens have no hidden state before them
        without_past = self._lstm_layers * self._recurrent * plan.batch_sizes[0]
        return len(plan.tags) * self.per_trace + len(plan) * self.per_token - without_past + proposals

    def _proposal(self, group: Group) -> int:
        """Return the operations of the proposal layers of a token."""
        out = width(group.kind, group.categories, self._components)
        return 2 * _FORWARD_AND_BACKWARD * ((self._hidden + out) // 2) * (self._hidden + out)


def _embedding_flops(network: ProposalNetwork) -> int:
    """Return the operations of the embedding of one observation, forward and backward, by running it."""
    embedding = copy.deepcopy(network.observation)
    observation = torch.zeros(_TRACES, *network.layers.observation_shape, device=network.device)
    counter = FlopCounterMode(display=False)
    with torch.random.fork_rng(devices=[]), counter:
        embedding(observation, network.dtype).float().sum().backward()
    return int(counter.get_total_flops()) // _TRACES
