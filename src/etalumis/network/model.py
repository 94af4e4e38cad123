# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The 3DCNN-LSTM, which proposes the values of a trace entry by entry, given the observation (SC'19, 4.2 and 4.3).

At each controlled entry the input of the LSTM is

    [observation embedding, embedding of the previous value, previous address embedding, address embedding, tags]

with the tags that the address sees, if any (`network.tags`; the paper has none), and its output is the input of the two
proposal layers of that address. At the first entry, the previous embeddings are zero. All address-dependent parameters
are tables with one row per layer. `ProposalNetwork.log_proposal` evaluates a minibatch of any trace types at once;
gradients are computed for compact copies of the used rows only (`Leaf`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from etalumis.config import NetworkConfig
from etalumis.errors import NetworkError
from etalumis.layers import LayerTable
from etalumis.network.grouped_linear import grouped_linear
from etalumis.network.grouping import Group, Grouping
from etalumis.network.minibatch_plan import GroupPlan, MinibatchPlan, plan_minibatch
from etalumis.network.observation_inputs import ObservationInputs
from etalumis.network.proposal_densities import initial_bias, log_density, width
from etalumis.network.proposal_session import DEFENSIVE_SHARES, ProposalSession
from etalumis.network.recurrent import linear, packed_lstm
from etalumis.network.tag_inputs import TagInputs
from etalumis.network.value_features import embed_values, feature_count, value_features
from etalumis.seeds import derive
from etalumis.traces.reading.batch import Minibatch

ADDRESS_TABLE = "address"


@dataclass(frozen=True)
class Leaf:
    """A copy of the rows of a table that a minibatch uses, so that gradients have this size, not that of the table."""

    rows: Tensor
    value: Tensor


Leaves = dict[str, Leaf]


class ProposalNetwork(nn.Module):
    """Proposals for every address of a layer table.

    Parameters
    ----------
    layers
        The addresses, and the names and shapes of the observations.
    config
        Architecture.
    seed
        Seed of the initial parameters. Those of an address depend on it and on the address alone, not on the other
        addresses, so a network that has grown starts from the same ones as a network that was made whole.

    Raises
    ------
    NetworkError
        If the architecture does not fit an observation or a layer.
    """

    def __init__(self, layers: LayerTable, config: NetworkConfig, seed: int = 0) -> None:
        super().__init__()
        self.layers, self.config = layers, config
        self.grouping = Grouping.of(layers)
        self.dtype = products_dtype(config.dtype, torch.device("cpu"))
        self.tables = nn.ParameterDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.observation = ObservationInputs(layers.observations, config)
            self.tag_inputs = TagInputs(layers, config.tags) if config.tags else None
            self.lstm = nn.LSTM(self.input_width, config.lstm_hidden, config.lstm_layers)
            self._start_lstm()
        self._add_rows(0, seed)

    def move(self, device: torch.device) -> None:
        """Move to a device, and compute matrix products in the type that suits it (`network.dtype`)."""
        self.to(device)
        self.dtype = products_dtype(self.config.dtype, device)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        device: torch.device = self.tables[ADDRESS_TABLE].device
        return device

    @property
    def input_width(self) -> int:
        """Width of the input of the LSTM."""
        config = self.config
        return config.observation_embedding + config.sample_embedding + 2 * config.address_embedding + self.tag_width

    @property
    def tag_width(self) -> int:
        """Number of tags that some addresses see."""
        return 0 if self.tag_inputs is None else self.tag_inputs.width

    def _start_lstm(self) -> None:
        hidden = self.config.lstm_hidden
        for layer in range(self.config.lstm_layers):
            # with open forget gates, gradients reach the early entries from the beginning
            getattr(self.lstm, f"bias_ih_l{layer}").data[hidden : 2 * hidden] = 1.0
        if self.tag_inputs is not None:
            weight = dict(self.lstm.named_parameters())["weight_ih_l0"]
            weight.data[:, self.input_width - self.tag_width :] = 0.0  # at first, the tags have no effect

    def grow(self, layers: LayerTable, seed: int) -> None:
        """Append rows for the new addresses of a table that extends that of the network; all else stays, bit for bit.

        Parameters
        ----------
        layers
            The table of the network, and new rows after it.
        seed
            As of the constructor.

        Raises
        ------
        NetworkError
            If the table does not begin with that of the network.
        """
        if not layers.extends(self.layers):
            raise NetworkError("the new layer table does not begin with that of the network; grow that one")
        first, self.layers = len(self.layers), layers
        self.grouping = Grouping.of(layers)
        if self.tag_inputs is not None:
            self.tag_inputs.see(layers)
        self._add_rows(first, seed)

    def _add_rows(self, first: int, seed: int) -> None:
        """Make the rows of the layers from number `first` on."""
        self._extend(ADDRESS_TABLE, len(self.layers), torch.zeros(self.config.address_embedding))
        for group, rows in zip(self.grouping.groups, self.grouping.sizes, strict=True):
            for name, row in self._blank_row(group).items():
                self._extend(f"{group.key}_{name}", rows, row)
        for number in range(first, len(self.layers)):
            self._start_row(number, derive(seed, f"network/{self.layers.rows[number].address}", 0))

    def _extend(self, name: str, rows: int, row: Tensor) -> None:
        """Extend a table, or make it, with copies of `row` up to a number of rows."""
        known = self.tables[name].detach() if name in self.tables else row.new_empty(0, *row.shape)
        if name not in self.tables or len(known) < rows:
            added = row.expand(rows - len(known), *row.shape).to(known.device)
            # gradients are those of `leaves`
            self.tables[name] = nn.Parameter(torch.cat([known, added]), requires_grad=False)

    def _blank_row(self, group: Group) -> dict[str, Tensor]:
        """Return a row of each table of a group: its biases, and zeros for the weights that `_start_row` draws."""
        config = self.config
        out = width(group.kind, group.categories, config.mixture_components)
        hidden = (config.lstm_hidden + out) // 2
        inputs = group.categories or feature_count(config.value_frequencies)
        return {
            "sample_weight": torch.zeros(inputs, config.sample_embedding),
            "sample_bias": torch.zeros(config.sample_embedding),
            "hidden_weight": torch.zeros(config.lstm_hidden, hidden),
            "hidden_bias": torch.zeros(hidden),
            "out_weight": torch.zeros(hidden, out),
            "out_bias": initial_bias(group.kind, group.categories, config.mixture_components),
        }

    def _start_row(self, number: int, seed: int) -> None:
        """Draw the random part of the rows of a layer."""
        group, row = self.grouping.groups[self.grouping.group_of[number]], int(self.grouping.row_of[number])
        generator = torch.Generator().manual_seed(seed)

        def draw(row: Tensor, stddev: float) -> None:
            """Draw a row on the CPU, so that all devices have the same."""
            row.copy_(torch.empty(row.shape).normal_(0.0, stddev, generator=generator))

        draw(self.tables[ADDRESS_TABLE].data[number], 1.0)
        sample, hidden, out = (
            self.tables[f"{group.key}_{name}"].data[row] for name in ("sample_weight", "hidden_weight", "out_weight")
        )
        draw(sample, 1.0 if group.categories else 1.0 / math.sqrt(len(sample)))
        draw(hidden, math.sqrt(2.0 / len(hidden)))
        # small, so that the initial proposal is the broad one of the bias
        draw(out, 0.1 / math.sqrt(len(out)))

    def set_categorical_start(self, layer: int, log_probs: np.ndarray) -> None:
        """Initialise a categorical layer so that it proposes with `log_probs` (category,) for any observation."""
        group = self.grouping.groups[self.grouping.group_of[layer]]
        bias = self.tables[f"{group.key}_out_bias"]
        bias.data[int(self.grouping.row_of[layer])] = torch.from_numpy(log_probs).to(bias.dtype)

    def dense(self) -> dict[str, nn.Parameter]:
        """Return the parameters that all traces use: observation embedding and LSTM."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("tables.")}

    def parameter_count(self) -> int:
        """Return the number of trainable parameters."""
        return sum(value.numel() for value in self.parameters())

    def leaves(self, plan: MinibatchPlan, requires_grad: bool = True) -> Leaves:
        """Return copies of the rows of the tables that a plan uses."""
        rows = {ADDRESS_TABLE: plan.touched}
        for group in plan.groups:
            names = ("sample_weight", "sample_bias", "hidden_weight", "hidden_bias", "out_weight", "out_bias")
            rows |= {f"{group.group.key}_{name}": group.touched for name in names}
        return {
            name: Leaf(touched, self.tables[name].detach().index_select(0, touched).requires_grad_(requires_grad))
            for name, touched in rows.items()
        }

    def embed(self, observation: Tensor) -> Tensor:
        """Embed unscaled observations (trace, *shape) as float32 (trace, width)."""
        embedded: Tensor = self.observation(observation, self.dtype)
        return embedded

    def log_proposal(self, plan: MinibatchPlan, observation: Tensor, leaves: Leaves) -> Tensor:
        """Return log q(value) (token,), in LSTM order and in the physical units of the values.

        Parameters
        ----------
        plan
            From `plan_minibatch`.
        observation
            float32 (trace, *shape), unscaled.
        leaves
            From `leaves`.
        """
        return self.log_proposal_given(plan, self.embed(observation), leaves)

    def log_proposal_given(self, plan: MinibatchPlan, embedded: Tensor, leaves: Leaves) -> Tensor:
        """Return the same as `log_proposal`, given the embedded observations (trace, width)."""
        hidden = self._hidden(plan, embedded, leaves)
        log_q = [self._group_log_density(group, hidden, leaves) for group in plan.groups]
        return torch.cat(log_q).index_select(0, plan.order)

    def _hidden(self, plan: MinibatchPlan, embedded: Tensor, leaves: Leaves) -> Tensor:
        address = leaves[ADDRESS_TABLE].value.index_select(0, plan.layer)
        samples = torch.cat([self._sample_embedding(group, leaves) for group in plan.groups])
        past = torch.cat([samples.index_select(0, plan.order), address], 1)
        past = torch.cat([past, past.new_zeros(1, past.shape[1])]).index_select(0, plan.previous)
        inputs = [past, address]
        if self.tag_inputs is not None:
            tags = self.tag_inputs.standardise(plan.tags).index_select(0, plan.trace)
            inputs.append(self.tag_inputs.masked(tags, plan.touched[plan.layer]))
        return self._lstm(plan, embedded, torch.cat(inputs, 1))

    def _sample_embedding(self, group: GroupPlan, leaves: Leaves) -> Tensor:
        weight = leaves[f"{group.group.key}_sample_weight"].value
        bias = leaves[f"{group.group.key}_sample_bias"].value.index_select(0, group.inverse)
        if group.group.kind == "Categorical":
            place = group.inverse * group.group.categories + group.feature.long()
            return weight.flatten(0, 1).index_select(0, place) + bias
        features = value_features(group.group.kind, group.feature, self.config.value_frequencies)
        return embed_values(features, weight.index_select(0, group.inverse)) + bias

    def _lstm(self, plan: MinibatchPlan, embedded: Tensor, inputs: Tensor) -> Tensor:
        """Return the hidden states (token, hidden); the observation's part of the gates is computed once per trace."""
        observation_width = self.config.observation_embedding
        hidden = inputs
        for layer in range(self.config.lstm_layers):
            weight, recurrent, *biases = (
                getattr(self.lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            bias: Tensor = biases[0] + biases[1]
            if layer == 0:
                by_trace = linear(embedded, weight[:, :observation_width], bias, self.dtype)
                gates = linear(inputs, weight[:, observation_width:], None, self.dtype)
                gates = gates + by_trace.index_select(0, plan.trace)
            else:
                gates = linear(hidden, weight, bias, self.dtype)
            hidden = packed_lstm(gates, recurrent, plan.batch_sizes, self.dtype)
        return hidden

    def _group_log_density(self, group: GroupPlan, hidden: Tensor, leaves: Leaves) -> Tensor:
        key = group.group.key
        # float32: few tokens use each row, so casting the rows would cost more than the products
        inner = grouped_linear(
            hidden.index_select(0, group.tokens),
            leaves[f"{key}_hidden_weight"].value,
            leaves[f"{key}_hidden_bias"].value,
            group.bounds,
        )
        raw = grouped_linear(
            torch.relu(inner), leaves[f"{key}_out_weight"].value, leaves[f"{key}_out_bias"].value, group.bounds
        )
        return log_density(group.group.kind, raw, group.x, group.context) + group.log_jacobian

    def loss(self, batch: Minibatch) -> tuple[Tensor, dict[str, float]]:
        """Return the sum over traces of -log q(x | y), in nats, and its parts by distribution kind.

        Entries without a layer are proposed from the prior: they contribute -log p, as the part "unknown". Gradients
        are those of the observation embedding and the LSTM; use `leaves` for those of the tables.
        """
        plan = plan_minibatch(batch, self.grouping)
        unknown = -float(batch.log_prior[batch.layer < 0].sum())
        if len(plan) == 0:
            return torch.tensor(unknown), {"unknown": unknown}
        loss = -self.log_proposal(plan, torch.from_numpy(batch.observation), self.leaves(plan))
        parts = {"unknown": unknown} if unknown else {}
        for group in plan.groups:
            kind = group.group.kind
            parts[kind] = parts.get(kind, 0.0) + float(loss.detach().index_select(0, group.tokens).sum())
        return loss.sum() + unknown, parts

    def session(
        self, observation: np.ndarray, defensive: float | Sequence[float] = DEFENSIVE_SHARES, lanes: int = 1
    ) -> ProposalSession:
        """Return a session that proposes values for runs with one observation; see `ProposalSession`."""
        return ProposalSession(self, observation, defensive, lanes)


def products_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Return the type of matrix products on a device for a value of `network.dtype`."""
    reduced = wanted == "bfloat16" or (wanted == "auto" and fast_bfloat16(device))
    return torch.bfloat16 if reduced else torch.float32


def fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 matrices in hardware; a CPU needs AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return bool(features.get("amx_bf16", False) or features.get("avx512_bf16", False))
