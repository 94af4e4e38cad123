# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Buffer between the model and the journal and trace file, in frames that bound memory and the loss if killed."""

import time
from types import TracebackType
from typing import Self

import numpy as np

from etalumis.distributions import SparseNormal
from etalumis.ppx.delegated import DelegatedTrace
from etalumis.trace import Trace
from etalumis.traces.recording.builder import BlockBuilder
from etalumis.traces.recording.journal import Journal
from etalumis.traces.writer import ShardWriter

FRAME_TRACES = 2048
FRAME_BYTES = 1 << 25
"""Maximum number of buffered traces, and about the maximum of their bytes, before the journal is written."""
FRAME_S = 1.0
"""Maximum time that a trace is buffered, in seconds: what a killed call loses."""
_MMAP_THRESHOLD_BYTES = 31 << 20
_ENTRY_BYTES, _TRACE_BYTES = 200, 600
"""Approximate memory of the Python objects per entry, array or tag, and per trace."""


class Storing:
    """Writes traces to the journal and the file. At the end, and if a run fails, buffered traces are written.

    Parameters
    ----------
    builder, journal, writer
        Collects traces into columns; destinations of the columns.
    max_traces
        Maximum number of buffered traces.

    Attributes
    ----------
    seconds
        Time spent on storage.
    """

    def __init__(self, builder: BlockBuilder, journal: Journal, writer: ShardWriter, max_traces: int) -> None:
        # freeing a large block raises the threshold of glibc for returning memory (mallopt(3), M_MMAP_THRESHOLD);
        # without it, the pages of the columns of each frame are returned and zeroed again, which takes 1 µs per trace
        np.empty(_MMAP_THRESHOLD_BYTES, np.uint8)
        self._builder, self._journal, self._writer, self._max_traces = builder, journal, writer, max_traces
        self._buffer: list[tuple[int, int, Trace]] = []
        self._bytes = 0
        self._committed = time.monotonic()
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._commit()

    def add(self, one: tuple[int, int, Trace]) -> None:
        """Add (number, seed, trace)."""
        self._buffer.append(one)
        self._bytes += held_bytes(one[2])
        late = time.monotonic() - self._committed > FRAME_S
        if late or len(self._buffer) >= self._max_traces or self._bytes > FRAME_BYTES:
            self._commit()

    def _commit(self) -> None:
        taken, self._buffer, self._bytes = self._buffer, [], 0  # a failed write is not retried
        if taken:
            began = time.perf_counter()
            indices, seeds, traces = zip(*taken, strict=True)
            self._builder.add_all(traces, seeds, indices)
            block = self._builder.block()
            self._journal.append(block)
            self._writer.append(block)
            self.seconds += time.perf_counter() - began
        self._committed = time.monotonic()


def held_bytes(trace: Trace) -> int:
    """Return the approximate memory of a trace; the first trace of a message counts for the whole message."""
    if isinstance(trace, DelegatedTrace):
        if trace.number:
            return 0
        message = trace.batch.message
        objects = len(message.frame.arrays) + len(message.frame.tags)
        return len(message.message) + _ENTRY_BYTES * objects + _TRACE_BYTES * len(message.traces)
    arrays: list[np.ndarray] = [np.asarray(tag) for tag in trace.tags.values()]
    for observed in trace.observes:
        if observed.value is not None:
            arrays.append(observed.value)
        stated = observed.distribution
        if isinstance(stated, SparseNormal):
            arrays += [stated.positions, stated.means]
        elif stated is not None:
            arrays += stated.arrays
    return sum(array.nbytes for array in arrays) + _ENTRY_BYTES * len(trace) + _TRACE_BYTES
