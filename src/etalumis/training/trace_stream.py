# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Minibatches of traces that are simulated for them and used once (SC'19, Algorithm 2 with OnlineData).

Trace i of the stream has a seed of its own, so the stream depends neither on the number of ranks and simulators nor on
timing, and a training resumes at any place of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from etalumis.distributions import Categorical, from_code
from etalumis.errors import DatasetError, NetworkError
from etalumis.execution import Model
from etalumis.layers import LayerRow, LayerTable, TagInput
from etalumis.trace import CONTROLLED, Trace
from etalumis.traces.block import Block, Layout
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import CONTROLLED_ONLY
from etalumis.traces.ragged import Ragged
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.densify import dense_observations
from etalumis.traces.reading.tokens import TokenTable
from etalumis.traces.recording.builder import BlockBuilder
from etalumis.traces.recording.prior_runs import PriorRuns
from etalumis.traces.recording.recording import Recording
from etalumis.traces.rules import require_valid
from etalumis.training.new_addresses import NewAddress
from etalumis.typing import Array

SPLIT = "online"
"""Name of the stream in the seeds of its traces, as that of a split."""
_END = 2**62


@dataclass(frozen=True)
class Simulation:
    """The model of an online training.

    Attributes
    ----------
    model
        The model: on each rank its own simulators, or the same function.
    build_id, config_digest
        Those of the simulator, which must be those of the layer table.
    """

    model: Model
    build_id: str = ""
    config_digest: str = ""


@dataclass(frozen=True, slots=True)
class StreamedMinibatch(Minibatch):
    """A minibatch that can be made again with other layers.

    Attributes
    ----------
    numbers
        int64 (trace,). Places of the traces in the stream.
    entries, dictionary
        The controlled entries, one list per trace, and what their ids refer to.
    """

    numbers: Array
    entries: Ragged
    dictionary: Dictionary

    @classmethod
    def of(
        cls, numbers: Array, entries: Ragged, dictionary: Dictionary, dense: Array, tags: Array, layers: LayerTable
    ) -> Self:
        """Return the minibatch of some traces with the rows of `layers`."""
        tokens = TokenTable(dictionary, layers).tokens(entries, dense, tags)
        columns = {field.name: getattr(tokens, field.name) for field in fields(tokens)}
        return cls(**columns, numbers=numbers, entries=entries, dictionary=dictionary)

    def using(self, layers: LayerTable) -> "StreamedMinibatch":
        """Return the same traces with the rows of another table."""
        return self.of(self.numbers, self.entries, self.dictionary, self.observation, self.tags, layers)

    def without_unknown(self, layers: LayerTable) -> "StreamedMinibatch":
        """Return the traces whose addresses all have a layer."""
        trace = np.repeat(np.arange(len(self)), np.diff(self.offset))
        kept = np.setdiff1d(np.arange(len(self)), trace[self.layer < 0])
        if len(kept) == len(self):
            return self
        observation, tags = self.observation[kept], self.tags[kept]
        return self.of(self.numbers[kept], self.entries.take(kept), self.dictionary, observation, tags, layers)

    def new_addresses(self, layers: LayerTable) -> list[NewAddress]:
        """Return the addresses that have no row in `layers`, each with its first trace."""
        if (self.layer >= 0).all():
            return []
        columns = self.entries.columns
        controlled = columns["flags"] & CONTROLLED != 0
        address, prior = columns["address"][controlled], columns["distribution"][controlled]
        number = self.numbers[self.entries.list_numbers()[controlled]]
        found = []
        for identity in np.unique(address).tolist():
            name = self.dictionary.addresses.name(identity)
            if layers.row(name) >= 0:
                continue
            places = np.flatnonzero(address == identity)
            first = places[np.argmin(number[places])]
            known = from_code(*self.dictionary.distributions[int(prior[first])])
            probs = known.probs if isinstance(known, Categorical) else ()
            row = LayerRow(name, self.dictionary.names[identity], known.kind, len(probs), len(places))
            found.append(NewAddress(row, int(number[first]), tuple(probs)))
        return found


