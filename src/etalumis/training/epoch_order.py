# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The order in which an epoch reads the traces: pure functions of seed and epoch.

In each of these orders a trace is equally likely to be read in any iteration, so no trace counts more than another and
the expected gradient of an iteration is that of the whole set. The orders differ in how alike the traces of one
iteration are, and thereby in the variance of the gradient.
"""

from typing import Protocol

import numpy as np

from etalumis.seeds import generator
from etalumis.typing import Array

CHUNK_TRACES = 64
"""Traces that are adjacent on disk and stay together when chunks are shuffled, so that one seek reads several.

In a sorted dataset, adjacent traces have the same type. With fewer, longer chunks a window would lack some types, and
the network would forget them until the next window.
"""
WINDOW_CHUNKS = 1024
"""Chunks whose traces are shuffled together; a dataset of up to 65,536 traces is shuffled as a whole."""


class Order(Protocol):
    """The traces of an epoch, without those of an incomplete last iteration."""

    def slice(self, start: int, stop: int) -> Array:
        """Return elements `start:stop` of the order: trace numbers, int64."""
        ...


class EpochOrder:
    """A permutation of 0..size-1: chunks in random order, traces shuffled within windows of chunks.

    Windows are computed on demand. Only the order of the chunks and one or two windows are kept in memory.
    """

    def __init__(
        self, size: int, seed: int, epoch: int, chunk: int = CHUNK_TRACES, window: int = WINDOW_CHUNKS
    ) -> None:
        self.size, self.epoch, self._seed, self._chunk, self._window = size, epoch, seed, chunk, window
        self._starts = generator(seed, "training/epoch", epoch).permutation(np.arange(0, size, chunk))
        lengths = np.minimum(self._starts + chunk, size) - self._starts
        ends = np.append(np.cumsum(lengths)[window - 1 : -1 : window], size)
        self._bounds = np.concatenate([[0], ends])
        self._windows: dict[int, Array] = {}

    def slice(self, start: int, stop: int) -> Array:
        """Return elements `start:stop` of the permutation."""
        first, last = np.searchsorted(self._bounds, (start, stop - 1), side="right") - 1
        numbers = range(int(first), int(last) + 1)
        self._windows = {
            number: self._windows[number] if number in self._windows else self._shuffled_window(number)
            for number in numbers
        }
        order = np.concatenate([np.empty(0, np.int64), *self._windows.values()])
        return order[start - self._bounds[first] : stop - self._bounds[first]]

    def _shuffled_window(self, number: int) -> Array:
        group = self._starts[number * self._window : (number + 1) * self._window]
        traces = np.concatenate([np.arange(s, min(s + self._chunk, self.size)) for s in group])
        return generator(self._seed, f"training/epoch/{self.epoch}", number).permutation(traces)


def epoch_order(size: int, seed: int, epoch: int, chunk: int = CHUNK_TRACES, window: int = WINDOW_CHUNKS) -> Array:
    """Return the complete permutation of an epoch."""
    return EpochOrder(size, seed, epoch, chunk, window).slice(0, size)


class ChunkOrder:
    """Chunks of `batch` adjacent traces in random order: in a sorted dataset, most have one trace type.

    The first chunk starts at a random trace, and the dataset is read as a ring, so that the remainder, which the epoch
    leaves out, is any part of it. The traces of an iteration are alike, so its gradient varies more than that of as
    many independent traces: a type that fills few chunks is read in few iterations.
    """

    def __init__(self, size: int, seed: int, epoch: int, batch: int) -> None:
        rng = generator(seed, "training/chunks", epoch)
        self._size, self._batch = size, batch
        self._starts = int(rng.integers(size)) + batch * rng.permutation(size // batch)

    def slice(self, start: int, stop: int) -> Array:
        """Return elements `start:stop` of the order."""
        place = np.arange(start, stop)
        return np.asarray((self._starts[place // self._batch] + place % self._batch) % self._size, np.int64)


class BucketOrder:
    """Every iteration takes its `batch` traces from one bucket, that is, from traces of similar length (section 7.2).

    The traces, without a random remainder, are sorted by length and cut into buckets of whole iterations. The traces of
    a bucket are shuffled, and so are the iterations of all buckets: successive iterations are seldom of one bucket.
    The gradient of an iteration lacks the traces of other lengths, so it varies more than that of independent traces.

    Parameters
    ----------
    lengths
        (trace,). Tokens of each trace.
    """

    def __init__(self, lengths: Array, seed: int, epoch: int, batch: int, buckets: int) -> None:
        rng = generator(seed, "training/buckets", epoch)
        count = len(lengths) // batch
        order = rng.permutation(len(lengths))[: count * batch]
        order = order[np.argsort(lengths[order], kind="stable")]
        parts = np.array_split(np.arange(count), min(buckets, count))
        mixed = [rng.permutation(order[part[0] * batch : (part[-1] + 1) * batch]) for part in parts]
        iterations = np.concatenate(mixed).reshape(count, batch)
        self._order = iterations[rng.permutation(count)].reshape(-1)

    def slice(self, start: int, stop: int) -> Array:
        """Return elements `start:stop` of the order."""
        return self._order[start:stop]
