# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Collect traces of a model into columns."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

import numpy as np

from etalumis.address import AddressTable
from etalumis.errors import DatasetError
from etalumis.names import require_storable
from etalumis.ppx.delegated import DelegatedBatch, DelegatedTrace
from etalumis.trace import REJECTED, Observed, Trace
from etalumis.traces.block import Block, Layout
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import ALL, CONTROLLED_ONLY, ENTRY_DTYPES, REJECTED_DTYPES, TRACE_DTYPES, TYPE_BYTES
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.recording.ids import KEPT_FLAGS, EntryColumns, IdTranslator, View
from etalumis.traces.recording.images import ImageBuilder
from etalumis.traces.recording.recording import Recording
from etalumis.traces.recording.tags import TagColumns

MAX_VOCABULARIES = 8


class BlockBuilder:
    """Collects traces into a `Block`.

    Parameters
    ----------
    dictionary
        Assigns the ids of addresses and distributions in all blocks.
    recording
        What is kept of each trace. The column `draws` always counts all draws.

    Attributes
    ----------
    dropped_tags
        Names of the tags that traces had, in this and previous blocks, but that are not kept.
    """

    def __init__(self, dictionary: Dictionary | None = None, recording: Recording | None = None) -> None:
        self._dictionary = dictionary if dictionary is not None else Dictionary()
        self._recording = recording if recording is not None else Recording()
        self._table: AddressTable | None = None
        self._numbers: dict[int, int] = {}
        self._keys: dict[int, IdTranslator] = {}
        self.dropped_tags: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self._entries: dict[str, list[np.ndarray]] = {name: [] for name in ENTRY_DTYPES}
        self._rejected: dict[str, list[np.ndarray]] = {name: [] for name in REJECTED_DTYPES}
        self._lengths: list[int] = []
        self._rejected_lengths: list[int] = []
        self._types: list[bytes] = []
        self._traces: dict[str, list[float]] = {name: [] for name in TRACE_DTYPES}
        self._observations: list[ImageBuilder] = []
        self._tags = TagColumns(self._recording.tags)

    def __len__(self) -> int:
        """Return the number of traces collected since the last block."""
        return len(self._lengths)

    def add(self, trace: Trace, seed: int, index: int) -> None:
        """Add one trace, with its seed and its number in the run.

        Raises
        ------
        DatasetError
            If the trace has other observe statements or tag shapes than the previous ones, or a name cannot be stored.
        """
        self.add_all([trace], [seed], [index])

    def add_all(self, traces: Sequence[Trace], seeds: Sequence[int], indices: Sequence[int]) -> None:
        """Add traces; those of one message are processed together.

        Raises
        ------
        DatasetError
            As `add`.
        """
        for name, column in (("seed", seeds), ("index", indices)):
            self._traces[name] += column
        start = 0
        whole = set(map(type, traces)) == {
            DelegatedTrace
        }  # looking up an attribute takes a tenth of the time of a call
        for batch, group in groupby(traces, key=attrgetter("batch") if whole else _batch):
            found = list(group)
            numbers, origins = indices[start : start + len(found)], seeds[start : start + len(found)]
            start += len(found)
            if batch is None:
                for trace, index, seed in zip(found, numbers, origins, strict=True):
                    self._add_recorded(trace, index, seed)
            else:
                self._add_batch(
                    batch, [trace for trace in found if isinstance(trace, DelegatedTrace)], numbers, origins
                )

    def _add_recorded(self, trace: Trace, index: int, seed: int) -> None:
        """Add a trace that was recorded draw by draw."""
        observes = trace.observes
        self._require_layouts(tuple(self._layout(observed) for observed in observes), index)
        accepted = trace.accepted
        kept = trace.controlled if self._recording.entries == CONTROLLED_ONLY else accepted
        columns = self._recorded(trace, kept)
        columns["flags"] &= KEPT_FLAGS
        for name in ENTRY_DTYPES:
            self._entries[name].append(columns[name])
        self._lengths.append(len(kept))
        if self._recording.entries == ALL:
            self._add_rejected(trace, accepted)
        self._types.append(trace.type)
        self._traces["log_prior"].append(trace.log_prior)
        self._traces["log_likelihood"].append(_log_likelihood(observes, trace.log_likelihood))
        self._traces["draws"].append(trace.draws)
        for column, observed in zip(self._observations, observes, strict=True):
            column.add(observed, seed)
        self._tags.add(trace.tags)

    def _recorded(self, trace: Trace, rows: Sequence[int]) -> dict[str, np.ndarray]:
        if trace.addresses is not self._table:
            self._table, self._numbers = trace.addresses, {}
        address, name, distribution = trace.address, trace.name, trace.distribution
        numbers, priors = [], []
        for i in rows:
            identity = address[i]
            number = self._numbers.get(identity)
            if number is None:
                known = trace.addresses.name(identity)
                if name[i]:
                    require_storable(name[i], "a draw")
                number = self._numbers[identity] = self._dictionary.address(known, name[i])
            numbers.append(number)
            prior = distribution[i]
            priors.append(self._dictionary.distribution((prior.code, prior.parameters)))
        value, flags = trace.value, trace.flags
        return {
            "address": np.array(numbers, np.uint32),
            "distribution": np.array(priors, np.uint32),
            "value": np.array([value[i] for i in rows], np.float64),
            "flags": np.array([flags[i] for i in rows], np.uint8),
        }

    def _add_rejected(self, trace: Trace, accepted: Sequence[int]) -> None:
        flags, repetition = trace.flags, trace.repetition
        rows = [i for i, flag in enumerate(flags) if flag & REJECTED]
        columns = self._recorded(trace, rows)
        columns["position"] = np.searchsorted(np.array(accepted, np.int64), rows).astype(np.uint32)
        columns["repetition"] = np.array([repetition[i] for i in rows], np.uint32)
        for name in REJECTED_DTYPES:
            self._rejected[name].append(columns[name])
        self._rejected_lengths.append(len(rows))

    def _add_batch(
        self, batch: DelegatedBatch, traces: Sequence[DelegatedTrace], indices: Sequence[int], seeds: Sequence[int]
    ) -> None:
        """Add consecutive traces of one message, whose columns are used unchanged."""
        numbers = self._keys.get(id(batch.vocabulary))
        if numbers is None or numbers.keys is not batch.vocabulary:
            if len(self._keys) >= MAX_VOCABULARIES:  # a restarted simulator starts a new session
                self._keys.clear()
            numbers = self._keys[id(batch.vocabulary)] = IdTranslator(batch.vocabulary, self._dictionary)
        view = View.of(batch, traces)
        self._add_numbered(numbers.columns(batch, traces, view, self._recording.entries))
        self._traces["log_prior"] += view.traces["log_prior"].tolist()
        self._traces["draws"] += view.traces["draws"].tolist()
        self._observe(view, traces, indices, seeds)
        self._tags.add_all(view, traces)

    def _add_numbered(self, found: EntryColumns) -> None:
        for name in ENTRY_DTYPES:
            self._entries[name].append(found.entries[name])
        self._lengths += found.lengths
        self._types += found.types
        if found.rejected is not None:
            for name in REJECTED_DTYPES:
                self._rejected[name].append(found.rejected[name])
            self._rejected_lengths += found.rejected_lengths

    def _observe(
        self, view: View, traces: Sequence[DelegatedTrace], indices: Sequence[int], seeds: Sequence[int]
    ) -> None:
        if not self._observations:
            self._require_layouts(tuple(self._layout(observed) for observed in traces[0].observes), indices[0])
        width = len(self._observations)
        same_count = width > 0 and bool((view.traces["observes"] == width).all())
        done = [
            same_count and column.add_records(view, view.observes[at::width])
            for at, column in enumerate(self._observations)
        ]
        if all(done) and same_count:
            self._traces["log_likelihood"] += [float("nan")] * len(traces)  # nothing was scored
            return
        for trace, index, seed in zip(traces, indices, seeds, strict=True):
            observes = trace.observes
            self._require_layouts(tuple(self._layout(observed) for observed in observes), index)
            for column, observed, taken in zip(self._observations, observes, done, strict=True):
                if not taken:
                    column.add(observed, seed)
            self._traces["log_likelihood"].append(_log_likelihood(observes, trace.log_likelihood))

    def _layout(self, observed: Observed) -> Layout:
        stated = observed.distribution
        shape = observed.value.shape if stated is None and observed.value is not None else observed.likelihood.shape
        return Layout(observed.name, tuple(shape), self._recording.storage(stated))

    def _require_layouts(self, layouts: tuple[Layout, ...], index: int) -> None:
        if layouts == self.layouts:
            return
        for layout in layouts:
            require_storable(layout.name, f"trace {index}: an observe statement")
        if len({layout.name for layout in layouts}) != len(layouts):
            names = [layout.name for layout in layouts]
            raise DatasetError(
                f"trace {index}: several observe statements have the same name: {names}; give each its own"
            )
        if self._traces["log_likelihood"] or self._observations:
            raise DatasetError(
                f"trace {index}: it observes {list(layouts)}, but the previous traces observe {list(self.layouts)}; "
                "all traces of a dataset must have the same observe statements in the same order"
            )
        self._observations = [ImageBuilder(layout) for layout in layouts]

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The observe statements, in the order of the first trace."""
        return tuple(column.layout for column in self._observations)

    def block(self) -> Block:
        """Return the traces collected since the last block; the dictionary is kept."""
        types = np.frombuffer(b"".join(self._types), np.uint8).reshape(-1, TYPE_BYTES)
        traces = {name: np.array(self._traces[name], dtype) for name, dtype in TRACE_DTYPES.items()}
        block = Block(
            self._dictionary,
            _joined(self._entries, self._lengths, ENTRY_DTYPES),
            {"type": types, **traces},
            self.layouts,
            {column.layout.name: column.column() for column in self._observations},
            self._tags.columns(),
            _joined(self._rejected, self._rejected_lengths, REJECTED_DTYPES)
            if self._recording.entries == ALL
            else None,
        )
        self.dropped_tags |= self._tags.dropped
        self._begin()
        return block


def _batch(trace: Trace) -> DelegatedBatch | None:
    return trace.batch if isinstance(trace, DelegatedTrace) else None


def _joined(parts: dict[str, list[np.ndarray]], lengths: list[int], dtypes: dict[str, str]) -> Ragged:
    columns = {
        name: np.concatenate(parts[name], dtype=dtype, casting="unsafe") if parts[name] else np.empty(0, dtype)
        for name, dtype in dtypes.items()
    }
    return Ragged(offsets(np.array(lengths, np.int64)), columns)


def _log_likelihood(observes: Sequence[Observed], value: float) -> float:
    """Return the log likelihood, or NaN if an observe statement was not scored."""
    return float("nan") if any(observed.value is None for observed in observes) else value
