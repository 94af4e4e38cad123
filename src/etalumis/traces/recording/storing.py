# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces on their way from the model to the journal and the file, in frames that bound memory and what a kill costs."""

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
"""Traces, and about as many bytes of them, that may wait in memory for the journal."""
FRAME_S = 1.0
"""Seconds at most that a trace waits for it: what a killed call loses."""
_LARGE_BYTES = 31 << 20
_ENTRY_BYTES, _TRACE_BYTES = 200, 600
"""What Python objects take for an entry, an array or a tag, and for a trace."""


class Storing:
    """Takes traces to the journal and the file; at the end, and where a run fails, those that wait go there.

    Parameters
    ----------
    builder, journal, writer
        Makes columns of them; where the columns go.
    most
        Traces that may wait.

    Attributes
    ----------
    seconds
        That this took.
    """

    def __init__(self, builder: BlockBuilder, journal: Journal, writer: ShardWriter, most: int) -> None:
        # a block that is freed tells glibc (mallopt(3), M_MMAP_THRESHOLD) to keep so much for what comes: without, the
        # pages of each frame's columns go back to the kernel and are filled with zeros again, for a microsecond a trace
        np.empty(_LARGE_BYTES, np.uint8)
        self._builder, self._journal, self._writer, self._most = builder, journal, writer, most
        self._waiting: list[tuple[int, int, Trace]] = []
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
        self._waiting.append(one)
        self._bytes += held_bytes(one[2])
        late = time.monotonic() - self._committed > FRAME_S
        if late or len(self._waiting) >= self._most or self._bytes > FRAME_BYTES:
            self._commit()

    def _commit(self) -> None:
        taken, self._waiting, self._bytes = self._waiting, [], 0  # what cannot be written is not tried again
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
    """Return about how much memory a trace holds; the first of a message counts for all of it."""
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
