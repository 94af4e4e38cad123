# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Set up a training from a configuration and files; check that data, layers and network belong together."""

import hashlib
import logging
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

from etalumis.config import Config
from etalumis.counting import counted
from etalumis.errors import ConfigError, DatasetError, NetworkError
from etalumis.files import digest, require_writable
from etalumis.layers import LayerTable, ObservationLayout
from etalumis.network import checkpoint
from etalumis.network.embedding import InputScale
from etalumis.network.model import ProposalNetwork
from etalumis.seeds import derive
from etalumis.traces.block import NOISY, Layout
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.evaluate import MinibatchSource
from etalumis.training.sampler import NEED_KINDS
from etalumis.training.schedule import has_noise_ramp
from etalumis.training.trace_kinds import read_kinds
from etalumis.training.train import Outcome, Trainer
from etalumis.typing import Array

logger = logging.getLogger(__name__)

_SAMPLE_TRACES, _SAMPLE_BATCH = 1024, 128
_ROUNDING = 1e-12
"""Largest share of the mean square that is no variance but a rounding error: the element is constant."""
_KEYS_OUTSIDE_IDENTITY = {
    "tasks", "threads_per_task", "max_minutes", "max_traces", "valid_every", "checkpoint_minutes", "prefetch",
    "patience",
}  # fmt: skip
"""Settings that may change when a training is resumed: they only determine how long and where it runs."""


def train(
    config: Config,
    layers_path: Path,
    train_path: Path,
    valid_path: Path,
    output: Path,
    comm: MPI.Comm,
    world_size: int | None = None,
    force: bool = False,
) -> Outcome:
    """Train a network under MPI; call it on every rank.

    Parameters
    ----------
    config
        The configuration; its sections network and training, observation.name and run.seed are used.
    layers_path
        Layer table.
    train_path, valid_path
        Sorted datasets (folders with an index.json, or trace files).
    output
        Folder of the network.
    comm
        The ranks.
    world_size
        Expected number of ranks; None: any number.
    force
        Overwrite a finished network of other data or settings.

    Raises
    ------
    ConfigError
        If the number of ranks is not `world_size`, the traces have no observe statement `observation.name`, or the
        training set is too small.
    NetworkError
        If data and layers do not belong together, `output` holds another finished network, or training diverges.
    StorageError
        If a file cannot be read or written.
    """
    if comm.rank == 0:
        require_writable(output, "network", folder=True)
    if world_size is not None and comm.size != world_size:
        raise ConfigError(
            f"MPI: expected {counted(world_size, 'rank')} (training.tasks), found {comm.size}; start it as "
            f"`mpiexec -n {world_size} etalumis network train ...` with the mpiexec of the MPI that mpi4py uses"
        )
    torch.set_num_threads(config.training.threads_per_task)
    layers = _observed(LayerTable.load(layers_path), config, layers_path)
    tags, names = tuple(config.network.tags), [layout.name for layout in layers.observations]
    train_set, valid_set = (
        TraceDataset(path, layers, tags=tags, observations=names) for path in (train_path, valid_path)
    )
    for dataset, path in ((train_set, train_path), (valid_set, valid_path)):
        require_dataset_fits(layers, dataset, path)
    generator = torch.Generator().manual_seed(derive(config.run.seed, "network/start", 0))
    network = ProposalNetwork(layers, config.network, generator)
    initialise_from_data(network, train_set)
    if comm.rank == 0:
        arithmetic = str(network.dtype).removeprefix("torch.")
        logger.info(
            "network: %s, %s, %s; %s, %s",
            counted(len(layers), "address", "addresses"), counted(network.parameter_count(), "parameter"), arithmetic,
            counted(comm.size, "rank"), counted(len(train_set), "training trace"),
        )  # fmt: skip
        if has_noise_ramp(config.training) and all(layout.storage == NOISY for layout in train_set.layouts):
            logger.info(
                "%s: observations are stored with noise, so training.noise_start and noise_ramp_share have no effect",
                train_path,
            )
    of_training = identity(config, layers, train_set)
    if comm.rank == 0 and not force:
        _require_no_other_network(output, of_training)
    trainer = Trainer(
        network,
        train_set,
        valid_set,
        config.training,
        config.run.seed,
        output,
        of_training,
        comm,
        read_kinds(train_set) if config.training.sampler in NEED_KINDS else None,
    )
    return trainer.run()


def _observed(layers: LayerTable, config: Config, path: Path) -> LayerTable:
    """Return the layer table with the observe statements that the posterior is conditioned on."""
    if config.observation.name is None:
        return layers
    try:
        return layers.observing([config.observation.name])
    except DatasetError as error:
        raise ConfigError(f"observation.name: {error} ({path})") from None


