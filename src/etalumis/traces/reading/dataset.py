# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A dataset of one or many trace files, read as minibatches."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.address import AddressTable
from etalumis.distributions import Categorical, Distribution
from etalumis.errors import DatasetError
from etalumis.trace import CONTROLLED
from etalumis.traces.block import (
    EXPECTED,
    Block,
    Expected,
    Layout,
    ObservationColumn,
    OutsideImage,
    TagColumn,
    TagLayout,
    complete_tags,
)
from etalumis.traces.format import Provenance, observation_path, tag_path
from etalumis.traces.ragged import Ragged, concatenate
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.cache import ChunkCache
from etalumis.traces.reading.densify import dense_observations
from etalumis.traces.reading.gather import RowGatherer
from etalumis.traces.reading.selection import RowSelection, stored_observation
from etalumis.traces.reading.stored import StoredTrace as StoredTrace
from etalumis.traces.reading.stored import stored_trace
from etalumis.traces.reading.tokens import LayerRows, TokenTable
from etalumis.traces.reading.translation import Translation, UnknownNumber
from etalumis.traces.rules import require_valid
from etalumis.traces.sources import Sources

CACHE_MB = 128
BLOCK_BYTES = 1 << 26
MAX_ENTRIES_PER_READ = 1 << 20
_SMALL_SHARE = 0.75
"""Share of the cache that is reserved for columns of few bytes per trace."""


