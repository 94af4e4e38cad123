# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A dataset of one or many trace files, read as minibatches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from etalumis.address import AddressTable
from etalumis.distributions import Categorical, Distribution
from etalumis.errors import DatasetError
from etalumis.trace import CONTROLLED
from etalumis.traces.batch import Batch
from etalumis.traces.block import EXPECTED, Block, Expected, Layout, Tag, TagLayout, join
from etalumis.traces.cache import ShardCache
from etalumis.traces.format import Provenance
from etalumis.traces.ragged import Ragged, concatenate
from etalumis.traces.sources import Sources
from etalumis.traces.tokens import TokenTable, join_observations


class Rows(Protocol):
    """What the reader needs of a layer table."""

    def row(self, address: str) -> int:
        """Return the row of an address, or -1."""
        ...


@dataclass(frozen=True)
class StoredTrace:
    """One trace taken out of a dataset: accepted entries in order, expected observations, tags.

    `expected` holds float64 arrays of the observation's shape (the stored value where storage is "noisy", for which
    `stddev` is None).
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
        """Values of the entries that the simulator names."""
        return {name: value for name, value in zip(self.names, self.values, strict=True) if name}


class TraceDataset:
    """Traces of one simulator and configuration, numbered through all files.

    Parameters
    ----------
    paths
        Trace files, index files, or folders that hold an `index.json`; one path or several.
    layers
        Layer table that gives tokens their rows; without one every `Batch.layer` is -1.
    cache_mb
        Memory for uncompressed shards; the least recently used are dropped. A reader that goes through a large sorted
        dataset in chunks of neighbours needs room for a few shards only.

    Attributes
    ----------
    types
        int64 (trace,): number of each trace's type in `type_table`.
    type_table
        Hexadecimal trace types, in the order of first sight.
    lengths
        int64 (trace,): accepted entries of each trace.

    Raises
    ------
    DatasetError
        Where a file is damaged or foreign, or the files do not belong together.
    """

    def __init__(self, paths: Path | Sequence[Path], layers: Rows | None = None, cache_mb: int = 2048) -> None:
        sources = Sources([paths] if isinstance(paths, Path) else paths)
        self._shards = sources.shards
        self.paths = [shard.path for shard in self._shards]
        self.provenance: Provenance = sources.provenance
        self.layouts: tuple[Layout, ...] = sources.layouts
        self.tag_layouts: dict[str, TagLayout] = sources.tag_layouts
        self._first = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._cache = ShardCache(sources, cache_mb)
        self._tokens = TokenTable(sources.dictionary, layers)
        self.addresses: AddressTable = sources.dictionary.addresses
        self.names: list[str] = sources.dictionary.names
        self.distributions: list[Distribution] = self._tokens.priors
        self.lengths = np.concatenate([np.diff(shard.whole("traces/offset")) for shard in self._shards])
        self.type_table, self.types = _number_types([shard.whole("traces/type") for shard in self._shards])

    def __len__(self) -> int:
        """Return the number of traces."""
        return int(self._first[-1])

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of `Batch.observation` without its trace axis."""
        return self.layouts[0].shape if len(self.layouts) == 1 else (sum(layout.size for layout in self.layouts),)

    def column(self, name: str) -> np.ndarray:
        """Return a column of /traces for all traces ("seed", "index", "draws", "log_prior", "log_likelihood")."""
        return np.concatenate([shard.whole(f"traces/{name}") for shard in self._shards])

    def tags(self, name: str) -> Tag:
        """Return a tag of all traces: float64 (trace, *shape), or `Ragged` rows where its length varies."""
        if name not in self.tag_layouts:
            raise DatasetError(f"{self.paths[0]}: no tag {name!r}; there are {sorted(self.tag_layouts)}")
        layout = self.tag_layouts[name]
        parts = [shard.tag(name) if name in shard.tag_layouts else layout.absent(len(shard)) for shard in self._shards]
        ragged = [part for part in parts if isinstance(part, Ragged)]
        return concatenate(ragged) if ragged else np.concatenate([p for p in parts if not isinstance(p, Ragged)])

    def blocks(self) -> Iterator[Block]:
        """Yield all traces, one block for each file."""
        for number in range(len(self._shards)):
            yield self._cache.block(number)

    def observation_stddev(self, name: str) -> float | None:
        """Return the noise of an observation where it is one number for all traces, else None."""
        values = [shard.whole(f"observations/{name}/stddev") for shard in self._shards if self._has_stddev(name)]
        distinct = np.unique(np.concatenate(values)) if values else np.empty(0)
        return float(distinct[0]) if len(distinct) == 1 else None

    def _has_stddev(self, name: str) -> bool:
        return any(layout.name == name and layout.storage == EXPECTED for layout in self.layouts)

    def controlled_addresses(self) -> Iterator[tuple[str, str, str, int, int]]:
        """Yield (address, name, kind, categories, count) of every address that occurs as a controlled entry."""
        counts = np.zeros(len(self.addresses), np.int64)
        prior_of = np.zeros(len(self.addresses), np.int64)
        for block in self.blocks():
            controlled = block.entries.columns["flags"] & CONTROLLED != 0
            address = block.entries.columns["address"][controlled]
            counts += np.bincount(address, minlength=len(counts))
            prior_of[address] = block.entries.columns["distribution"][controlled]
        for number in np.flatnonzero(counts).tolist():
            prior = self.distributions[prior_of[number]]
            categories = len(prior.parameters) if isinstance(prior, Categorical) else 0
            yield self.addresses.name(number), self.names[number], prior.kind, categories, int(counts[number])

    def _take(self, indices: np.ndarray) -> Block:
        """Return the traces `indices`, in that order, whichever files they are in."""
        wanted = np.asarray(indices, np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"trace numbers must be from 0 to {len(self) - 1}, found {wanted.min()} to {wanted.max()}")
        shard_of = np.searchsorted(self._first, wanted, side="right") - 1
        order = np.argsort(shard_of, kind="stable")
        parts = []
        for number in np.unique(shard_of).tolist():
            rows = wanted[order][shard_of[order] == number] - self._first[number]
            parts.append(self._cache.block(number).take(rows))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return join(parts) if len(parts) == 1 else join(parts).take(back)

    def batch(self, indices: np.ndarray, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> Batch:
        """Return a minibatch.

        Parameters
        ----------
        indices
            Trace numbers (trace,), in any order, at least one.
        noise_seed
            Such as (seed, epoch). The noise of a trace depends on this and on the seed that the trace was drawn from,
            so on neither its place in the dataset nor the other traces of the batch.
        noise_scale
            Factor of noise drawn at reading: 1 gives y ~ p(y | x), less a clearer image. Stored noise stays as it is.
        """
        block = self._take(np.asarray(indices))
        return self._tokens.batch(block, join_observations(block, noise_seed, noise_scale))

    def trace(self, index: int) -> StoredTrace:
        """Return one trace."""
        block = self._take(np.array([index]))
        columns = block.entries.columns
        expected: dict[str, np.ndarray] = {}
        stddev: dict[str, float | None] = {}
        for layout in block.layouts:
            observation = block.observations[layout.name]
            dense = np.zeros(layout.size)
            if isinstance(observation, Expected):
                dense[observation.image.columns["index"]] = observation.image.columns["mean"]
                stddev[layout.name] = float(observation.stddev[0])
            else:
                dense[:] = observation[0]
                stddev[layout.name] = None
            expected[layout.name] = dense.reshape(layout.shape)
        return StoredTrace(
            addresses=[self.addresses.name(i) for i in columns["address"].tolist()],
            names=[self.names[i] for i in columns["address"].tolist()],
            values=columns["value"].tolist(),
            distributions=[self.distributions[i] for i in columns["distribution"].tolist()],
            flags=columns["flags"].tolist(),
            expected=expected,
            stddev=stddev,
            tags={n: t.columns["content"] if isinstance(t, Ragged) else t[0] for n, t in block.tags.items()},
            seed=int(block.traces["seed"][0]),
            index=int(block.traces["index"][0]),
            log_prior=float(block.traces["log_prior"][0]),
        )


def _number_types(parts: Sequence[np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Return (hexadecimal types in the order of first sight, number of each trace's type)."""
    types = np.concatenate(parts)
    keys = np.ascontiguousarray(types).view("V16").reshape(-1)
    distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return [bytes(distinct[i]).hex() for i in order], rank[inverse].astype(np.int64)
