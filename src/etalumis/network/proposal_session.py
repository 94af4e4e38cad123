# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference with a trained network: one entry at a time, for one observation."""

import math
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from etalumis.distributions import Distribution
from etalumis.errors import NetworkError
from etalumis.network import sampling
from etalumis.network.standardise import restore, standardise
from etalumis.typing import Array

if TYPE_CHECKING:
    from etalumis.network.model import ProposalNetwork


class ProposalSession:
    """Proposes the values of runs, given one observation.

    The proposal is a defensive mixture, q(x) = (1 - d) q_network(x) + d p(x), so that the weight p/q of an entry is at
    most 1/d. The density is that of the mixture, whichever component a value was drawn from.

    Parameters
    ----------
    network
        A trained network; its parameters must not change during the session.
    observation
        (*shape), unscaled, as in the observe statement of the model.
    defensive
        Share d of the prior, in [0, 1).

    Raises
    ------
    NetworkError
        If the shape of the observation is not that of the network, or a number is not finite.
    """

    def __init__(self, network: "ProposalNetwork", observation: Array, defensive: float = 0.05) -> None:
        if not 0.0 <= defensive < 1.0:
            raise NetworkError(f"defensive share: expected a number in [0, 1), found {defensive}")
        self.network, self.defensive = network, defensive
        self._log_network_share = math.log1p(-defensive)
        self._log_prior_share = math.log(defensive) if defensive > 0 else -math.inf
        self._weights = [_LstmLayer(network, i) for i in range(network.config.lstm_layers)]
        self._observation_gates = self._embed(observation)
        self._address_gates: dict[tuple[int, int], Tensor] = {}
        self._rows: dict[str, int] = {}
        self._layers: dict[int, _LayerRow] = {}
        self.begin()

    def _embed(self, observation: Array) -> Tensor:
        expected = self.network.layers.observation_shape
        observation = np.asarray(observation, np.float32)
        if observation.shape != expected:
            raise NetworkError(
                f"observation {self.network.layers.observation_name!r}: the network was made for shape {expected}, "
                f"found {observation.shape}; give an observation of the same detector"
            )
        if not np.isfinite(observation).all():
            raise NetworkError("observation: expected finite numbers, found NaN or infinity")
        with torch.inference_mode():
            embedded = self.network.embed(torch.from_numpy(observation).unsqueeze(0))[0]
            first = self._weights[0]
            return first.bias + first.inputs[:, : len(embedded)] @ embedded

    def begin(self) -> None:
        """Start a run: reset the state."""
        hidden = self.network.config.lstm_hidden
        self._state = [(torch.zeros(hidden), torch.zeros(hidden)) for _ in self._weights]
        self._previous_layer = -1
        self._previous_value = torch.zeros(self.network.config.sample_embedding)

    def propose(self, address: str, distribution: Distribution, rng: np.random.Generator) -> tuple[float, float] | None:
        """Return (value, log q(value)), or None if the address is unknown: the caller then draws from the prior.

        An unknown address is not a step of the LSTM, as in training.

        Raises
        ------
        NetworkError
            If the distribution is not of the kind of the layer.
        """
        layer = self._row(address)
        if layer < 0:
            return None
        kind, values = self._kind(layer, distribution), _prior_columns(distribution)
        with torch.inference_mode():
            raw = self._step(layer).numpy().astype(np.float64)
        if self.defensive > 0 and rng.random() < self.defensive:
            value = distribution.sample(rng)
        else:
            x = sampling.sample(kind, raw, rng)
            value = restore(kind, x, values[0], values[1], values[2], values[3])
        return value, self._remember(layer, kind, distribution, values, raw, value)

    def _remember(
        self, layer: int, kind: str, distribution: Distribution, values: tuple[float, ...], raw: Array, value: float
    ) -> float:
        """Store the value as input of the next step, and return its log density."""
        log_prior = distribution.log_prob(value)
        low, high, first, second = values
        form = standardise(kind, np.array([value]), np.array([low]), np.array([high]), np.array([[first, second]]))
        context = (float(form.context[0, 0]), float(form.context[0, 1]))
        log_network = sampling.log_density(kind, raw, float(form.x[0]), context) + float(form.log_jacobian[0])
        self._previous_layer = layer
        self._previous_value = self._sample_embedding(layer, float(form.feature[0]))
        if self.defensive == 0:
            return log_network
        return float(np.logaddexp(self._log_network_share + log_network, self._log_prior_share + log_prior))

    def _row(self, address: str) -> int:
        row = self._rows.get(address)
        if row is None:
            row = self._rows[address] = self.network.layers.row(address)
        return row

    def _kind(self, layer: int, distribution: Distribution) -> str:
        row = self.network.layers.rows[layer]
        categories = len(distribution.parameters) if distribution.kind == "Categorical" else 0
        if (row.kind, row.categories) != (distribution.kind, categories):
            raise NetworkError(
                f"address {row.address!r}: the network was made for {row.kind} with {row.categories} categories, the "
                f"simulator asks for {distribution.kind} with {categories}; train on traces of this simulator"
            )
        return row.kind

    def _layer(self, layer: int) -> "_LayerRow":
        row = self._layers.get(layer)
        if row is None:
            row = self._layers[layer] = _LayerRow.of(self.network, layer)
        return row

    def _sample_embedding(self, layer: int, feature: float) -> Tensor:
        row = self._layer(layer)
        if self.network.layers.rows[layer].kind == "Categorical":
            return row.sample_weight[int(feature)] + row.sample_bias
        return torch.add(row.sample_bias, row.sample_weight[0], alpha=feature)

    def _gates(self, previous: int, layer: int) -> Tensor:
        """Return the part of the gates from observation and addresses, cached by pair of addresses."""
        gates = self._address_gates.get((previous, layer))
        if gates is None:
            config, table = self.network.config, self.network.tables["address"].detach()
            before = table[previous] if previous >= 0 else torch.zeros(config.address_embedding)
            start = config.observation_embedding + config.sample_embedding
            weight = self._weights[0].inputs[:, start:]
            gates = self._observation_gates + weight @ torch.cat([before, table[layer]])
            self._address_gates[(previous, layer)] = gates
        return gates

    def _step(self, layer: int) -> Tensor:
        """Advance the LSTM by one entry and return the raw outputs (width,) of the proposal."""
        start = self.network.config.observation_embedding
        samples = self._weights[0].inputs[:, start : start + self.network.config.sample_embedding]
        gates = torch.addmv(self._gates(self._previous_layer, layer), samples, self._previous_value)
        for i, weights in enumerate(self._weights):
            if i > 0:
                gates = torch.addmv(weights.bias, weights.inputs, self._state[i - 1][0])
            hidden, cell = self._state[i]
            self._state[i] = _lstm_cell(torch.addmv(gates, weights.recurrent, hidden), cell)
        hidden, row = self._state[-1][0], self._layer(layer)
        inner = torch.addmv(row.hidden_bias, row.hidden_weight, hidden).relu_()
        return torch.addmv(row.out_bias, row.out_weight, inner)


