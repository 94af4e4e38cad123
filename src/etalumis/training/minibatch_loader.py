# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Minibatches, read in a background thread while the network is trained on earlier ones."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from etalumis.config import TrainingConfig
from etalumis.network.minibatch_plan import MinibatchPlan, plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.prefetch import Prefetcher
from etalumis.training.evaluate import TraceSource
from etalumis.training.sampler import Sampler, StreamOrder
from etalumis.training.state import TrainingState
from etalumis.typing import Array


class MinibatchLoader:
    """Reads minibatches in a background thread, in the order of a sampler, from the current state of a training.

    Parameters
    ----------
    dataset
        The training set, or a stream of traces.
    network
        The network, which may grow meanwhile. The pass through a minibatch is planned in the background, too.
    sampler, rank
        They determine which traces this rank reads.
    state
        State of the training, which the trainer updates.
    config
        Budget, and number of minibatches to read in advance.
    noise_seed
        Seed of the noise, together with the epoch.
    noise_scale
        Function from the number of traces seen to the factor of the noise.
    """

    def __init__(
        self,
        dataset: TraceSource,
        network: ProposalNetwork,
        sampler: Sampler | StreamOrder,
        rank: int,
        state: TrainingState,
        config: TrainingConfig,
        noise_seed: int,
        noise_scale: Callable[[int], float],
    ) -> None:
        self._dataset, self._network, self._sampler, self._rank = dataset, network, sampler, rank
        self._state, self._config, self._noise_seed, self._noise_scale = state, config, noise_seed, noise_scale
        self._next = state.position
        self._reader = Prefetcher(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def take(self) -> tuple[Array, Minibatch, MinibatchPlan]:
        """Return the trace numbers of the next minibatch, its traces, and the plan of its pass through the network."""
        while len(self._reader) <= self._config.prefetch and self._has_room():
            epoch, done = self._next.epoch, self._state.traces + len(self._reader) * self._sampler.global_batch
            self._reader.ask(
                self._sampler.indices(self._next, self._rank, self._state.costs), epoch, self._noise_scale(done)
            )
            self._next = self._sampler.advance(self._next)
        return self._reader.take()

    def _has_room(self) -> bool:
        """Return whether the budget in traces, if any, leaves room for a minibatch beyond those already requested."""
        done = self._state.traces + len(self._reader) * self._sampler.global_batch
        return self._config.max_traces is None or done < self._config.max_traces

    def _read(self, indices: Array, epoch: int, noise_scale: float) -> tuple[Array, Minibatch, MinibatchPlan]:
        batch = self._dataset.batch(indices, (self._noise_seed, epoch), noise_scale)
        return indices, batch, plan_minibatch(batch, self._network.grouping)
