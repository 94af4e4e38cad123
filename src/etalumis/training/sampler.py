# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which traces each rank reads in each iteration: a pure function of seed, epoch, position and world size."""

from dataclasses import dataclass

import numpy as np

from etalumis.counting import counted
from etalumis.errors import ConfigError
from etalumis.seeds import generator
from etalumis.typing import Array

CHUNK_TRACES = 64
"""Traces that are adjacent on disk and stay together when chunks are shuffled, so that one seek reads several.

In a sorted dataset, adjacent traces have the same type. With fewer, longer chunks a window would lack some types, and
the network would forget them until the next window.
"""
WINDOW_CHUNKS = 1024
"""Chunks whose traces are shuffled together; a dataset of up to 65,536 traces is shuffled as a whole."""


@dataclass(frozen=True, slots=True)
class Position:
    """Position in the training set: `offset` traces of epoch `epoch` have been read, over all ranks."""

    epoch: int = 0
    offset: int = 0


class Sampler:
    """Distributes minibatches. Each trace occurs once per epoch, except a remainder smaller than a global batch.

    Parameters
    ----------
    size
        Number of traces in the dataset.
    batch_size
        Traces per rank and iteration.
    world_size
        Number of ranks.
    seed
        Run seed.

    Raises
    ------
    ConfigError
        If the dataset is smaller than one global batch.
    """

    def __init__(self, size: int, batch_size: int, world_size: int, seed: int) -> None:
        self.size, self.world_size, self.seed = size, world_size, seed
        self.global_batch = batch_size * world_size
        if size < self.global_batch:
            raise ConfigError(
                f"training.batch_size: {batch_size} on {counted(world_size, 'rank')} needs "
                f"{counted(self.global_batch, 'trace')}, the training set has {size:,}; lower "
                "training.batch_size or raise traces.train"
            )
        self._order: EpochOrder | None = None

    def advance(self, position: Position) -> Position:
        """Return the position after the iteration at `position`."""
        return self.full_batch_from(Position(position.epoch, position.offset + self.global_batch))

    def full_batch_from(self, position: Position) -> Position:
        """Return `position`, or the start of the next epoch if less than a global batch is left in this one.

        This can happen when a training is resumed with more ranks.
        """
        too_late = position.offset + self.global_batch > self.size
        return Position(position.epoch + 1, 0) if too_late else position

    def indices(self, position: Position, rank: int) -> Array:
        """Return the trace numbers that `rank` reads: every `world_size`-th one of the global batch."""
        if self._order is None or self._order.epoch != position.epoch:
            self._order = EpochOrder(self.size, self.seed, position.epoch)
        return self._order.slice(position.offset, position.offset + self.global_batch)[rank :: self.world_size]


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
