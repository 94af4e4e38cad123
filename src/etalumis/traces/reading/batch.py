# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A minibatch as columns: the concatenated tokens of traces of any types."""

from dataclasses import dataclass

import numpy as np

PRIOR_PARAMETERS = 3
"""Largest number of parameters of a prior, Categoricals apart."""


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Traces as input of a network; a token is one controlled, accepted entry.

    Tokens of trace `i` are the rows `offset[i]:offset[i + 1]`, in the order in which the simulator drew them.

    Attributes
    ----------
    observation
        float32 ``(trace, *shape)``. One draw from p(y | x), in the units of the observation, not scaled. Several
        observations are concatenated to one flat vector (trace, n), in the order of `layouts` of the dataset.
    offset
        int64 (trace + 1,).
    layer
        int64 (token,). Row in the layer table; -1 if the address is not in the table.
    value
        float64 (token,). The value, in physical units.
    low, high
        float64 (token,). Support of a uniform prior; NaN for other kinds.
    parameters
        float64 (token, PRIOR_PARAMETERS). Parameters of the prior in wire order, NaN where it has fewer. All are NaN
        for a Categorical, whose number of categories is in the layer table.
    log_prior
        float64 (token,). Log density of `value` under its prior.
    tags
        float64 (trace, n). The tags that the dataset was opened with, flattened and joined; NaN where a run had none.
    """

    observation: np.ndarray
    offset: np.ndarray
    layer: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    parameters: np.ndarray
    log_prior: np.ndarray
    tags: np.ndarray

    def __len__(self) -> int:
        """Return the number of traces."""
        return len(self.offset) - 1
