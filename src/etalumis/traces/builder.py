# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Collect traces of a model into columns."""

import numpy as np

from etalumis import seeds
from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution, Normal, SparseNormal
from etalumis.errors import DatasetError
from etalumis.plan import Keys, PlannedTrace
from etalumis.trace import Observed, Trace
from etalumis.traces.block import EXPECTED, NOISY, Block, Expected, Layout, Observation, Tag, TagLayout
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import ENTRY_DTYPES, TRACE_DTYPES, TYPE_BYTES
from etalumis.traces.keyed import KEPT_FLAGS, KeyNumbers
from etalumis.traces.ragged import Ragged, offsets

SMALLEST_EXPECTED = 64
"""Observations of fewer elements are stored noisy: there is nothing to gain from leaving zeros out."""


def storage_of(distribution: ArrayDistribution) -> str:
    """Return how an observation is stored; it depends on the statement only, never on what one trace gave.

    A normal with one standard deviation is "sparse-expected": y = mean + stddev * noise is an exact draw of p(y | x)
    at every reading. Everything else is "noisy".
    """
    one_stddev = isinstance(distribution, SparseNormal) or (
        distribution.code == Normal.code and distribution.arrays[1].size == 1
    )
    large = int(np.prod(distribution.shape, dtype=np.int64)) >= SMALLEST_EXPECTED
    return EXPECTED if one_stddev and large else NOISY


def _value(observed: Observed, seed: int) -> np.ndarray:
    """Return the value of an observation that is stored noisy; drawn here where the simulator left it to us."""
    if observed.value is not None:
        return observed.value
    return observed.stated.sample(seeds.generator(seed, f"observation/{observed.name}", 0))


