# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference with a trained network: entry by entry, in many runs at a time, for one observation."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from etalumis.distributions import Distribution
from etalumis.errors import NetworkError
from etalumis.inference.proposal_controller import Proposal, ProposalSource
from etalumis.network import sampling
from etalumis.network.independent_rows import affine, lstm_cell
from etalumis.network.proposal_densities import width as proposal_width
from etalumis.network.session_tensors import LaneState, LayerRow, LstmLayer
from etalumis.network.standardise import restore, standardise
from etalumis.network.value_features import embed_values, value_features
from etalumis.traces.reading.batch import PRIOR_PARAMETERS
from etalumis.typing import Array

if TYPE_CHECKING:
    from etalumis.network.model import ProposalNetwork

DEFENSIVE_SHARES = (0.01, 0.03, 0.1, 0.3, 0.7)
"""Shares of the prior in proposals, if none are given."""
_MAX_CACHED_GATES = 16_384
"""Bound on the pairs of addresses whose part of the gates is remembered."""


class ProposalSession(ProposalSource):
    """Proposes the values of runs, given one observation; several runs at a time, each in a lane of its own.

    A network is surer of itself than it should be, so a run is proposed with one of several defensive shares d of the
    prior (Hesterberg 1995), each as likely as the others::

        q(x) = mean_d prod_i [(1 - d) q_network(x_i | x_<i) + d p(x_i)]

    The density is that of the whole mixture, however a value was drawn. It is computed entry by entry: given the values
    so far, each share has a posterior probability, and the next entry is proposed with the mean share. If the network's
    proposals fit, the weight p / q of a run is hardly larger than with the smallest share alone; if they do not, it is
    bounded by the largest share.

    What is proposed in a lane does not depend on the other lanes of a call, bit for bit: see `independent_rows`.
    Weights are stored so that the sums do not depend on the number of rows.

    Parameters
    ----------
    network
        A trained network; its parameters must not change during the session.
    observation
        (*shape), unscaled, as in the observe statement of the model.
    defensive
        Share d of the prior, in [0, 1), or several of them.
    lanes
        Number of runs that can be in progress at the same time.

    Raises
    ------
    NetworkError
        If the shape of the observation is not that of the network, or a number is not finite.
    """

    def __init__(
        self,
        network: "ProposalNetwork",
        observation: Array,
        defensive: float | Sequence[float] = DEFENSIVE_SHARES,
        lanes: int = 1,
    ) -> None:
        shares = np.atleast_1d(np.asarray(defensive, np.float64))
        if shares.ndim > 1 or len(shares) == 0 or not np.all((shares >= 0.0) & (shares < 1.0)):
            raise NetworkError(f"defensive shares: expected numbers in [0, 1), found {defensive}")
        self.network, self._shares = network, shares
        self._weights = [LstmLayer(network, i) for i in range(network.config.lstm_layers)]
        self._observation_gates = self._embed(observation)
        self._sample_gates = self._weights[0].inputs[self._columns(network.config.sample_embedding)].contiguous()
        self._tag_gates = self._weights[0].inputs[network.input_width - network.tag_width :].contiguous()
        self._address_gates = torch.empty(0, len(self._observation_gates))
        self._gate_rows: dict[tuple[int, int], int] = {}
        self._rows: dict[str, int] = {}
        self._layers: dict[int, LayerRow] = {}
        self._state = LaneState(network, lanes, len(shares))

    def _columns(self, count: int) -> slice:
        start = self.network.config.observation_embedding
        return slice(start, start + count)

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
            # float32, so that the proposals do not depend on whether the hardware has bfloat16
            embedded: Tensor = self.network.observation(torch.from_numpy(observation).unsqueeze(0), torch.float32)[0]
            first = self._weights[0]
            return first.bias + embedded @ first.inputs[: len(embedded)]

    @property
    def lanes(self) -> int:
        """Number of runs that can be in progress at the same time."""
        return len(self._state.previous_layer)

    def begin(self, lane: int = 0) -> None:
        """Start a run in a lane: reset its state."""
        self._state.reset(lane)

    def needs_tags(self, address: str) -> bool:
        """Return whether the proposal at an address depends on tags of the run."""
        tag_inputs = self.network.tag_inputs
        return tag_inputs is not None and (layer := self._row(address)) >= 0 and tag_inputs.sees(layer)

    def visible_tags(self, tags: Mapping[str, Array]) -> Array:
        """Return the tags of a run that the network sees, as one vector; NaN for a tag that it does not have."""
        tag_inputs = self.network.tag_inputs
        return np.empty(0) if tag_inputs is None else tag_inputs.flat(tags)

    def see(self, tags: Array, lane: int = 0) -> None:
        """Set what `visible_tags` returned for the run in a lane."""
        if self._state.tags is not None and self.network.tag_inputs is not None:
            self._state.tags[lane] = self.network.tag_inputs.standardise(torch.from_numpy(tags))

    def knows(self, address: str) -> bool:
        """Return whether the network proposes values of an address."""
        return self._row(address) >= 0

    def propose(self, address: str, distribution: Distribution, rng: np.random.Generator) -> tuple[float, float] | None:
        """Return (value, log q(value)) in lane 0, or None if the address is unknown: the caller then uses the prior.

        An unknown address is not a step of the LSTM, as in training.

        Raises
        ------
        NetworkError
            If the distribution is not of the kind of the layer.
        """
        if not self.knows(address):
            return None
        value, log_q, _ = self.propose_all([0], [address], [distribution], [rng])[0]
        return value, log_q

    def log_density(self, address: str, distribution: Distribution, value: float) -> float | None:
        """Return log q(value) in lane 0, as if `propose` had returned this value; None if the address is unknown.

        Raises
        ------
        NetworkError
            If the distribution is not of the kind of the layer.
        """
        if not self.knows(address):
            return None
        return self._advance([0], [address], [distribution], [value])[0].log_q

    def log_densities(
        self, lanes: Sequence[int], address: str, distribution: Distribution, values: Sequence[float]
    ) -> list[float]:
        """Return log q of a value of one known address in each of some lanes, as if it had been proposed there.

        Raises
        ------
        NetworkError
            If the distribution is not of the kind of the layer.
        """
        addresses, priors = [address] * len(lanes), [distribution] * len(lanes)
        return [proposal.log_q for proposal in self._advance(lanes, addresses, priors, values)]

    def propose_all(
        self,
        lanes: Sequence[int],
        addresses: Sequence[str],
        distributions: Sequence[Distribution],
        rngs: Sequence[np.random.Generator],
    ) -> list[Proposal]:
        """Propose the next value in each of some lanes, for known addresses; raise as `propose` does.

        Each lane draws from its own random generator.
        """
        return self._advance(lanes, addresses, distributions, rngs)

    def _advance(
        self,
        lanes: Sequence[int],
        addresses: Sequence[str],
        distributions: Sequence[Distribution],
        sources: Sequence[np.random.Generator] | Sequence[float],
    ) -> list[Proposal]:
        """Advance each of some lanes by one entry, to a new value from a random generator, or to a given one."""
        layers = [self._row(address) for address in addresses]
        by_group: dict[int, list[int]] = {}
        for position, (layer, distribution) in enumerate(zip(layers, distributions, strict=True)):
            self._check_kind(layer, distribution)
            by_group.setdefault(int(self.network.grouping.group_of[layer]), []).append(position)
        found: list[Proposal] = [_NOTHING] * len(lanes)
        with torch.inference_mode():
            hidden = self._step(lanes, layers)
            for group, positions in by_group.items():
                of_group = self.network.grouping.groups[group]
                out = proposal_width(of_group.kind, of_group.categories, self.network.config.mixture_components)
                raw = self._raw(hidden, [layers[i] for i in positions], positions, out)
                proposals, feature = self._draw(
                    of_group.kind,
                    raw,
                    [distributions[i] for i in positions],
                    [lanes[i] for i in positions],
                    [sources[i] for i in positions],
                )
                embedded = self._sample_embedding(group, [layers[i] for i in positions], feature)
                self._state.previous_value[[lanes[i] for i in positions]] = embedded
                for position, proposal in zip(positions, proposals, strict=True):
                    found[position] = proposal
        for lane, layer in zip(lanes, layers, strict=True):
            self._state.previous_layer[lane] = layer
        return found

    def _draw(
        self,
        kind: str,
        raw: Array,
        distributions: list[Distribution],
        lanes: list[int],
        sources: list[np.random.Generator | float],
    ) -> tuple[list[Proposal], Array]:
        """Return a proposal for each token of one kind, and the inputs (token,) of the sample embedding."""
        columns = np.array([_prior_columns(distribution) for distribution in distributions])
        low, high, parameters = columns[:, 0], columns[:, 1], columns[:, 2:]
        log_weight = self._state.log_share_weight[lanes]
        weight = np.exp(log_weight)
        share = (weight * self._shares).sum(axis=1) / weight.sum(axis=1)
        uniforms = np.full((len(sources), 2), 0.5)
        known: list[tuple[int, float]] = []
        for i, source in enumerate(sources):
            if not isinstance(source, np.random.Generator):
                known.append((i, source))
            elif share[i] > 0 and source.random() < share[i]:
                known.append((i, distributions[i].sample(source)))
            else:
                source.random(out=uniforms[i])
        value = restore(kind, sampling.sample(kind, raw, uniforms), low, high, parameters)
        for i, given in known:
            value[i] = given
        form = standardise(kind, value, low, high, parameters)
        log_network = sampling.log_density(kind, raw, form.x, form.context) + form.log_jacobian
        values: list[float] = value.tolist()
        log_prior = np.array([prior.log_prob(x) for prior, x in zip(distributions, values, strict=True)])
        log_weight = log_weight + _log_mixture(self._shares, log_network[:, None], log_prior[:, None])
        self._state.log_share_weight[lanes] = log_weight - log_weight.max(axis=1, keepdims=True)
        log_q = _log_mixture(share, log_network, log_prior)
        return list(map(Proposal, values, log_q.tolist(), log_prior.tolist())), form.feature

    def _row(self, address: str) -> int:
        row = self._rows.get(address)
        if row is None:
            row = self._rows[address] = self.network.layers.row(address)
        return row

    def _check_kind(self, layer: int, distribution: Distribution) -> None:
        row = self.network.layers.rows[layer]
        categories = len(distribution.parameters) if distribution.kind == "Categorical" else 0
        if (row.kind, row.categories) != (distribution.kind, categories):
            raise NetworkError(
                f"address {row.address!r}: the network was made for {row.kind} with {row.categories} categories, the "
                f"simulator asks for {distribution.kind} with {categories}; train on traces of this simulator"
            )

    def _layer(self, layer: int) -> LayerRow:
        row = self._layers.get(layer)
        if row is None:
            row = self._layers[layer] = LayerRow.of(self.network, layer)
        return row

    def _sample_embedding(self, group: int, layers: list[int], feature: Array) -> Tensor:
        grouping = self.network.grouping
        key, rows = grouping.groups[group].key, torch.from_numpy(grouping.row_of[layers])
        weight, bias = (self.network.tables[f"{key}_sample_{part}"].detach() for part in ("weight", "bias"))
        if grouping.groups[group].kind == "Categorical":
            embedded: Tensor = weight[rows, torch.from_numpy(feature.astype(np.int64))]
        else:
            value = torch.from_numpy(feature.astype(np.float32))
            features = value_features(grouping.groups[group].kind, value, self.network.config.value_frequencies)
            embedded = embed_values(features, weight[rows])
        return embedded.add_(bias[rows])

    def _gates(self, lanes: Sequence[int], layers: Sequence[int]) -> Tensor:
        """Return the part of the gates from observation and addresses, cached by pair of addresses."""
        pairs = [(self._state.previous_layer[lane], layer) for lane, layer in zip(lanes, layers, strict=True)]
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._gate_rows]
        if new and len(self._gate_rows) + len(new) > max(_MAX_CACHED_GATES, len(pairs)):
            self._gate_rows, new = {}, list(dict.fromkeys(pairs))
        if new:
            self._cache_gates(new)
        return self._address_gates[[self._gate_rows[pair] for pair in pairs]]

    def _cache_gates(self, pairs: Sequence[tuple[int, int]]) -> None:
        config, table = self.network.config, self.network.tables["address"].detach()
        start, tags = config.observation_embedding + config.sample_embedding, self.network.tag_width
        weight = self._weights[0].inputs[start : self.network.input_width - tags]
        used = len(self._gate_rows)
        if used + len(pairs) > len(self._address_gates):
            larger = torch.empty(2 * (used + len(pairs)), len(self._observation_gates))
            larger[:used] = self._address_gates[:used]
            self._address_gates = larger
        for row, (previous, layer) in enumerate(pairs, used):
            before = table[previous] if previous >= 0 else torch.zeros(config.address_embedding)
            self._address_gates[row] = self._observation_gates + torch.cat([before, table[layer]]) @ weight
            self._gate_rows[previous, layer] = row

    def _step(self, lanes: Sequence[int], layers: Sequence[int]) -> Tensor:
        """Advance the LSTM by one entry in each lane and return its outputs (lane, hidden)."""
        state, index = self._state, list(lanes)
        gates = affine(self._gates(lanes, layers), state.previous_value[index], self._sample_gates)
        tag_inputs = self.network.tag_inputs
        if state.tags is not None and tag_inputs is not None:
            seen = tag_inputs.masked(state.tags[index], torch.tensor(layers))
            gates = affine(gates, seen, self._tag_gates)
        hidden = gates  # of the layer below; the first layer has none
        for i, weights in enumerate(self._weights):
            if i > 0:
                gates = affine(weights.bias, hidden, weights.inputs)
            hidden, cell = lstm_cell(affine(gates, state.hidden[i][index], weights.recurrent), state.cell[i][index])
            state.hidden[i][index], state.cell[i][index] = hidden, cell
        return hidden

    def _raw(self, hidden: Tensor, layers: list[int], positions: list[int], width: int) -> Array:
        """Return the raw outputs (token, width) of the proposals of one group of layers, as float64."""
        by_layer: dict[int, list[int]] = {}
        for i, layer in enumerate(layers):
            by_layer.setdefault(layer, []).append(i)
        raw: Array | None = None
        for layer, mine in by_layer.items():
            row = self._layer(layer)
            inputs = hidden[[positions[i] for i in mine]]
            inner = affine(row.hidden_bias, inputs, row.hidden_weight[: inputs.shape[1]]).relu_()
            out = affine(row.out_bias, inner, row.out_weight).numpy()
            if raw is None:
                raw = np.empty((len(layers), width))
            raw[mine] = out[:, :width]
        assert raw is not None  # no group is empty
        return raw


_NOTHING = Proposal(math.nan, math.nan, math.nan)


def _log_mixture(share: Array, log_network: Array, log_prior: Array) -> Array:
    """Return log[(1 - d) q_network + d p] for shares d of the prior."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp(np.log1p(-share) + log_network, np.log(share) + log_prior))


def _prior_columns(distribution: Distribution) -> tuple[float, ...]:
    """Return (low, high, parameters) as in a minibatch."""
    parameters = () if distribution.kind == "Categorical" else distribution.parameters
    bounds = parameters if distribution.kind == "Uniform" else (math.nan, math.nan)
    return (*bounds, *parameters, *(math.nan,) * (PRIOR_PARAMETERS - len(parameters)))
