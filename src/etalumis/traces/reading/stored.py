# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A single trace of a dataset as an object, for interactive use and tests; training reads minibatches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalumis.distributions import Distribution
from etalumis.traces.block import Block, Expected
from etalumis.traces.ragged import Ragged


@dataclass(frozen=True)
class StoredTrace:
    """One trace of a dataset: accepted entries in order, expected observations, tags.

    `expected` holds float64 arrays of the shape of the observation. If the storage is "noisy", it is the stored value
    and `stddev` is None.
    """

    addresses: list[str]
    names: list[str]
    values: list[float]
    distributions: list[Distribution]
    flags: list[int]
    expected: dict[str, np.ndarray]
    stddev: dict[str, float | None]
    tags: dict[str, np.ndarray]
    seed: int
    index: int
    log_prior: float

    @property
    def by_address(self) -> dict[str, float]:
        """Values by address."""
        return dict(zip(self.addresses, self.values, strict=True))

    @property
    def by_name(self) -> dict[str, float]:
        """Values of the named entries."""
        return {name: value for name, value in zip(self.names, self.values, strict=True) if name}


def stored_trace(block: Block, priors: Sequence[Distribution]) -> StoredTrace:
    """Return the single trace of `block`; `priors` are the distributions of its dictionary."""
    dictionary = block.dictionary
    columns = block.entries.columns
    expected: dict[str, np.ndarray] = {}
    stddev: dict[str, float | None] = {}
    for layout in block.layouts:
        observation = block.observations[layout.name]
        dense = np.zeros(layout.size)
        if isinstance(observation, Expected):
            dense[observation.elements(layout)] = observation.image.columns["mean"]
            stddev[layout.name] = float(observation.stddev[0])
        else:
            dense[:] = observation[0]
            stddev[layout.name] = None
        expected[layout.name] = dense.reshape(layout.shape)
    return StoredTrace(
        addresses=[dictionary.addresses.name(i) for i in columns["address"].tolist()],
        names=[dictionary.names[i] for i in columns["address"].tolist()],
        values=columns["value"].tolist(),
        distributions=[priors[i] for i in columns["distribution"].tolist()],
        flags=columns["flags"].tolist(),
        expected=expected,
        stddev=stddev,
        tags={n: t.columns["content"] if isinstance(t, Ragged) else t[0] for n, t in block.tags.items()},
        seed=int(block.traces["seed"][0]),
        index=int(block.traces["index"][0]),
        log_prior=float(block.traces["log_prior"][0]),
    )