class _LayerRow(NamedTuple):
    """The rows of one layer in the tables of its group; matrices are (out, in)."""

    sample_weight: Tensor
    sample_bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor

    @classmethod
    def of(cls, network: "ProposalNetwork", layer: int) -> Self:
        """Return the rows of a layer, as views of the tables."""
        grouping = network.grouping
        key, row = grouping.groups[grouping.group_of[layer]].key, int(grouping.row_of[layer])
        tables = {name: network.tables[f"{key}_{name}"].detach()[row] for name in cls._fields}
        return cls(**tables | {name: tables[name].T for name in ("hidden_weight", "out_weight")})


class _LstmLayer:
    """Weights of one LSTM layer, and the sum of its two biases."""

    def __init__(self, network: "ProposalNetwork", number: int) -> None:
        lstm = network.lstm
        self.inputs: Tensor = getattr(lstm, f"weight_ih_l{number}").detach()
        self.recurrent: Tensor = getattr(lstm, f"weight_hh_l{number}").detach()
        self.bias: Tensor = (getattr(lstm, f"bias_ih_l{number}") + getattr(lstm, f"bias_hh_l{number}")).detach()


def _lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next (hidden, cell); the gates are in torch's order: input, forget, candidate, output."""
    hidden = len(cell)
    opened = torch.sigmoid(gates)
    cell = opened[hidden : 2 * hidden] * cell + opened[:hidden] * torch.tanh(gates[2 * hidden : 3 * hidden])
    return opened[3 * hidden :] * torch.tanh(cell), cell


def _prior_columns(distribution: Distribution) -> tuple[float, float, float, float]:
    """Return (low, high, first parameter, second parameter) as in a minibatch."""
    if distribution.kind == "Categorical":
        return math.nan, math.nan, math.nan, math.nan
    parameters = distribution.parameters
    first, second = parameters[0], parameters[1] if len(parameters) > 1 else math.nan
    return (first, second, first, second) if distribution.kind == "Uniform" else (math.nan, math.nan, first, second)