class TraceStream:
    """The stream of traces of one rank. Traces are simulated on demand, in order.

    Parameters
    ----------
    model
        The model.
    layers
        The layer table, and the observe statements that minibatches contain.
    run_seed
        Seed of the run.
    ranks
        Number of ranks: this one takes every `ranks`-th trace.
    retries
        Retries of a failed run.
    observation
        "expected" or "noisy": whether the simulator makes the noise of observations, as `traces.observation`.
    tags
        Names of the tags that minibatches contain.
    frozen
        Whether traces with addresses that have no layer are left out of a minibatch.
    """

    def __init__(
        self,
        model: Model,
        layers: LayerTable,
        run_seed: int,
        ranks: int,
        retries: int = 3,
        observation: str = "expected",
        tags: tuple[str, ...] = (),
        frozen: bool = False,
    ) -> None:
        self.frozen = frozen
        self._model, self._layers, self._ranks = model, layers, ranks
        known = {tag.name: tag for tag in layers.tags}
        self._tags = tuple(known[name] for name in tags if name in known)  # the network refuses those that are unknown
        self._recording = Recording(CONTROLLED_ONLY, observation, tags)
        self._runs = PriorRuns(model, run_seed, SPLIT, retries, self._recording)
        self._next = -1
        self._traces: Iterator[tuple[int, int, Trace]] = iter(())

    def use_layers(self, layers: LayerTable) -> None:
        """Use another layer table for the minibatches that are read from now on."""
        self._layers = layers

    def batch(self, indices: Array, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> StreamedMinibatch:
        """Simulate traces, and return them as `TraceDataset.batch` returns those of a file.

        Parameters
        ----------
        indices
            Places in the stream (trace,), each by the number of ranks after the one before.
        noise_seed, noise_scale
            As for a dataset.

        Raises
        ------
        SimulatorError, ProtocolError
            If a run fails repeatedly.
        DatasetError
            If a number is not finite, or the observe statements or tags vary.
        NetworkError
            If the observe statements or tags are not those of the layer table.
        """
        layers = self._layers
        block = self._block(indices)
        layouts = self._layouts(block, layers)
        stored = [block.observations[layout.name] for layout in layouts]
        dense = dense_observations(layouts, stored, block.traces["seed"], noise_seed, noise_scale)
        tags = self._flat_tags(block.tags, len(block))
        batch = StreamedMinibatch.of(indices, block.entries, block.dictionary, dense, tags, layers)
        return batch.without_unknown(layers) if self.frozen else batch

    def _block(self, indices: Array) -> Block:
        if int(indices[0]) != self._next:
            self._traces = self._runs.traces(range(int(indices[0]), _END, self._ranks))
        self._next = int(indices[-1]) + self._ranks
        numbers, seeds, traces = zip(*(next(self._traces) for _ in indices), strict=True)
        assert list(numbers) == indices.tolist()
        # a dictionary of its own: one of the whole stream would grow with every prior that has been seen
        builder = BlockBuilder(recording=self._recording)
        builder.add_all(traces, list(seeds), list(numbers))
        block = builder.block()
        where = Path(f"{self._model.name} (online)")
        try:
            require_valid(block, where, 0)
        except DatasetError:
            for place, number in enumerate(numbers):  # the message names the place in the stream
                require_valid(block.take(np.array([place])), where, number)
            raise
        return block

    def _layouts(self, block: Block, layers: LayerTable) -> list[Layout]:
        expected = {layout.name: layout.shape for layout in layers.observations}
        found = [layout for layout in block.layouts if layout.name in expected]
        shapes = {layout.name: layout.shape for layout in found}
        if shapes != expected:
            raise NetworkError(
                f"{self._model.name}: the layer table was built for observations {expected}, the simulator observes "
                f"{ {layout.name: layout.shape for layout in block.layouts} }; build the table from its own traces"
            )
        return found

    def _flat_tags(self, tags: Mapping[str, object], count: int) -> Array:
        """Return the tags that minibatches contain, flattened and joined (trace, n); NaN where a trace has none."""
        columns = [self._flat_tag(tag, tags.get(tag.name), count) for tag in self._tags]
        return np.concatenate(columns, axis=1) if columns else np.empty((count, 0))

    def _flat_tag(self, tag: TagInput, column: object, count: int) -> Array:
        if column is None:
            return np.full((count, tag.size), np.nan)
        if not isinstance(column, np.ndarray) or column.shape[1:] != tag.shape:
            raise NetworkError(
                f"{self._model.name}: the layer table was built for a tag {tag.name!r} of shape {tag.shape}, the "
                "simulator emits another one; build the table from its own traces"
            )
        return column.reshape(count, -1)
