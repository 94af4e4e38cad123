# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Joint moves of several continuous entries, by differences between the states of a population.

A population of draws from (nearly) the target knows its widths and correlations. A move adds a scaled difference of two
of its states to a third one of the same structure (differential evolution; ter Braak 2006, Vrugt et al. 2009). No scale
has to be set, and an entry that the observation fixes to a thousandth of its prior moves by steps of that size.

The entries of a move belong to one block: continuous controlled entries between which no rejection scope begins. They
change in coordinates in which their support is a circle or the whole line. Neither of the two states is the moved one,
and each order of them is equally likely, so the step is symmetric in these coordinates. (All states of a population
move at a time, with differences from before; this is exact for a large population.) A move into a trace of another
structure, or of other supports, is rejected: the reverse move would have other coordinates.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from etalumis.delegation import RunPlan
from etalumis.distributions import (
    Beta,
    Distribution,
    Exponential,
    Gamma,
    LogNormal,
    Normal,
    StudentT,
    Uniform,
    Weibull,
)
from etalumis.distributions.support import same_support
from etalumis.inference.kernel import Settings
from etalumis.inference.state import ChainState
from etalumis.trace import Trace
from etalumis.typing import Array

MIN_GROUP = 4
"""Smallest number of distinct states of one structure between which differences are taken."""
_SUBSETS = (0.25, 0.5, 1.0)
"""Expected fractions of a block that a move changes, each as likely as the others."""
_JUMP_SHARE = 0.1
"""Fraction of the moves that add the whole difference, which leads from one mode to another."""
_MEDIAN_SCALE, _LOG_SCALE_SD = 0.7, 0.7
"""Distribution of the scale relative to 2.38 / sqrt(2 d), which is best for normal targets."""
_JITTER = 1e-3
"""Standard deviation of the noise added to each coordinate, relative to that of the population."""


class Coordinate(NamedTuple):
    """A coordinate z of an entry with value x: z = (forward(x) - offset) / scale, on a circle of length 1 or a line."""

    circular: bool
    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array]
    log_jacobian: Callable[[Array], Array]
    """log |dx / dz| up to a constant."""


def _identity(x: Array) -> Array:
    return x


def _zero(x: Array) -> Array:
    return np.zeros_like(x)


def _logit(x: Array) -> Array:
    return np.log(x) - np.log1p(-x)


def _logistic(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))


_LINE = Coordinate(False, _identity, _identity, _zero)
_CIRCLE = Coordinate(True, _identity, _identity, _zero)
_POSITIVE = Coordinate(False, np.log, np.exp, np.log)
_UNIT = Coordinate(False, _logit, _logistic, lambda x: np.log(x) + np.log1p(-x))
_COORDINATES: dict[int, Coordinate] = {
    Normal.code: _LINE,
    StudentT.code: _LINE,
    Uniform.code: _CIRCLE,
    Exponential.code: _POSITIVE,
    Gamma.code: _POSITIVE,
    LogNormal.code: _POSITIVE,
    Weibull.code: _POSITIVE,
    Beta.code: _UNIT,
}


