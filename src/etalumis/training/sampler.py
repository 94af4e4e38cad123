# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which traces a rank reads in which iteration: a pure function of seed, epoch, position and world size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from etalumis.errors import ConfigError
from etalumis.seeds import generator

Array = np.ndarray[Any, Any]

CHUNK_TRACES = 64
"""Neighbours on disk that stay together when chunks are shuffled, so that a reader has more than one trace a seek.

A sorted set has one trace type in many neighbours: of few long chunks a window would lack whole types, and the network
would forget them until the next.
"""
WINDOW_CHUNKS = 1024
"""Chunks whose traces are mixed with each other; a dataset of up to 65,536 traces is shuffled as a whole."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the training has read: `offset` traces of epoch `epoch`, over all ranks."""

    epoch: int = 0
    offset: int = 0


class Sampler:
    """Hand out minibatches; every trace comes once an epoch, but for a remainder smaller than a global batch.

    Parameters
    ----------
    size
        Traces in the dataset.
    batch_size
        Traces of one rank in one iteration.
    world_size
        Ranks.
    seed
        Run seed.

    Raises
    ------
    ConfigError
        Where the dataset is smaller than one global batch.
    """

    def __init__(self, size: int, batch_size: int, world_size: int, seed: int) -> None:
        self.size, self.world_size, self.seed = size, world_size, seed
        self.global_batch = batch_size * world_size
        if size < self.global_batch:
            raise ConfigError(
                f"training.batch_size: {batch_size} on {world_size} ranks needs {self.global_batch} traces, the "
                f"training set has {size}; lower training.batch_size or raise traces.train"
            )
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def advance(self, position: Position) -> Position:
        """Return the position of the iteration after the one at `position`."""
        return self.fitting(Position(position.epoch, position.offset + self.global_batch))

    def fitting(self, position: Position) -> Position:
        """Return `position`, or the start of the next epoch where less than a global batch is left of this one.

        A position saved with another number of ranks may leave that little.
        """
        too_late = position.offset + self.global_batch > self.size
        return Position(position.epoch + 1, 0) if too_late else position

    def indices(self, position: Position, rank: int) -> Array:
        """Return the trace numbers that `rank` reads: the global batch, dealt round-robin."""
        if position.epoch != self._epoch:
            self._epoch, self._order = position.epoch, epoch_order(self.size, self.seed, position.epoch)
        return self._order[position.offset : position.offset + self.global_batch][rank :: self.world_size]


def epoch_order(size: int, seed: int, epoch: int, chunk: int = CHUNK_TRACES, window: int = WINDOW_CHUNKS) -> Array:
    """Return a permutation of 0..size-1: chunks in random order, traces mixed within windows of chunks."""
    rng = generator(seed, "training/epoch", epoch)
    starts = rng.permutation(np.arange(0, size, chunk))
    windows = [starts[i : i + window] for i in range(0, len(starts), window)]
    parts = [np.concatenate([np.arange(s, min(s + chunk, size)) for s in group]) for group in windows]
    return np.concatenate([rng.permutation(part) for part in parts])
