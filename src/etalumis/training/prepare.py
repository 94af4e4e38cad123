# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Set up a training from a configuration and files; check that data, layers and network belong together."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from mpi4py import MPI

from etalumis.config import Config
from etalumis.counting import counted
from etalumis.errors import ConfigError, DatasetError, NetworkError
from etalumis.files import digest, require_writable
from etalumis.layers import LayerTable
from etalumis.network import checkpoint
from etalumis.network.model import ProposalNetwork
from etalumis.traces.block import NOISY
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.initialise import initialise_from_data, initialise_rows
from etalumis.training.sampler import NEED_KINDS
from etalumis.training.schedule import has_noise_ramp
from etalumis.training.start import Start, initial_seed, load_start, observation_shapes
from etalumis.training.trace_kinds import read_kinds
from etalumis.training.trace_stream import Simulation, TraceStream
from etalumis.training.train import Outcome, Trainer

logger = logging.getLogger(__name__)

_KEYS_OUTSIDE_IDENTITY = {
    "tasks", "threads_per_task", "max_minutes", "max_traces", "valid_every", "checkpoint_minutes", "prefetch",
    "patience", "online_layers", "gradient_sum", "device", "tensorboard",
}  # fmt: skip
"""Settings that may change when a training is resumed: they only determine how long and where it runs, or belong to an
online training alone."""


