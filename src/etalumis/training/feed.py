# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The minibatches of a training, read while the network learns from those before them."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from etalumis.config import TrainingConfig
from etalumis.network.grouping import Grouping
from etalumis.network.minibatch_plan import MinibatchPlan, plan_minibatch
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.prefetch import Prefetcher
from etalumis.training.evaluate import Batches
from etalumis.training.sampler import Sampler
from etalumis.training.state import TrainingState
from etalumis.typing import Array


class Feed:
    """Reads minibatches in the order of a sampler, from where a training stands, in a background thread.

    Parameters
    ----------
    dataset
        The training set.
    grouping
        Of the network: how it goes through a minibatch is planned in the background, too.
    sampler, rank
        Which traces are whose.
    state
        Of the training; it is followed.
    config
        Its budget, and how many minibatches are read ahead of the one that is wanted.
    noise_seed
        With the epoch, the seed of the noise.
    noise_scale
        Gives the factor of the noise from the number of traces that are done.
    """

    def __init__(
        self,
        dataset: Batches,
        grouping: Grouping,
        sampler: Sampler,
        rank: int,
        state: TrainingState,
        config: TrainingConfig,
        noise_seed: int,
        noise_scale: Callable[[int], float],
    ) -> None:
        self._dataset, self._grouping, self._sampler, self._rank = dataset, grouping, sampler, rank
        self._state, self._config, self._noise_seed, self._noise_scale = state, config, noise_seed, noise_scale
        self._next = state.position
        self._reader = Prefetcher(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def take(self) -> tuple[Minibatch, MinibatchPlan]:
        """Return the next minibatch and how the network goes through it."""
        while len(self._reader) <= self._config.prefetch and self._has_room():
            epoch, done = self._next.epoch, self._state.traces + len(self._reader) * self._sampler.global_batch
            self._reader.ask(self._sampler.indices(self._next, self._rank), epoch, self._noise_scale(done))
            self._next = self._sampler.advance(self._next)
        return self._reader.take()

    def _has_room(self) -> bool:
        """Return whether the budget in traces, where there is one, has room for a minibatch beyond those asked for."""
        done = self._state.traces + len(self._reader) * self._sampler.global_batch
        return self._config.max_traces is None or done < self._config.max_traces

    def _read(self, indices: Array, epoch: int, noise_scale: float) -> tuple[Minibatch, MinibatchPlan]:
        batch = self._dataset.batch(indices, (self._noise_seed, epoch), noise_scale)
        return batch, plan_minibatch(batch, self._grouping)
