# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which traces each rank reads in each iteration: a pure function of seed, epoch, position, world size and costs.

A sampler takes the traces of an iteration from an order (`epoch_order`) and distributes them over the ranks
(`distribution`). The gradient of an iteration is a sum over its traces, so it does not depend on the distribution, up
to the rounding of float32 sums; only the time that the ranks take does.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from etalumis.counting import counted
from etalumis.errors import ConfigError
from etalumis.seeds import generator
from etalumis.training.costs import StepCosts
from etalumis.training.distribution import by_cost, by_length, for_measurement
from etalumis.training.epoch_order import BucketOrder, ChunkOrder, EpochOrder, Order
from etalumis.training.trace_kinds import TraceKinds
from etalumis.typing import Array

Way = Literal["shuffled", "sorted_chunks", "buckets", "round_robin", "balanced"]
NEED_KINDS = ("buckets", "round_robin", "balanced")
"""Ways that depend on the types of the traces."""


@dataclass(frozen=True, slots=True)
class Position:
    """Position in the training set: `offset` traces of epoch `epoch` have been read, over all ranks."""

    epoch: int = 0
    offset: int = 0


class StreamOrder:
    """The order of an online training: each iteration has the next traces of an endless stream, dealt in turn.

    Parameters
    ----------
    batch_size
        Traces per rank and iteration.
    world_size
        Number of ranks.
    """

    def __init__(self, batch_size: int, world_size: int) -> None:
        self.world_size, self.global_batch = world_size, batch_size * world_size

    def advance(self, position: Position) -> Position:
        """Return the position after the iteration at `position`."""
        return Position(position.epoch, position.offset + self.global_batch)

    def full_batch_from(self, position: Position) -> Position:
        """Return `position`: the stream has no end."""
        return position

    def indices(self, position: Position, rank: int, costs: StepCosts | None = None) -> Array:
        """Return the places in the stream of the traces of `rank`."""
        return np.arange(position.offset + rank, position.offset + self.global_batch, self.world_size)


class Sampler:
    """Distributes minibatches. Each trace occurs once per epoch, except a remainder smaller than a global batch.

    A training can be resumed with another number of ranks in the middle of an epoch, except with "buckets", whose
    iterations depend on it: the rest of that epoch may then repeat traces.

    Parameters
    ----------
    size
        Number of traces in the dataset.
    batch_size
        Traces per rank and iteration; with "balanced", their mean over the ranks.
    world_size
        Number of ranks.
    seed
        Run seed.
    way
        ``shuffled``: traces in random order. ``sorted_chunks``: each minibatch is a chunk of adjacent traces.
        ``buckets``: all traces of an iteration have similar lengths. ``round_robin`` and ``balanced``: the iterations
        of "shuffled", dealt to the ranks in turn by length, or by cost so that the ranks finish together.
    kinds
        Types of the traces, for the ways `NEED_KINDS`.
    buckets
        Number of buckets.

    Raises
    ------
    ConfigError
        If the dataset is smaller than one global batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        world_size: int,
        seed: int,
        way: Way = "shuffled",
        kinds: TraceKinds | None = None,
        buckets: int = 10,
    ) -> None:
        self.size, self.batch_size, self.world_size, self.seed = size, batch_size, world_size, seed
        self.way, self._kinds, self._buckets = way, kinds, buckets
        self.global_batch = batch_size * world_size
        if size < self.global_batch:
            raise ConfigError(
                f"training.batch_size: {batch_size} on {counted(world_size, 'rank')} needs "
                f"{counted(self.global_batch, 'trace')}, the training set has {size:,}; lower "
                "training.batch_size or raise traces.train"
            )
        self._epoch, self._order = -1, self._order_of(0)

    def advance(self, position: Position) -> Position:
        """Return the position after the iteration at `position`."""
        return self.full_batch_from(Position(position.epoch, position.offset + self.global_batch))

    def full_batch_from(self, position: Position) -> Position:
        """Return `position`, or the start of the next epoch if less than a global batch is left in this one.

        This can happen when a training is resumed with more ranks.
        """
        too_late = position.offset + self.global_batch > self.size
        return Position(position.epoch + 1, 0) if too_late else position

    def indices(self, position: Position, rank: int, costs: StepCosts | None = None) -> Array:
        """Return the trace numbers that `rank` reads.

        Parameters
        ----------
        position
            Position of the iteration.
        rank
            Number of the rank.
        costs
            For "balanced": what a minibatch costs; None while it is being measured.
        """
        if position.epoch != self._epoch:
            self._epoch, self._order = position.epoch, self._order_of(position.epoch)
        traces = self._order.slice(position.offset, position.offset + self.global_batch)
        if self.way == "sorted_chunks":
            return traces[rank * self.batch_size : (rank + 1) * self.batch_size]
        if self.way in ("round_robin", "balanced") and self.world_size > 1:
            assert self._kinds is not None
            if self.way == "round_robin":
                return by_length(traces, self._kinds, self.world_size)[rank]
            if costs is not None:
                return by_cost(traces, self._kinds, self.world_size, costs)[rank]
            rng = generator(self.seed, f"training/measurement/{position.epoch}", position.offset)
            return for_measurement(traces, self._kinds, self.world_size, rng)[rank]
        return traces[rank :: self.world_size]

    def _order_of(self, epoch: int) -> Order:
        if self.way == "sorted_chunks":
            return ChunkOrder(self.size, self.seed, epoch, self.batch_size)
        if self.way == "buckets":
            assert self._kinds is not None
            return BucketOrder(self._kinds.lengths, self.seed, epoch, self.global_batch, self._buckets)
        return EpochOrder(self.size, self.seed, epoch)
