# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Convert the entries of traces to the tokens of a minibatch, vectorised over all of them."""

from typing import Protocol

import numpy as np

from etalumis.distributions import Categorical, Distribution, Uniform, from_code
from etalumis.trace import CONTROLLED
from etalumis.traces.densities import PriorTable
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.reading.batch import PRIOR_PARAMETERS, Minibatch


class LayerRows(Protocol):
    """The interface of a layer table that the reader needs."""

    def row(self, address: str) -> int:
        """Return the row of an address, or -1."""
        ...


class TokenTable:
    """Properties of addresses and priors for tokens, as arrays indexed by id."""

    def __init__(self, dictionary: Dictionary, layers: LayerRows | None) -> None:
        addresses = dictionary.addresses.names()
        self._layer = np.array([-1 if layers is None else layers.row(a) for a in addresses], np.int64)
        self.priors: list[Distribution] = [from_code(code, p) for code, p in dictionary.distributions]
        self._code = np.array([code for code, _ in dictionary.distributions], np.int64)
        self._densities = PriorTable(dictionary.distributions)
        self._parameters = np.full((len(self.priors), PRIOR_PARAMETERS), np.nan)
        for number, (code, parameters) in enumerate(dictionary.distributions):
            if code != Categorical.code:
                self._parameters[number, : len(parameters)] = parameters

    def tokens(self, entries: Ragged, observation: np.ndarray, tags: np.ndarray) -> Minibatch:
        """Return the controlled entries as tokens, with `observation` (trace, *shape) and `tags` (trace, n).

        `entries` has the columns address, value, distribution and flags, with ids of the dictionary.
        """
        controlled = entries.columns["flags"] & CONTROLLED != 0
        per_trace = np.bincount(entries.list_numbers()[controlled], minlength=len(entries))
        value = entries.columns["value"][controlled]
        prior = entries.columns["distribution"][controlled]
        parameters = self._parameters[prior]
        uniform = self._code[prior] == Uniform.code
        return Minibatch(
            observation=observation,
            offset=offsets(per_trace),
            layer=self._layer[entries.columns["address"][controlled]],
            value=value,
            low=np.where(uniform, parameters[:, 0], np.nan),
            high=np.where(uniform, parameters[:, 1], np.nan),
            parameters=parameters,
            log_prior=self._densities.log_prob(prior, value),
            tags=tags,
        )
