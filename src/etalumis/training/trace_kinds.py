# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a minibatch costs depends on the types of its traces: tokens and touched layers of each type.

Traces of one type have the same controlled addresses, so one trace of each type is read, not the whole dataset.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from etalumis.traces.reading.batch import Minibatch
from etalumis.typing import Array

_BATCH = 64


class TypedSource(Protocol):
    """The part of a dataset that `read_kinds` uses; see `traces.reading.dataset.TraceDataset`."""

    @property
    def types(self) -> Array:
        """int64 (trace,): number of the type of each trace."""
        ...

    def batch(self, indices: Array, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> Minibatch:
        """Return the minibatch of the traces `indices`."""
        ...


@dataclass(frozen=True)
class TraceKinds:
    """The types of all traces.

    Attributes
    ----------
    types
        int32 (trace,). Number of each trace's type.
    tokens
        int64 (type,). Tokens with a layer.
    layers
        For each type the distinct layers of its tokens.
    """

    types: Array
    tokens: Array
    layers: tuple[frozenset[int], ...]

    @property
    def lengths(self) -> Array:
        """int64 (trace,): tokens of each trace."""
        return self.tokens[self.types]


def read_kinds(dataset: TypedSource) -> TraceKinds:
    """Return the types of a dataset, after reading the first trace of each."""
    types = dataset.types
    first = np.unique(types, return_index=True)[1]
    layers: list[Array] = []
    for start in range(0, len(first), _BATCH):
        batch = dataset.batch(first[start : start + _BATCH], (0,))
        layers += [each[each >= 0] for each in np.split(batch.layer, batch.offset[1:-1])]
    tokens = np.array([len(each) for each in layers], np.int64)
    return TraceKinds(types.astype(np.int32), tokens, tuple(frozenset(each.tolist()) for each in layers))
