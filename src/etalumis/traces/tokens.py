# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Turn a block into a minibatch: one vectorised pass over all tokens, and fresh noise on the expected observations."""

from typing import Protocol

import numpy as np

from etalumis.distributions import Categorical, Distribution, Uniform, from_code
from etalumis.trace import CONTROLLED
from etalumis.traces.batch import Batch
from etalumis.traces.block import Block, Expected
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.ragged import Ragged, offsets


class _Rows(Protocol):
    def row(self, address: str) -> int: ...


class TokenTable:
    """What a token needs to know of its address and prior, as arrays indexed by dictionary number."""

    def __init__(self, dictionary: Dictionary, layers: _Rows | None) -> None:
        addresses = dictionary.addresses.names()
        self._layer = np.array([-1 if layers is None else layers.row(a) for a in addresses], np.int64)
        self.priors: list[Distribution] = [from_code(code, p) for code, p in dictionary.distributions]
        self._code = np.array([code for code, _ in dictionary.distributions], np.int64)
        self._parameters = np.full((len(self.priors), 2), np.nan)
        for number, (code, parameters) in enumerate(dictionary.distributions):
            if code != Categorical.code:
                self._parameters[number, : len(parameters)] = parameters[:2]
        lengths = [len(parameters) for _, parameters in dictionary.distributions]
        self._offset = offsets(np.array(lengths, np.int64))
        self._flat = np.array([p for _, parameters in dictionary.distributions for p in parameters])

    def batch(self, block: Block, observation: np.ndarray) -> Batch:
        """Return the controlled entries of `block` as tokens, with `observation` (trace, *shape)."""
        controlled = block.entries.columns["flags"] & CONTROLLED != 0
        per_trace = np.bincount(block.entries.list_numbers()[controlled], minlength=len(block))
        value = block.entries.columns["value"][controlled]
        prior = block.entries.columns["distribution"][controlled]
        parameters = self._parameters[prior]
        uniform = self._code[prior] == Uniform.code
        return Batch(
            observation=observation,
            offset=offsets(per_trace),
            layer=self._layer[block.entries.columns["address"][controlled]],
            value=value,
            low=np.where(uniform, parameters[:, 0], np.nan),
            high=np.where(uniform, parameters[:, 1], np.nan),
            parameters=parameters,
            log_prior=self._log_prior(value, prior),
        )

    def _log_prior(self, value: np.ndarray, prior: np.ndarray) -> np.ndarray:
        code, result = self._code[prior], np.empty(len(value))
        uniform, categorical = code == Uniform.code, code == Categorical.code
        low, high = self._parameters[prior[uniform]].T
        inside = (value[uniform] >= low) & (value[uniform] <= high)
        result[uniform] = np.where(inside, -np.log(high - low), -np.inf)
        with np.errstate(divide="ignore"):
            result[categorical] = np.log(self._flat[self._offset[prior[categorical]] + value[categorical].astype(int)])
        # the kinds that a detector simulation does not draw by the thousand
        for token in np.flatnonzero(~uniform & ~categorical).tolist():
            result[token] = self.priors[prior[token]].log_prob(float(value[token]))
        return result


def join_observations(block: Block, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> np.ndarray:
    """Return float32 (trace, *shape): one draw of p(y | x) for each trace; several observations make a flat vector.

    The noise of trace `i` comes from a generator seeded by (*noise_seed, seed of the trace), times `noise_scale`.
    """
    stored = [block.observations[layout.name] for layout in block.layouts]
    widths = offsets(np.array([layout.size for layout in block.layouts], np.int64))
    joined = np.empty((len(block), int(widths[-1])), np.float32)
    drawn = [observation for observation in stored if isinstance(observation, Expected)]
    if drawn:
        _fill_noise(joined, block.traces["seed"], noise_seed)
    for start, stop, observation in zip(widths[:-1], widths[1:], stored, strict=True):
        part = joined[:, start:stop]
        if isinstance(observation, Expected):
            part *= (noise_scale * observation.stddev).astype(np.float32)[:, None]
            _add_image(part, observation.image)
        else:
            part[...] = observation
    shape = block.layouts[0].shape if len(block.layouts) == 1 else (joined.shape[1],)
    return joined.reshape(len(block), *shape)


def _fill_noise(target: np.ndarray, seeds: np.ndarray, noise_seed: tuple[int, ...]) -> None:
    for row, seed in zip(target, seeds.tolist(), strict=True):
        np.random.Generator(np.random.SFC64([*noise_seed, seed])).standard_normal(dtype=np.float32, out=row)


def _add_image(target: np.ndarray, image: Ragged) -> None:
    # an index occurs once in a trace, so plain fancy addition loses nothing
    target[image.list_numbers(), image.columns["index"]] += image.columns["mean"]