class _ObservationColumn:
    """Values of one observe statement, trace by trace."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._index: list[np.ndarray] = []
        self._mean: list[np.ndarray] = []
        self._stddev: list[float] = []
        self._value: list[np.ndarray] = []

    def add(self, observed: Observed, seed: int) -> None:
        distribution = observed.stated
        if self.layout.storage == NOISY:
            self._value.append(np.asarray(_value(observed, seed), np.float32).reshape(-1))
            return
        if isinstance(distribution, SparseNormal):
            index, means, stddev = distribution.positions, distribution.means, distribution.stddev
        else:
            mean = np.broadcast_to(distribution.arrays[0], distribution.shape).reshape(-1)
            index = np.flatnonzero(mean)
            means, stddev = mean[index], float(distribution.arrays[1].reshape(()))
        self._index.append(index.astype(self.layout.index_dtype))
        self._mean.append(means.astype(np.float32))
        self._stddev.append(stddev)

    def column(self) -> Observation:
        if self.layout.storage == NOISY:
            return np.stack(self._value)
        offset = offsets(np.array([len(index) for index in self._index], np.int64))
        image = Ragged(offset, {"index": np.concatenate(self._index), "mean": np.concatenate(self._mean)})
        return Expected(image, np.array(self._stddev))


class BlockBuilder:
    """Takes traces one by one and gives them back as a `Block`.

    Only accepted entries are kept: what was rejected in a scope is no latent. `draws` counts all of them.
    """

    def __init__(self) -> None:
        self._dictionary = Dictionary()
        self._table: AddressTable | None = None
        self._numbers: dict[int, int] = {}
        self._keys: dict[Keys, KeyNumbers] = {}
        self._entries: dict[str, list[np.ndarray]] = {name: [] for name in ENTRY_DTYPES}
        self._lengths: list[int] = []
        self._types: list[bytes] = []
        self._traces: dict[str, list[float]] = {name: [] for name in TRACE_DTYPES}
        self._observations: dict[str, _ObservationColumn] = {}
        self._tags: dict[str, list[np.ndarray | None]] = {}
        self._tag_layouts: dict[str, TagLayout] = {}

    def __len__(self) -> int:
        """Return the number of traces collected."""
        return len(self._lengths)

    def add(self, trace: Trace, seed: int, index: int) -> None:
        """Add one trace, with the seed it was drawn from and its number in the run.

        Raises
        ------
        DatasetError
            Where the trace does not observe or tag what the others did, or a name cannot be stored.
        """
        self._check(trace, index)
        self._add_entries(trace)
        for name, value in (
            ("log_prior", trace.log_prior),
            ("log_likelihood", _log_likelihood(trace)),
            ("seed", seed),
            ("draws", trace.draws),
            ("index", index),
        ):
            self._traces[name].append(value)
        for observed in trace.observes:
            self._observations[observed.name].add(observed, seed)
        self._add_tags(trace)

    def _add_entries(self, trace: Trace) -> None:
        if isinstance(trace, PlannedTrace):
            numbers = self._keys.get(trace.keys)
            if numbers is None:
                numbers = self._keys[trace.keys] = KeyNumbers(trace.keys, self._dictionary)
            columns, kind = numbers.columns(trace)
        else:
            columns, kind = self._recorded(trace), trace.type
        for name, dtype in ENTRY_DTYPES.items():
            self._entries[name].append(columns[name].astype(dtype))
        self._lengths.append(len(columns["value"]))
        self._types.append(kind)

    def _recorded(self, trace: Trace) -> dict[str, np.ndarray]:
        """Return the columns of the accepted entries of a trace that was recorded draw by draw."""
        if trace.addresses is not self._table:
            self._table, self._numbers = trace.addresses, {}
        accepted, address, name, distribution = trace.accepted, trace.address, trace.name, trace.distribution
        numbers, priors = [], []
        for i in accepted:
            identity = address[i]
            number = self._numbers.get(identity)
            if number is None:
                known = trace.addresses.name(identity)
                number = self._numbers[identity] = self._dictionary.address(known, name[i])
            numbers.append(number)
            prior = distribution[i]
            priors.append(self._dictionary.distribution((prior.code, prior.parameters)))
        value, flags = trace.value, trace.flags
        return {
            "address": np.array(numbers, np.uint32),
            "distribution": np.array(priors, np.uint32),
            "value": np.array([value[i] for i in accepted]),
            "flags": np.array([flags[i] & KEPT_FLAGS for i in accepted], np.uint8),
        }

    def _check(self, trace: Trace, index: int) -> None:
        layouts = []
        for observed in trace.observes:
            _require_plain(observed.name, f"trace {index}: observe statement")
            distribution = observed.stated
            layouts.append(Layout(observed.name, distribution.shape, storage_of(distribution)))
        if len({layout.name for layout in layouts}) != len(layouts):
            names = [layout.name for layout in layouts]
            raise DatasetError(f"trace {index}: observe statements {names} share a name; give each its own")
        if not self._lengths:
            self._observations = {layout.name: _ObservationColumn(layout) for layout in layouts}
        elif tuple(layouts) != self.layouts:
            raise DatasetError(
                f"trace {index}: it observes {layouts}, but the traces before it {list(self.layouts)}; "
                "every trace of a dataset must observe the same, in the same order"
            )

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The observe statements, in the order of the first trace."""
        return tuple(column.layout for column in self._observations.values())

    def _add_tags(self, trace: Trace) -> None:
        tags = trace.tags
        for name, given in tags.items():
            value = np.asarray(given, np.float64)
            layout = TagLayout.of_value(value)
            expected = self._tag_layouts.get(name)
            if expected is None:
                _require_plain(name, "tag")
                if 0 in layout.shape:
                    raise DatasetError(f"tag {name!r} has shape {value.shape}; only the first of several axes may be 0")
                self._tag_layouts[name] = layout
                self._tags[name] = [None] * (len(self) - 1)
            elif layout != expected:
                raise DatasetError(
                    f"tag {name!r} has shape {value.shape}, but an earlier trace gave {expected}; "
                    "a tag whose length varies must have at least two axes: (rows, columns)"
                )
            self._tags[name].append(value)
        for name, values in self._tags.items():
            if name not in tags:
                values.append(None)

    def block(self) -> Block:
        """Return all traces collected so far."""
        entries = {
            name: np.concatenate(self._entries[name]) if self._entries[name] else np.empty(0, dtype)
            for name, dtype in ENTRY_DTYPES.items()
        }
        types = np.frombuffer(b"".join(self._types), np.uint8).reshape(-1, TYPE_BYTES)
        traces = {name: np.array(self._traces[name], dtype) for name, dtype in TRACE_DTYPES.items()}
        return Block(
            self._dictionary,
            Ragged(offsets(np.array(self._lengths, np.int64)), entries),
            {"type": types, **traces},
            self.layouts,
            {name: column.column() for name, column in self._observations.items()},
            {name: _tag_column(self._tag_layouts[name], values) for name, values in self._tags.items()},
        )


def _log_likelihood(trace: Trace) -> float:
    """NaN where an observe statement was not scored: such a run has no likelihood yet."""
    if any(observed.value is None for observed in trace.observes):
        return float("nan")
    return trace.log_likelihood


def _tag_column(layout: TagLayout, values: list[np.ndarray | None]) -> Tag:
    if not layout.ragged:
        empty = np.full(layout.shape, np.nan)
        return np.stack([empty if value is None else value for value in values])
    none = np.empty((0, *layout.shape))
    rows = [none if value is None else value for value in values]
    return Ragged(offsets(np.array([len(row) for row in rows], np.int64)), {"content": np.concatenate(rows)})


def _require_plain(name: str, what: str) -> None:
    if not name or "/" in name or name == ".":
        raise DatasetError(f"{what} named {name!r}: trace files need a name that is not empty and has no '/'")
