# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Prior and proposal of each controlled entry along a given trace, as densities on a grid of values."""

from dataclasses import dataclass

import numpy as np

from etalumis.distributions import Distribution
from etalumis.network.model import ProposalNetwork
from etalumis.network.proposal_session import ProposalSession
from etalumis.network.standardise import FAMILIES
from etalumis.seeds import generator
from etalumis.trace import CONTROLLED
from etalumis.traces.reading.dataset import StoredTrace
from etalumis.typing import Array

GRID = 241
"""Values at which the densities of a continuous entry are computed."""
_PRIOR_DRAWS = 1000


@dataclass(frozen=True)
class Entry:
    """A controlled entry of a trace whose address the network knows, given the true values of all earlier entries.

    Attributes
    ----------
    address, name
        Its address, and its name in the simulator; "" if it has none.
    distribution
        Its prior.
    value
        Its value in the trace.
    log_prior, log_proposal
        Log densities of the value.
    """

    address: str
    name: str
    distribution: Distribution
    value: float
    log_prior: float
    log_proposal: float


@dataclass(frozen=True)
class Densities:
    """Densities of one entry: `values`, `prior` and `proposal` (value,); probabilities if `discrete`."""

    values: Array
    prior: Array
    proposal: Array
    discrete: bool


def entries_along(network: ProposalNetwork, observation: Array, trace: StoredTrace) -> list[Entry]:
    """Return the controlled entries of a trace with the network's proposals, without a defensive share of the prior.

    Parameters
    ----------
    network
        A trained network.
    observation
        (*shape), unscaled.
    trace
        The trace, of the simulator for which the network was made.
    """
    session = ProposalSession(network, observation, defensive=0.0)
    session.begin()
    session.see(session.visible_tags(trace.tags))
    found = []
    for place in _known(session, trace):
        address, prior, value = trace.addresses[place], trace.distributions[place], trace.values[place]
        log_q = session.log_densities([0], address, prior, [value])[0]
        found.append(Entry(address, trace.names[place], prior, value, prior.log_prob(value), log_q))
    return found


def densities_at(network: ProposalNetwork, observation: Array, trace: StoredTrace, number: int) -> Densities:
    """Return the densities of entry `number` of `entries_along`; raise as a `ProposalSession` does."""
    session = ProposalSession(network, observation, defensive=0.0)
    places = _known(session, trace)
    prior = trace.distributions[places[number]]
    values, discrete = _grid(prior)
    session = ProposalSession(network, observation, defensive=0.0, lanes=len(values))
    lanes, tags = range(len(values)), session.visible_tags(trace.tags)
    for lane in lanes:
        session.begin(lane)
        session.see(tags, lane)
    for place in places[:number]:
        session.log_densities(
            lanes, trace.addresses[place], trace.distributions[place], [trace.values[place]] * len(lanes)
        )
    log_q = session.log_densities(lanes, trace.addresses[places[number]], prior, values.tolist())
    return Densities(values, np.exp([prior.log_prob(value) for value in values.tolist()]), np.exp(log_q), discrete)


def _known(session: ProposalSession, trace: StoredTrace) -> list[int]:
    return [
        place
        for place, (address, flags) in enumerate(zip(trace.addresses, trace.flags, strict=True))
        if flags & CONTROLLED and session.knows(address)
    ]


def _grid(prior: Distribution) -> tuple[Array, bool]:
    """Return values that cover a prior, and whether they are all its values in this range."""
    if prior.kind == "Categorical":
        return np.arange(float(len(prior.parameters))), True
    if prior.kind == "Uniform":
        low, high = prior.parameters
        return low + (high - low) * (np.arange(GRID) + 0.5) / GRID, False
    rng = generator(0, "experiments/grid", 0)
    draws = np.array([prior.sample(rng) for _ in range(_PRIOR_DRAWS)])
    if FAMILIES[prior.kind] == "count":
        return np.unique(np.linspace(draws.min(), draws.max(), GRID).round()), True
    return np.linspace(draws.min(), draws.max(), GRID), False


def shown(entries: int, columns: int) -> list[int]:
    """Return the numbers of the entries that a figure with room for some shows: the first ones and the last three."""
    if entries <= columns:
        return list(range(entries))
    last = min(3, columns - 1)
    return [*range(columns - last), *range(entries - last, entries)]