def train(
    config: Config,
    layers_path: Path,
    traces: Path | Simulation,
    valid_path: Path,
    output: Path,
    comm: MPI.Comm,
    world_size: int | None = None,
    force: bool = False,
    start_from: Path | None = None,
) -> Outcome:
    """Train a network under MPI; call it on every rank.

    Parameters
    ----------
    config
        The configuration; its sections network and training, observation.name and run.seed are used. An online training
        also uses traces.observation and simulator.retries.
    layers_path
        Layer table.
    traces
        Sorted dataset (a folder with an index.json, or trace files); or a model, whose traces are simulated while the
        network is trained and used once (an online training).
    valid_path
        Sorted validation dataset. For an online training, it also gives the scales of the inputs and the first
        proposals of the categories, as the training set does otherwise.
    output
        Folder of the network.
    comm
        The ranks.
    world_size
        Expected number of ranks; None: any number.
    force
        Overwrite a finished network of other data or settings.
    start_from
        Folder of a finished network that is trained on, with the first rows of the layer table; None: a new network.

    Raises
    ------
    ConfigError
        If the number of ranks is not `world_size`, the traces have no observe statement `observation.name`, or the
        training set is too small.
    NetworkError
        If data, simulator, layers and the network to start from do not belong together, `output` holds another finished
        network, or training diverges.
    SimulatorError, ProtocolError
        If a run of an online training fails repeatedly; the last checkpoint is kept.
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
    layers = observed_layers(LayerTable.load(layers_path), config, layers_path)
    train_set: TraceDataset | TraceStream
    if isinstance(traces, Path):
        train_set = sampled = open_dataset(traces, config, layers)
        valid_set = open_dataset(valid_path, config, layers)
        kinds = read_kinds(train_set) if config.training.sampler in NEED_KINDS else None
    else:
        train_set, kinds = _stream(traces, config, layers, comm), None
        valid_set = sampled = open_dataset(valid_path, config, layers)
    start = None if start_from is None else _start(start_from, output, config, layers)
    if start is None:
        network = ProposalNetwork(layers, config.network, initial_seed(config.run.seed))
        initialise_from_data(network, sampled)
    else:
        network = start.network
    of_training = identity(config, layers, train_set, start)
    if comm.rank == 0 and not force:
        _require_no_other_network(output, of_training)
    trainer = Trainer(network, train_set, valid_set, config.training, config.run.seed, output, of_training, comm, kinds)
    if start is not None:
        known = len(start.network.layers)
        if start.moments is not None:
            trainer.optimizer.restore(start.moments)
        trainer.grow(layers)
        initialise_rows(network, sampled, known)
    if comm.rank == 0:
        _log_begin(network, train_set, config, comm.size, start_from)
    return trainer.run()


def open_dataset(path: Path, config: Config, layers: LayerTable) -> TraceDataset:
    """Return the traces as a training reads them: with the observations of the layers and the tags of the network."""
    names = [layout.name for layout in layers.observations]
    dataset = TraceDataset(path, layers, tags=tuple(config.network.tags), observations=names)
    require_dataset_fits(layers, dataset, path)
    return dataset


def _stream(simulation: Simulation, config: Config, layers: LayerTable, comm: MPI.Comm) -> TraceStream:
    """Return the stream of traces of this rank.

    Raises
    ------
    NetworkError
        If the layer table was built for another simulator.
    """
    for what, expected, found in (
        ("simulator build", layers.simulator_build_id, simulation.build_id),
        ("config digest", layers.config_digest, simulation.config_digest),
    ):
        if expected != found:
            raise NetworkError(
                f"{simulation.model.name}: the layer table was built for {what} {expected}, the simulator has {found}; "
                "build the table with `etalumis layers` from traces of this simulator, such as the validation traces"
            )
    return TraceStream(
        simulation.model,
        layers,
        config.run.seed,
        comm.size,
        config.simulator.retries,
        config.traces.observation,
        tuple(config.network.tags),
        config.training.online_layers == "frozen",
    )


def _start(folder: Path, output: Path, config: Config, layers: LayerTable) -> Start:
    if folder.resolve() == output.resolve():
        raise NetworkError(f"{output}: the network that is trained on would be overwritten; name another output")
    return load_start(folder, config, layers)


def _log_begin(
    network: ProposalNetwork, train_set: TraceDataset | TraceStream, config: Config, ranks: int, start: Path | None
) -> None:
    layers = config.training.online_layers
    logger.info(
        "network: %s, %s, %s; %s, %s%s",
        counted(len(network.layers), "address", "addresses"), counted(network.parameter_count(), "parameter"),
        str(network.dtype).removeprefix("torch."), counted(ranks, "rank"),
        f"online, {layers} layers" if isinstance(train_set, TraceStream) else counted(len(train_set), "training trace"),
        "" if start is None else f", from {start}",
    )  # fmt: skip
    if isinstance(train_set, TraceStream) or not has_noise_ramp(config.training):
        return
    if all(layout.storage == NOISY for layout in train_set.layouts):
        logger.info(
            "%s: observations are stored with noise, so training.noise_start and noise_ramp_share have no effect",
            train_set.paths[0],
        )


def observed_layers(layers: LayerTable, config: Config, path: Path) -> LayerTable:
    """Return the layer table with the observe statements that the posterior is conditioned on."""
    if config.observation.name is None:
        return layers
    try:
        return layers.observing([config.observation.name])
    except DatasetError as error:
        raise ConfigError(f"observation.name: {error} ({path})") from None


def identity(
    config: Config, layers: LayerTable, train_set: TraceDataset | TraceStream, start: Start | None = None
) -> str:
    """Return a digest of all that a training depends on, except its length."""
    if isinstance(train_set, TraceStream):
        source: dict[str, Any] = {"online": [config.training.online_layers, config.traces.observation]}
    else:
        traces = hashlib.blake2b(digest_size=8)
        for seeds in train_set.column_by_file("seed"):
            traces.update(seeds.tobytes())
        source = {"traces": traces.hexdigest()}
    if start is not None:
        source["start"] = [start.digest, start.moments is not None]
    training = config.training.model_dump(mode="json", exclude=_KEYS_OUTSIDE_IDENTITY)
    if training["sum_dtype"] == "float32":  # as in versions without the key
        del training["sum_dtype"]
    return digest(
        {
            "layers": layers.digest,
            "build": layers.simulator_build_id,
            "seed": config.run.seed,
            "network": config.network.architecture(),
            "training": training,
            **source,
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
        ("observations", observation_shapes(layers.observations), observation_shapes(dataset.layouts)),
        ("simulator build", layers.simulator_build_id, provenance.simulator_build_id),
        ("config digest", layers.config_digest, provenance.config_digest),
    ):
        if expected != found:
            raise NetworkError(
                f"{path}: the layer table was built for {what} {expected}, the dataset has {found}; rebuild the table "
                "with `etalumis layers`, or use the dataset it was built from"
            )