class BlockMove(NamedTuple):
    """A proposed change of several entries.

    `log_jacobian` is the sum over the entries of log |dx' / dz'| - log |dx / dz|.
    """

    state: ChainState
    positions: list[int]
    values: list[float]
    log_jacobian: float

    @property
    def span(self) -> slice:
        """Positions from the first to the last changed entry."""
        return slice(self.positions[0], self.positions[-1] + 1)

    def plan(self, state: ChainState, observed: Mapping[str, Array]) -> RunPlan:
        """Return the plan of the proposal run.

        Entries up to the last changed one are replayed by position, with the new values. Later ones are kept or drawn,
        as for a `Move`.
        """
        rows = state.rows.with_values(dict(zip(self.positions, self.values, strict=True)), self.span)
        return RunPlan(rows, self.span.stop, observed, details=True)

    def fits(self, trace: Trace) -> bool:
        """Return whether the model asked for the entries up to the last changed one; else, the move is rejected."""
        return not trace.mismatch

    def log_acceptance(self, state: ChainState, new: ChainState, settings: Settings, beta: float) -> float:
        """Return the log acceptance ratio at inverse temperature `beta`; -inf if there is no reverse move.

        With J the changed entries, F the entries from the first to the last of them, and K the later entries that kept
        their values::

            log a =  beta [sum_n log p(y_n | x') - sum_n log p(y_n | x)]
                   + sum_{i in F and K} [log p'(x'_i) - log p(x_i)] + sum_{i in J} [log |dx'/dz'| - log |dx/dz|]
        """
        if structure_key(new) != structure_key(state):
            return -math.inf
        if not all(same_support(new.prior(i), state.prior(i)) for i in self.positions):
            return -math.inf
        span = self.span
        if -math.inf in new.log_prob[span]:
            return -math.inf
        log_prior = math.fsum(new.log_prob[span]) - math.fsum(state.log_prob[span])
        log_likelihood = beta * (new.log_likelihood - state.log_likelihood)
        return log_likelihood + log_prior + new.trace.log_ratio + self.log_jacobian


def structure_key(state: ChainState) -> object:
    """Return what is equal for two states of the same addresses and scopes, whichever process made them."""
    structure = state.structure
    if structure.key is None:
        structure.key = tuple(state.address), tuple(state.scope)
    return structure.key


