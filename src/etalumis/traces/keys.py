# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The order of sorted traces: frequency of the type, type, length, seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.format import TYPE_BYTES
from etalumis.traces.shard import Shard


@dataclass(frozen=True, slots=True)
class Keys:
    """Sort keys of some traces, with where each trace is.

    Attributes
    ----------
    type
        16-byte trace types (trace,), as numpy void scalars.
    length
        int64 (trace,): accepted entries.
    seed
        int64 (trace,): unique, so the order is total.
    file, row
        int64 (trace,): number of the input file and of the trace in it.
    """

    type: np.ndarray
    length: np.ndarray
    seed: np.ndarray
    file: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        """Return the number of traces."""
        return len(self.seed)

    def slice(self, start: int, stop: int) -> "Keys":
        """Return the keys of traces `start:stop`."""
        return Keys(*(getattr(self, name)[start:stop] for name in Keys.__slots__))


def read_keys(shard: Shard, number: int) -> Keys:
    """Return the keys of input file `number`."""
    types = np.ascontiguousarray(shard.whole("traces/type")).view(f"V{TYPE_BYTES}").reshape(-1)
    length = np.diff(shard.whole("traces/offset"))
    return Keys(types, length, shard.whole("traces/seed"), np.full(len(types), number, np.int64), np.arange(len(types)))


def concatenate(parts: list[Keys]) -> Keys:
    """Return the keys of all parts, one after the other."""
    return Keys(*(np.concatenate([getattr(part, name) for part in parts]) for name in Keys.__slots__))


@dataclass(frozen=True, slots=True)
class TypeTable:
    """Distinct trace types, most frequent first (then by their bytes), with how many traces have each."""

    types: list[str]
    counts: list[int]


def sort_keys(keys: Keys, paths: list[Path]) -> tuple[Keys, TypeTable]:
    """Return the keys in sorted order and the table of types.

    The order depends on the set of traces only, not on the order or number of the input files.

    Raises
    ------
    DatasetError
        Where two traces have the same seed: the same traces were given twice.
    """
    distinct, inverse, counts = np.unique(keys.type, return_inverse=True, return_counts=True)
    by_frequency = np.argsort(-counts, kind="stable")  # np.unique is in the order of the bytes
    rank = np.empty_like(by_frequency)
    rank[by_frequency] = np.arange(len(by_frequency))
    order = np.lexsort((keys.seed, keys.length, rank[inverse]))
    _require_unique(keys, paths)
    ordered = Keys(*(getattr(keys, name)[order] for name in Keys.__slots__))
    return ordered, TypeTable([bytes(distinct[i]).hex() for i in by_frequency], counts[by_frequency].tolist())


def _require_unique(keys: Keys, paths: list[Path]) -> None:
    order = np.argsort(keys.seed, kind="stable")
    seed = keys.seed[order]
    twice = np.flatnonzero(seed[1:] == seed[:-1])
    if len(twice):
        one, other = (paths[keys.file[order[twice[0] + step]]] for step in (0, 1))
        raise DatasetError(
            f"{one} and {other}: {len(twice)} traces are in the dataset twice (the first has seed {seed[twice[0]]}); "
            "give every trace file once, and generate parts with different numbers"
        )