class TraceDataset:
    """Traces of one simulator and configuration, numbered consecutively through all files.

    Memory holds the index (the positions of the chunks; `index_nbytes`) and a cache of decoded chunks, independent of
    the number of traces. A dataset can be used by several threads and after a fork, and it can be pickled: the copy
    opens the files again.

    Parameters
    ----------
    paths
        One or more trace files, index files, or folders with an `index.json`.
    layers
        Layer table with the rows of addresses; without one, `Minibatch.layer` is -1.
    cache_mb
        Memory for decoded chunks; the least recently used ones are evicted.
    tags
        Names of the tags of fixed shape that minibatches contain.
    observations
        Names of the observe statements that minibatches contain; all if None.

    Attributes
    ----------
    layouts, tag_layouts
        The observe statements of minibatches, in order, and the tags.
    addresses, names, distributions
        The dictionary to which the ids in entries refer.

    Raises
    ------
    DatasetError
        If a file is damaged or foreign, lacks a tag or an observe statement, or the files do not belong together. All
        methods raise it, with file, column and trace, if the data was altered, or an entry or an observation is not
        finite.
    """

    def __init__(
        self,
        paths: Path | Sequence[Path],
        layers: LayerRows | None = None,
        cache_mb: int = CACHE_MB,
        tags: Sequence[str] = (),
        observations: Sequence[str] | None = None,
    ) -> None:
        self._made_of = (paths, layers, cache_mb, tags, observations)
        sources = Sources([paths] if isinstance(paths, Path) else paths)
        self._shards = sources.shards
        small, large = (ChunkCache(int(share * cache_mb * 1_000_000)) for share in (_SMALL_SHARE, 1 - _SMALL_SHARE))
        for shard in self._shards:
            shard.use_caches(small, large)
        self.paths = [shard.path for shard in self._shards]
        self.provenance: Provenance = sources.provenance
        self.layouts: tuple[Layout, ...] = sources.layouts
        if observations is not None:
            self.layouts = self._named(observations)
        self.tag_layouts: dict[str, TagLayout] = sources.tag_layouts
        self._tag_names = tuple(tags)
        self._require_tags()
        self._first = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._gatherers: dict[str, RowGatherer] = {}
        self._numbers = {
            "address": Translation([shard.address_numbers for shard in self._shards]),
            "distribution": Translation([shard.distribution_numbers for shard in self._shards]),
        }
        self._dictionary = sources.dictionary
        self._tokens = TokenTable(self._dictionary, layers)
        self.addresses: AddressTable = sources.dictionary.addresses
        self.names: list[str] = sources.dictionary.names
        self.distributions: list[Distribution] = self._tokens.priors

    def use_layers(self, layers: LayerRows) -> None:
        """Use another layer table for the minibatches from now on."""
        paths, _, cache_mb, tags, observations = self._made_of
        self._made_of = (paths, layers, cache_mb, tags, observations)
        self._tokens = TokenTable(self._dictionary, layers)

    def _named(self, observations: Sequence[str]) -> tuple[Layout, ...]:
        known = [layout.name for layout in self.layouts]
        for name in observations:
            if name not in known:
                raise DatasetError(
                    f"{self.paths[0]}: expected an observe statement {name!r}, found {known}; give its own traces"
                )
        return tuple(layout for layout in self.layouts if layout.name in observations)

    def _require_tags(self) -> None:
        """Raise DatasetError if a file lacks a tag that minibatches contain, or its length varies."""
        for name in self._tag_names:
            for shard in self._shards:
                layout = shard.tag_layouts.get(name)
                if layout is None or layout.ragged:
                    found = f"its tags are {sorted(shard.tag_layouts)}" if layout is None else f"it is {layout}"
                    raise DatasetError(
                        f"{shard.path}: expected a tag {name!r} of fixed shape, {found}; generate the traces with a "
                        "simulator that has it, and with its name in traces.tags"
                    )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments of the constructor."""
        return type(self), self._made_of

    def __len__(self) -> int:
        """Return the number of traces."""
        return int(self._first[-1])

    @property
    def index_nbytes(self) -> int:
        """Bytes of memory that grow with the dataset: the chunk indices and the tables of ids."""
        return sum(shard.index_nbytes for shard in self._shards) + sum(t.nbytes for t in self._numbers.values())

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of `Minibatch.observation` without its trace axis."""
        return self.layouts[0].shape if len(self.layouts) == 1 else (sum(layout.size for layout in self.layouts),)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 (trace,): number of accepted entries of each trace; read on first use."""
        return np.concatenate([np.diff(shard.whole("traces/offset")) for shard in self._shards])

    @property
    def types(self) -> np.ndarray:
        """int64 (trace,): index in `type_table` of the type of each trace; read on first use."""
        return self._numbered_types[1]

    @property
    def type_table(self) -> list[str]:
        """Hexadecimal trace types, in the order of first occurrence."""
        return self._numbered_types[0]

    @cached_property
    def _numbered_types(self) -> tuple[list[str], np.ndarray]:
        return _number_types([shard.whole("traces/type") for shard in self._shards])

    def column(self, name: str) -> np.ndarray:
        """Return a column of /traces for all traces ("seed", "index", "draws", "log_prior", "log_likelihood")."""
        return np.concatenate(list(self.column_by_file(name)))

    def column_by_file(self, name: str) -> Iterator[np.ndarray]:
        """Yield a column of /traces file by file."""
        for shard in self._shards:
            yield shard.whole(f"traces/{name}")

    def tags(self, name: str) -> TagColumn:
        """Return a tag of all traces: float64 ``(trace, *shape)``, or `Ragged` rows if its length varies."""
        if name not in self.tag_layouts:
            raise DatasetError(f"{self.paths[0]}: no tag {name!r}; there are {sorted(self.tag_layouts)}")
        layout = self.tag_layouts[name]
        parts = [shard.tag(name) if name in shard.tag_layouts else layout.absent(len(shard)) for shard in self._shards]
        ragged = [part for part in parts if isinstance(part, Ragged)]
        return concatenate(ragged) if ragged else np.concatenate([p for p in parts if not isinstance(p, Ragged)])

    def blocks(self, nbytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """Yield all traces in order, in blocks of about `nbytes` bytes uncompressed."""
        for shard in self._shards:
            size = max(1, nbytes * len(shard) // max(1, shard.nbytes))
            for start in range(0, len(shard), size):
                yield complete_tags(shard.read(start, min(start + size, len(shard))), self.tag_layouts)

    def observation_stddev(self, name: str) -> float | None:
        """Return the standard deviation of an observation if it is the same for all traces, else None."""
        if not any(layout.name == name and layout.storage == EXPECTED for layout in self.layouts):
            return None
        distinct = {
            x for shard in self._shards for x in np.unique(shard.whole(observation_path(name, "stddev"))).tolist()
        }
        return float(distinct.pop()) if len(distinct) == 1 else None

    def controlled_addresses(self) -> Iterator[tuple[str, str, str, int, int]]:
        """Yield (address, name, kind, categories, count) of every address of controlled entries."""
        counts = np.zeros(len(self.addresses), np.int64)
        prior_of = np.zeros(len(self.addresses), np.int64)
        for number, shard in enumerate(self._shards):
            for start in range(0, shard.entries, MAX_ENTRIES_PER_READ):
                stop = min(start + MAX_ENTRIES_PER_READ, shard.entries)
                names = ("flags", "address", "distribution")
                flags, address, prior = (shard.slice(f"entries/{name}", start, stop) for name in names)
                controlled = flags & CONTROLLED != 0
                file = np.full(int(controlled.sum()), number)
                address = self._translated("address", file, address[controlled])
                counts += np.bincount(address, minlength=len(counts))
                prior_of[address] = self._translated("distribution", file, prior[controlled])
        for number in np.flatnonzero(counts).tolist():
            prior = self.distributions[prior_of[number]]
            categories = len(prior.parameters) if isinstance(prior, Categorical) else 0
            yield self.addresses.name(number), self.names[number], prior.kind, categories, int(counts[number])

    def batch(self, indices: np.ndarray, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> Minibatch:
        """Return a minibatch. Only the columns that it needs are read, and each chunk only once.

        Parameters
        ----------
        indices
            Trace numbers (trace,), in any order, at least one.
        noise_seed
            Seeds such as (seed, epoch). The noise of a trace depends on them and on the seed of the trace, but not on
            its position in the dataset or on the other traces of the minibatch.
        noise_scale
            Scale of the noise: 1 gives y ~ p(y | x), smaller values a clearer image. Stored noise is not changed.
        """
        file, row = self._places(np.asarray(indices))
        part = RowSelection(self._gatherer, file, row)
        entries = part.lists("traces/offset", "entries", ("address", "value", "distribution", "flags"))
        of_entry = np.repeat(file, entries.lengths)
        for name in self._numbers:
            entries.columns[name] = self._translated(name, of_entry, entries.columns[name])
        observations = [stored_observation(part, layout) for layout in self.layouts]
        if not all(map(_is_finite, [entries.columns["value"], *observations])):
            self._refuse(file, row)
        try:
            dense = dense_observations(self.layouts, observations, part.rows("traces/seed"), noise_seed, noise_scale)
        except OutsideImage as error:
            raise error.of(self.paths[file[error.trace]], int(row[error.trace])) from None
        return self._tokens.tokens(entries, dense, self._tags_of(part, file))

    def _tags_of(self, part: RowSelection, file: np.ndarray) -> np.ndarray:
        """Return the selected tags of some traces, flattened and joined (trace, n)."""
        columns = [part.rows(tag_path(name)).reshape(len(file), -1) for name in self._tag_names]
        return np.concatenate(columns, axis=1) if columns else np.empty((len(file), 0))

    def _places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (file number, row in the file) of traces."""
        requested = np.asarray(indices, np.int64)
        if len(requested) and (requested.min() < 0 or requested.max() >= len(self)):
            raise IndexError(
                f"trace numbers must be from 0 to {len(self) - 1}, found {requested.min()} to {requested.max()}"
            )
        file = np.searchsorted(self._first, requested, side="right") - 1
        return file, requested - self._first[file]

    def _gatherer(self, name: str) -> RowGatherer:
        gatherer = self._gatherers.get(name)
        if gatherer is None:
            parts = [shard.column(name) for shard in self._shards]
            gatherer = self._gatherers[name] = RowGatherer(
                parts, lambda file, column, row: self._shards[file].trace_of(column, row)
            )
        return gatherer

    def _translated(self, name: str, file: np.ndarray, ids: np.ndarray) -> np.ndarray:
        try:
            return self._numbers[name].numbers(file, ids)
        except UnknownNumber as error:
            raise DatasetError(
                f"{self.paths[error.file]}: column 'entries/{name}' {error}: the file was altered; delete it and "
                "generate it again"
            ) from None

    def _refuse(self, file: np.ndarray, row: np.ndarray) -> None:
        """Raise the error for the first of these traces with a number that is not valid."""
        for number, place in zip(file.tolist(), row.tolist(), strict=True):
            shard = self._shards[number]
            require_valid(shard.take(np.array([place])), shard.path, place)

    def trace(self, index: int) -> StoredTrace:
        """Return one trace."""
        file, row = self._places(np.array([index]))
        block = complete_tags(self._shards[int(file[0])].take(row), self.tag_layouts)
        try:
            return stored_trace(block, self._tokens.priors)
        except OutsideImage as error:
            raise error.of(self.paths[int(file[0])], int(row[0])) from None


def _is_finite(column: ObservationColumn) -> bool:
    if isinstance(column, Expected):
        return _is_finite(column.stddev) and _is_finite(column.image.columns["mean"])
    return bool(np.isfinite(column).all())


def _number_types(parts: Sequence[np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Return (hexadecimal types in the order of first occurrence, index of the type of each trace)."""
    types = np.concatenate(parts)
    keys = np.ascontiguousarray(types).view("V16").reshape(-1)
    distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return [bytes(distinct[i]).hex() for i in order], rank[inverse].astype(np.int64)
