# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Minibatches for the data loaders of PyTorch.

In a training::

    dataset = BatchDataset(TraceDataset(paths, layers), seed=1)
    loader = DataLoader(dataset, batch_sampler=..., num_workers=4, collate_fn=as_tensors)
    for epoch in range(10):
        dataset.set_epoch(epoch)
        for batch in loader: ...

Each worker opens the files itself. The minibatches do not depend on the number of workers. Workers pass tensors through
shared memory; arrays (`as_is`) are copied through a pipe, which takes longer than reading them.
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
    """A map-style dataset that reads whole minibatches rather than collating single traces.

    Parameters
    ----------
    traces
        The traces.
    seed
        Seed of the noise, together with the epoch.
    noise_scale
        Scale of the noise.
    """

    def __init__(self, traces: TraceDataset, seed: int = 0, noise_scale: float = 1.0) -> None:
        self.traces, self.seed, self.noise_scale = traces, seed, noise_scale
        # in shared memory, so that persistent workers see the next epoch
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # torch has no types for it

    @property
    def epoch(self) -> int:
        """The current epoch, which determines the noise."""
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch and thereby the noise; call it before creating the iterator of the loader."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Return the number of traces."""
        return len(self.traces)

    def __getitem__(self, index: int) -> Minibatch:
        """Return a minibatch of one trace."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Minibatch:
        """Return a minibatch; loaders with a `batch_sampler` call this."""
        return self.traces.batch(np.asarray(indices), (self.seed, self.epoch), self.noise_scale)


def as_is(batch: T) -> T:
    """Return the minibatch unchanged: a `collate_fn` for loaders without workers."""
    return batch


def as_tensors(batch: Minibatch) -> dict[str, torch.Tensor]:
    """Return the columns of a minibatch as tensors by name, not copied: a `collate_fn` for loaders with workers."""
    return {field.name: torch.from_numpy(getattr(batch, field.name)) for field in fields(batch)}


def as_batch(tensors: Mapping[str, torch.Tensor]) -> Minibatch:
    """Inverse of `as_tensors`, without copying."""
    return Minibatch(**{name: tensor.numpy() for name, tensor in tensors.items()})
