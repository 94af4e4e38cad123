# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Minibatches for PyTorch's own loaders.

    dataset = BatchDataset(TraceDataset(paths, layers), seed=1)
    loader = DataLoader(dataset, batch_sampler=..., num_workers=4, collate_fn=as_tensors)
    for epoch in range(10):
        dataset.set_epoch(epoch)
        for batch in loader: ...

Each worker opens the files for itself. The batches are the same for every number of workers. Tensors come from a worker
through shared memory; arrays (`as_is`) are copied through a pipe, which takes longer than reading them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.dataset import TraceDataset

T = TypeVar("T")


class BatchDataset(Dataset[Minibatch]):
    """A map-style dataset whose batches are read at once, not put together of single traces.

    Parameters
    ----------
    traces
        The traces.
    seed
        With the epoch, the seed of the noise.
    noise_scale
        Factor of the noise drawn at reading.
    """

    def __init__(self, traces: TraceDataset, seed: int = 0, noise_scale: float = 1.0) -> None:
        self.traces, self.seed, self.noise_scale = traces, seed, noise_scale
        # in shared memory, so that workers that live longer than an epoch see the next one
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # torch gives it no types

    @property
    def epoch(self) -> int:
        """The epoch whose noise is drawn."""
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Draw other noise from now on; call it before the loader's iterator is made."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Return the number of traces."""
        return len(self.traces)

    def __getitem__(self, index: int) -> Minibatch:
        """Return one trace as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Minibatch:
        """Return a minibatch; what a loader with a `batch_sampler` calls."""
        return self.traces.batch(np.asarray(indices), (self.seed, self.epoch), self.noise_scale)


def as_is(batch: T) -> T:
    """Return what it is given: a `collate_fn` for loaders without workers, as the batches are whole."""
    return batch


def as_tensors(batch: Minibatch) -> dict[str, torch.Tensor]:
    """Return the columns of a batch as tensors by name, without a copy: a `collate_fn` for loaders with workers."""
    return {field.name: torch.from_numpy(getattr(batch, field.name)) for field in fields(batch)}


def as_batch(tensors: Mapping[str, torch.Tensor]) -> Minibatch:
    """Return the batch that `as_tensors` was given, without a copy."""
    return Minibatch(**{name: tensor.numpy() for name, tensor in tensors.items()})
