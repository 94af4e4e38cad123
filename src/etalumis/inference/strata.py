# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Strata of first runs by the value of one discrete entry, such as the decay channel.

Moves seldom cross from one value to another, so the share of a value in a population depends on the few first runs from
which its particles descend. With a population for each value, the share follows from the evidence of each, which is
estimated independently of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalumis.errors import InferenceError
from etalumis.inference.annealing import starting_beta
from etalumis.inference.state import ChainState
from etalumis.log_weights import normalise
from etalumis.typing import Array

MIN_SHARE = 0.002
"""Smallest share of a value in the weights of the first runs for a stratum of its own; all others have one together."""

ENOUGH_FOR_SHARES = 100.0
"""Effective sample size of the first runs that is enough to estimate the shares of the strata."""


@dataclass(frozen=True)
class Strata:
    """Values of an entry that have a stratum of their own.

    Every trace is in one stratum, also if its value did not occur in the first runs: moves may reach it.

    Attributes
    ----------
    name
        Name of the entry; None: all traces are in one stratum.
    own
        The values, in ascending order.
    others
        Number of the stratum of all other traces: one of their own, or, if no first run has such a value, that of the
        value of the largest weight.
    """

    name: str | None = None
    own: tuple[float, ...] = ()
    others: int = 0

    def of(self, state: ChainState) -> int:
        """Return the number of the stratum of a trace."""
        if self.name is None:
            return 0
        value = _value(state, self.name)
        return self.own.index(value) if value in self.own else self.others

    def label(self, number: int) -> str:
        """Return the name of a stratum for messages."""
        if self.name is None:
            return ""
        return f"{self.name} {self.own[number]:g}" if number < len(self.own) else f"other {self.name}"


def strata_of(
    states: Sequence[ChainState], name: str | None, log_weight: Array, log_likelihood: Array
) -> tuple[Strata, list[Array]]:
    """Return the strata of first runs, and the indices of the runs in each; no stratum is empty.

    Parameters
    ----------
    states
        The first runs.
    name
        Name of the entry; None for one stratum.
    log_weight
        (run,) log weights for the prior.
    log_likelihood
        (run,) log likelihoods, finite.

    Raises
    ------
    InferenceError
        If no run has an entry of this name, or it is not discrete.
    """
    if name is None:
        return Strata(), [np.arange(len(states))]
    values = np.array([np.nan if (value := _value(state, name)) is None else value for state in states])
    if np.isnan(values).all():
        known = sorted({text for state in states for text in state.structure.names})
        raise InferenceError(f"strata: no first run has an entry of the name {name!r}; found {', '.join(known)}")
    _, weight = starting_beta(log_weight, log_likelihood)
    share = normalise(weight)
    shares = {float(value): float(share[values == value].sum()) for value in np.unique(values[~np.isnan(values)])}
    own = [value for value, of_value in shares.items() if of_value >= MIN_SHARE]
    groups = [np.flatnonzero(values == value) for value in own]
    rest = np.flatnonzero(~np.isin(values, own))
    others = len(own) if len(rest) else int(np.argmax([shares[value] for value in own]))
    return Strata(name, tuple(own), others), [*groups, rest] if len(rest) else groups


def particles_of(groups: Sequence[Array], particles: int, log_weight: Array, log_likelihood: Array) -> list[int]:
    """Return the number of particles of each stratum, two or more.

    One half of all is divided in proportion to the shares of the strata in the weights of the first runs, so that few
    are spent on strata without weight. The other half is divided equally, since the first runs may mislead.

    Parameters
    ----------
    groups
        Indices of the first runs in each stratum.
    particles
        Number of all particles.
    log_weight, log_likelihood
        (run,) as in `strata_of`. The shares are those at the highest inverse temperature at which all first runs
        together are worth `ENOUGH_FOR_SHARES` draws.
    """
    share = normalise(starting_beta(log_weight, log_likelihood, ENOUGH_FOR_SHARES)[1])
    return [max(2, round(0.5 * particles * (1.0 / len(groups) + float(share[group].sum())))) for group in groups]


def _value(state: ChainState, name: str) -> float | None:
    """Return the value of the first entry of a name; None if there is none.

    Raises
    ------
    InferenceError
        If its prior is continuous.
    """
    position = state.structure.names.get(name)
    if position is None:
        return None
    distribution, value, _ = state.entry(position)
    if not distribution.discrete:
        raise InferenceError(f"strata: {name!r} has a {distribution.kind} prior; expected the name of a discrete entry")
    return float(value)