class _Block:
    """One block of a structure, with the coordinates (state, entry) of the states that moves take differences of."""

    def __init__(self, positions: list[int], states: Sequence[ChainState]) -> None:
        self.positions = positions
        self._kinds = [_COORDINATES[states[0].prior(i).code] for i in positions]
        self._circular = np.array([kind.circular for kind in self._kinds])
        distinct = list(dict.fromkeys(states))  # resampling repeats states
        z = self._coordinates(self._values(distinct))
        usable = np.isfinite(z).all(axis=1)  # a draw that underflowed to 0 has no logarithm
        z = z[usable]
        self._pool = z if len(np.unique(z, axis=0)) >= MIN_GROUP else None
        self._row = {distinct[i]: row for row, i in enumerate(np.flatnonzero(usable))}
        self._jitter = _JITTER * z.std(axis=0) if self._pool is not None else 0.0

    def _values(self, states: Sequence[ChainState]) -> Array:
        return np.array([[state.value[i] for i in self.positions] for state in states])

    def _coordinates(self, x: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.column_stack([kind.forward(column) for kind, column in zip(self._kinds, x.T, strict=True)])

    def propose(self, states: Sequence[ChainState], rng: np.random.Generator) -> list[BlockMove | None]:
        """Propose a move for each state of the population; None if there is none."""
        pool = self._pool
        if pool is None:
            return [None] * len(states)
        own = np.array([self._row.get(state, len(pool)) for state in states])
        x = self._values(states)
        z = self._coordinates(x)
        low, width = _limits([[state.prior(i) for i in self.positions] for state in states])
        first, second = _pairs(rng, len(pool), own)
        difference = (pool[first] - pool[second]) / width
        difference = np.where(self._circular, (difference + 0.5) % 1.0 - 0.5, difference)
        changed = _subsets(rng, *difference.shape)
        step = changed * (
            _scales(rng, changed.sum(axis=1))[:, None] * difference
            + self._jitter / width * rng.standard_normal(difference.shape)
        )
        new = z + step * width
        new = np.where(self._circular, np.minimum(low + (new - low) % width, low + width), new)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            values = np.column_stack([k.backward(column) for k, column in zip(self._kinds, new.T, strict=True)])
            jacobians = [
                kind.log_jacobian(after) - kind.log_jacobian(before)
                for kind, after, before in zip(self._kinds, values.T, x.T, strict=True)
            ]
        log_jacobian = np.where(changed, np.column_stack(jacobians), 0.0).sum(axis=1)
        return [
            BlockMove(
                state,
                [self.positions[i] for i in np.flatnonzero(changed[row])],
                values[row, changed[row]].tolist(),
                float(log_jacobian[row]),
            )
            if np.isfinite(log_jacobian[row])
            else None
            for row, state in enumerate(states)
        ]


class _Differences:
    """The differences between the states of a population, in the blocks of each structure."""

    def __init__(self, population: Sequence[ChainState]) -> None:
        self._groups: dict[object, list[ChainState]] = {}
        for state in population:
            self._groups.setdefault(structure_key(state), []).append(state)
        self._blocks: dict[object, list[_Block]] = {}

    def blocks(self, state: ChainState) -> list[_Block]:
        """Return the blocks of the structure of a state; none if the population has too few states of it."""
        key = structure_key(state)
        found = self._blocks.get(key)
        if found is None:
            group = self._groups.get(key, [])
            segments = _segments(state) if len(group) >= MIN_GROUP else []
            found = self._blocks[key] = [_Block(positions, group) for positions in segments]
        return found


def _segments(state: ChainState) -> list[list[int]]:
    """Return the positions of the entries of each block of a state."""
    found: dict[int, list[int]] = {}
    for position in state.candidates:
        if state.prior(position).code in _COORDINATES:
            found.setdefault(state.scopes_begun[position], []).append(position)
    return list(found.values())


def propose_moves(states: Sequence[ChainState], rng: np.random.Generator) -> list[tuple[int, BlockMove]]:
    """Propose one move for each state of a population that has enough others of its structure.

    Returns
    -------
    list of (int, BlockMove)
        Index of the state, and its move.
    """
    differences = _Differences(states)
    chosen: dict[_Block, list[int]] = {}
    for index, state in enumerate(states):
        if blocks := differences.blocks(state):
            chosen.setdefault(blocks[int(rng.integers(len(blocks)))], []).append(index)
    found = [
        (index, move)
        for block, members in chosen.items()
        for index, move in zip(members, block.propose([states[i] for i in members], rng), strict=True)
        if move is not None
    ]
    return sorted(found, key=lambda pair: pair[0])


def _limits(priors: list[list[Distribution]]) -> tuple[Array, Array]:
    """Return offset and length (member, entry) of the circles; 0 and 1 for entries on a line."""
    known: dict[int, tuple[float, float]] = {}

    def limits(prior: Distribution) -> tuple[float, float]:
        if not isinstance(prior, Uniform):
            return 0.0, 1.0
        return known.setdefault(id(prior), (prior.low, prior.high - prior.low))

    found = np.array([[limits(prior) for prior in row] for row in priors])
    return found[:, :, 0], found[:, :, 1]


def _pairs(rng: np.random.Generator, pool: int, own: Array) -> tuple[Array, Array]:
    """Return two different random indices below `pool` for each move, neither of which is its `own` (move,)."""
    others = pool - (own < pool)
    first = rng.integers(others)
    second = (first + rng.integers(1, others)) % others
    return first + (first >= own), second + (second >= own)


def _subsets(rng: np.random.Generator, count: int, entries: int) -> Array:
    """Return which entries (move, entry) are changed, at least one per move."""
    share = rng.choice(_SUBSETS, size=count)
    changed = rng.random((count, entries)) < share[:, None]
    changed[np.arange(count), rng.integers(entries, size=count)] = True
    return changed


def _scales(rng: np.random.Generator, entries: Array) -> Array:
    """Return the factor of the difference for moves that change so many entries."""
    scale = _MEDIAN_SCALE * np.exp(_LOG_SCALE_SD * rng.standard_normal(len(entries))) * 2.38 / np.sqrt(2.0 * entries)
    return np.where(rng.random(len(entries)) < _JUMP_SHARE, 1.0, scale)