def identity(config: Config, layers: LayerTable, train_set: TraceDataset) -> str:
    """Return a digest of all that a training depends on, except its length."""
    traces = hashlib.blake2b(digest_size=8)
    for seeds in train_set.column_by_file("seed"):
        traces.update(seeds.tobytes())
    return digest(
        {
            "layers": layers.digest,
            "build": layers.simulator_build_id,
            "traces": traces.hexdigest(),
            "seed": config.run.seed,
            "network": config.network.architecture(),
            "training": config.training.model_dump(mode="json", exclude=_KEYS_OUTSIDE_IDENTITY),
        }
    )


def _require_no_other_network(output: Path, of_training: str) -> None:
    if (output / checkpoint.MANIFEST).exists() and checkpoint.exists(output):
        recorded = checkpoint.read_manifest(output)["training"].get("identity")
        if recorded != of_training:
            raise NetworkError(
                f"{output}: holds a finished network that was trained on other data or with other settings; name "
                "another output, or overwrite it with --force"
            )


def require_dataset_fits(layers: LayerTable, dataset: TraceDataset, path: Path) -> None:
    """Check that a dataset has the simulator and the observation for which the layer table was built.

    Raises
    ------
    NetworkError
        If they differ; the message says how.
    """
    provenance = dataset.provenance
    for what, expected, found in (
        ("observations", _shapes(layers.observations), _shapes(dataset.layouts)),
        ("simulator build", layers.simulator_build_id, provenance.simulator_build_id),
        ("config digest", layers.config_digest, provenance.config_digest),
    ):
        if expected != found:
            raise NetworkError(
                f"{path}: the layer table was built for {what} {expected}, the dataset has {found}; rebuild the table "
                "with `etalumis layers`, or use the dataset it was built from"
            )


def _shapes(layouts: Iterable[ObservationLayout | Layout]) -> dict[str, tuple[int, ...]]:
    return {layout.name: layout.shape for layout in layouts}


def initialise_from_data(network: ProposalNetwork, train_set: MinibatchSource) -> None:
    """Set the scales of the inputs and the initial categorical proposals from a sample of the training traces.

    The result is the same on all ranks, since it depends only on the data.
    """
    sums, counts, tags = np.zeros((2, math.prod(network.layers.observation_shape))), _category_counts(network), []
    indices = np.linspace(0, len(train_set) - 1, min(len(train_set), _SAMPLE_TRACES)).astype(np.int64)
    for start in range(0, len(indices), _SAMPLE_BATCH):
        batch = train_set.batch(indices[start : start + _SAMPLE_BATCH], (0,))
        flat = batch.observation.reshape(len(batch), -1).astype(np.float64)
        sums += flat.sum(0), np.square(flat).sum(0)
        tags.append(batch.tags)
        for layer, count in counts.items():
            count += np.bincount(batch.value[batch.layer == layer].astype(np.int64), minlength=len(count))
    if network.tag_inputs is not None:
        network.tag_inputs.learn_scale(np.concatenate(tags))
    _set_input_scales(network, *(sums / len(indices)))
    for layer, count in counts.items():
        network.set_categorical_start(layer, np.log((count + 0.5) / (count.sum() + 0.5 * len(count))))


def _category_counts(network: ProposalNetwork) -> dict[int, np.ndarray]:
    rows = enumerate(network.layers.rows)
    return {number: np.zeros(row.categories) for number, row in rows if row.kind == "Categorical"}


def _set_input_scales(network: ProposalNetwork, mean: Array, square: Array) -> None:
    """Set the scale of each observation from the means of its elements and of their squares.

    An image of three or more dimensions is scaled by its noise if that is known. Other observations are scaled by mean
    and standard deviation, vectors element by element.
    """
    layouts = network.layers.observations
    ends = np.cumsum([layout.size for layout in layouts])[:-1]
    parts = zip(np.split(mean, ends), np.split(square, ends), strict=True)
    for layout, scale, (first, second) in zip(layouts, network.observation.scales, parts, strict=True):
        assert isinstance(scale, InputScale)
        if layout.stddev is not None and len(layout.shape) > 2:
            scale.set(0.0, layout.stddev)
            continue
        if len(layout.shape) > 1:
            first, second = first.mean(), second.mean()
        variance = second - np.square(first)
        spread = np.sqrt(np.where(variance > _ROUNDING * second, variance, 1.0))
        scale.set(first.reshape(scale.shift.shape), spread.reshape(scale.shift.shape))
