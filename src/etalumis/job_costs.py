# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the jobs of the workflow take, from the configuration and measured costs: memory, time, bytes.

The costs were measured with the demo on two cores of a virtual machine, without other load. Memory is the peak resident
memory of all processes of a job, with that of Snakemake.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from etalumis.config import Config
from etalumis.experiments import variants
from etalumis.paths import SPLITS
from etalumis.workflow import trace_jobs

SNAKEMAKE_MB = 600
"""Memory of the two Snakemake processes of a job: the job step, and the one that runs the shell line."""

# processes, MB
_SIMULATOR_MB = 250
"""Sherpa, and the Python process that runs it."""
_TORCH_MB = 500
"""Python process with PyTorch, and MPI."""
_COMPILER_MB = 700
"""Compiler of the front end, for each of two processes."""

# data, bytes
_TRACE_BYTES = 2_700
"""A trace of a τ decay in a file."""
_KEY_BYTES = 20
"""A trace in the memory of readers and sorters: its key and its place."""
_DRAW_BYTES = 2_000
"""A draw in the memory of an engine, of diagnostics or figures, without kept entries."""
_KEPT_DRAW_BYTES = 20_000
"""A draw whose entries are kept."""
_VOXELS = 20 * 35 * 35
_LAST_VOXELS = 25
"""Voxels of the image that the last convolution leaves."""
_LAYERS = 83
"""Layers of a network for τ decays: its addresses."""
_LONGEST = 300
"""Steps of the longest traces of τ decays."""
_PARAMETER_COPIES = 5
"""Copies of a parameter: gradient, two moments of the optimizer, sum over ranks."""
_IMAGE_COPIES = 2
_STEP_COPIES = 50
"""Copies of an image and of the hidden state in the memory of a training step, with what the allocator keeps."""

# rates, per second and core
_TRACES_PER_S = 3_700
_SORTED_TRACES_PER_S = 15_000
_VERIFIED_TRACES_PER_S = 47_000
_CHAIN_RUNS_PER_S = 2_900
"""Runs of the simulator that continue from the trace of a chain."""
_PRIOR_RUNS_PER_S = 4_000
_PROPOSED_RUN_S = 0.0018
"""Time of the network for one proposed run, with 256 hidden units."""
_HIDDEN = 256
_STAGES = 14
"""Stages of SMC that keep 0.9 of the effective sample size."""
_TRAINED_PER_S = 280
"""Traces on which a core trains the network of the demo, as one of two ranks."""
_PAPER_TRAINED_PER_S = 2.0
"""Traces on which a core trains the network of the paper: 32.1 on the 16 cores of an HSW socket (SC'19, table 2)."""
_DRAWS_PER_S = 2_000
"""Draws that diagnostics and figures process."""

_TRAINING_DAY_MIN = 24 * 60
"""Run time of a training without a limit in minutes; it resumes."""
_TRAINING_EXTRA_MIN = 15
"""Time of a training for reading, the last validation and the network file, besides its budget."""
_READ_TRACES_PER_MIN = 1e6
"""Traces whose index a rank reads in a minute, from a busy file system."""
_MB = 1e6


class Cost(NamedTuple):
    """What one job takes.

    Attributes
    ----------
    memory_mb
        Memory of a job, or of each rank of an MPI job, in MB.
    seconds
        Expected run time, without a margin.
    """

    memory_mb: float
    seconds: float


def cost(config: Config, rule: str, wildcards: Mapping[str, str]) -> Cost:
    """Return what a job of a rule takes.

    Parameters
    ----------
    config
        The configuration.
    rule
        Name of the rule. The time of `network` is not here, see `training_s` and `training_min`.
    wildcards
        Wildcards of the job: `split` or `engine`.

    Raises
    ------
    KeyError
        If the rule has no costs here.
    """
    return Cost(*_COSTS[rule](config, wildcards))


def training_s(config: Config) -> float:
    """Return the expected wall time of the training: its limit in minutes, or sooner that in traces, in seconds."""
    training = config.training
    limit = 60.0 * (training.max_minutes or math.inf)
    return min(limit, math.inf if training.max_traces is None else _trained_s(config) / training.threads_per_task)


def generated_s(traces: float) -> float:
    """Return the expected time of one job that generates traces, in seconds."""
    return traces / _TRACES_PER_S


def trace_bytes(traces: float) -> float:
    """Return the size of traces in a file."""
    return _TRACE_BYTES * traces


def network_bytes(config: Config) -> float:
    """Return the size of a network with its checkpoint: its parameters, and again with two moments."""
    return 4 * 4 * _parameters(config)


def posterior_bytes(config: Config, engine: str) -> float:
    """Return the size of the draws of all jobs of an engine."""
    return _MB * _draw_mb(config, _DRAWING[engine](config))


def training_min(config: Config) -> int:
    """Return the run time of a training, which is its budget, with time for reading and for its last steps."""
    budget = config.training.max_minutes or _TRAINING_DAY_MIN
    return math.ceil(budget + _TRAINING_EXTRA_MIN + config.traces.train / _READ_TRACES_PER_MIN)


def _simulator(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    return SNAKEMAKE_MB + 2 * _COMPILER_MB, 120


def _generate(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    """Return the cost of the largest job, since SLURM gives all jobs of an array the same."""
    traces = max(math.ceil(getattr(config.traces, split) / trace_jobs(config, split)) for split in SPLITS)
    return SNAKEMAKE_MB + _SIMULATOR_MB + _KEY_BYTES * traces / _MB, generated_s(traces)


def _observation(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    return SNAKEMAKE_MB + 200 + _KEY_BYTES * config.traces.test / _MB, 1


def _sort(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    """Return the cost of a rank, which shares its node with Snakemake and has its limit, `sorted.memory_mb`."""
    traces = getattr(config.traces, wildcards["split"]) / config.sorted.tasks
    rank_mb = min(config.sorted.memory_mb, 400 + 3 * _TRACE_BYTES * traces / _MB)
    return SNAKEMAKE_MB + rank_mb, traces / _SORTED_TRACES_PER_S


def _verify(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    traces = config.traces.train + config.traces.valid
    return SNAKEMAKE_MB + 200 + _KEY_BYTES * traces / _MB, traces / _VERIFIED_TRACES_PER_S


def _layers(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    return SNAKEMAKE_MB + 200 + _KEY_BYTES * config.traces.train / _MB, config.traces.train / _VERIFIED_TRACES_PER_S


def _network(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    """Return the memory of a rank: parameters, gradients, optimizer state, minibatches with activations."""
    return SNAKEMAKE_MB + rank_memory_mb(config, _parameters(config)), 0


def rank_memory_mb(config: Config, parameters: float) -> float:
    """Return the memory of a rank of a training, in MB, for a network with a number of parameters."""
    return _TORCH_MB + _network_mb(config, parameters) + _minibatch_mb(config)


def _experiment(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    """Return the cost of the largest training of the experiments."""
    names = [variants.grid_names(config)[-1], variants.seed_names(config)[0]]
    names += [*variants.rate_names(config), variants.optimizer_names(config)[0]]
    names += [*variants.rank_names(config), *variants.timing_names(config), *variants.paper_rank_names(config)]
    settings = [variants.settings_of(config, name) for name in names]
    return max(_network(one, wildcards)[0] for one in settings), max(map(_trained_s, settings))


def _statements(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    """Return the cost of the table of statements, which measures some minibatches of the run's training."""
    minutes = 5 if config.network.embedding == "paper" else 1
    return _network(config, wildcards)[0], 60.0 * minutes


def _trained_s(config: Config) -> float:
    """Return the time of a training with a limit in traces, with its validations, on one thread for each rank."""
    budget = config.training
    assert budget.max_traces is not None, "the experiments limit their trainings so"
    validations = 2 + budget.max_traces / (budget.tasks * budget.batch_size * budget.valid_every)
    passes = (budget.max_traces + 0.3 * validations * config.traces.valid) / budget.tasks
    if config.network.embedding == "paper":
        return passes / _PAPER_TRAINED_PER_S
    return passes / _TRAINED_PER_S * max(1.0, _lstm_size(config))


def _network_mb(config: Config, parameters: float) -> float:
    """Return the memory of the parameters, their gradients and the optimizer's two moments, and of the index."""
    return _PARAMETER_COPIES * 4 * parameters / _MB + _KEY_BYTES * config.traces.train / _MB


def _parameters(config: Config) -> float:
    """Return about the number of parameters of a network for τ decays."""
    network = config.network
    width = network.observation_embedding + network.address_embedding + network.sample_embedding
    recurrent = 4 * network.lstm_hidden * (network.lstm_hidden + width) * network.lstm_layers
    proposals = _LAYERS * network.lstm_hidden * (network.lstm_hidden + 3 * network.mixture_components)
    convolutions = sum(27 * before * after for before, after in _channel_pairs(config))
    dense = 2 * _LAST_VOXELS * network.conv_channels[-1] * network.observation_embedding
    return recurrent + proposals + convolutions + dense


def _minibatch_mb(config: Config) -> float:
    """Return the memory of the minibatches of a rank, with the activations of the one with the longest traces."""
    network = config.network
    images = (2 + config.training.prefetch) * _VOXELS
    first = _VOXELS if network.embedding == "paper" else _VOXELS / 8
    convolved = _IMAGE_COPIES * first * sum(network.conv_channels[:2])
    steps = _STEP_COPIES * _LONGEST * network.lstm_hidden * network.lstm_layers
    return 4 * config.training.batch_size * (images + convolved + steps) / _MB


def _channel_pairs(config: Config) -> list[tuple[int, int]]:
    channels = config.network.conv_channels
    return list(zip((1, *channels[:-1]), channels, strict=True))


def _draw_mb(config: Config, draws: float) -> float:
    return draws * (_KEPT_DRAW_BYTES if config.posteriors.entries else _DRAW_BYTES) / _MB


def _loaded_network_mb(config: Config) -> float:
    return _TORCH_MB + _network_mb(config, _parameters(config)) / _PARAMETER_COPIES


def _proposed_s(config: Config, runs: float, replays: int) -> float:
    """Return the time of runs that the network proposes, with their replays."""
    return runs * (_PROPOSED_RUN_S * max(1.0, _lstm_size(config)) + (1 + replays) / _PRIOR_RUNS_PER_S)


def _lstm_size(config: Config) -> float:
    """Return the operations of a step of the LSTM, those of the demo being 1."""
    return (config.network.lstm_hidden / _HIDDEN) ** 2 * config.network.lstm_layers


def _rmh(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    chain = config.posteriors.rmh
    return SNAKEMAKE_MB + _SIMULATOR_MB + _draw_mb(config, chain.draws), chain.runs / _CHAIN_RUNS_PER_S


def _network_rmh(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    chain = config.posteriors.network_rmh
    proposed = chain.init_runs + chain.sweeps * chain.candidates
    stepped = chain.sweeps * chain.temperatures * chain.steps
    seconds = _proposed_s(config, proposed, chain.replays) + stepped / _CHAIN_RUNS_PER_S
    memory = SNAKEMAKE_MB + _SIMULATOR_MB + _loaded_network_mb(config) + _draw_mb(config, chain.draws)
    return memory, seconds


def _ic(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    job = config.posteriors.ic
    memory = SNAKEMAKE_MB + _SIMULATOR_MB + _loaded_network_mb(config) + _draw_mb(config, job.runs)
    return memory, _proposed_s(config, job.runs, job.replays) + _shared_s(job.shared_replays)


def _smc(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    job = config.posteriors.smc
    start_s = (
        _proposed_s(config, job.starts, job.replays) + _shared_s(job.shared_replays)
        if job.start == "network"
        else job.starts / _PRIOR_RUNS_PER_S
    )
    # a stage changes the temperature by a step in proportion to sqrt(1 / conditional_ess - 1)
    stages = _STAGES * math.sqrt((1 / 0.9 - 1) / (1 / job.conditional_ess - 1))
    moves = stages * job.particles * (job.entry_moves + job.block_moves)
    network_mb = _loaded_network_mb(config) if job.start == "network" else 0
    memory = SNAKEMAKE_MB + _SIMULATOR_MB + network_mb + _draw_mb(config, job.starts + 10 * job.particles)
    return memory, start_s + moves / _CHAIN_RUNS_PER_S


def _shared_s(replays: int) -> float:
    """Return the time of shared replays, for a hundred combinations of discrete choices."""
    return 100 * replays / _PRIOR_RUNS_PER_S


def _importance(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    runs = config.posteriors.importance.runs
    return SNAKEMAKE_MB + _SIMULATOR_MB + _draw_mb(config, runs), runs / _PRIOR_RUNS_PER_S


_DRAWING: Mapping[str, Callable[[Config], float]] = {
    "rmh": lambda c: c.posteriors.rmh.chains * c.posteriors.rmh.draws,
    "network_rmh": lambda c: c.posteriors.network_rmh.chains * c.posteriors.network_rmh.draws,
    "ic": lambda c: c.posteriors.ic.jobs * c.posteriors.ic.runs,
    "smc": lambda c: c.posteriors.smc.jobs * c.posteriors.smc.particles,
    "importance": lambda c: c.posteriors.importance.jobs * c.posteriors.importance.runs,
}
"""Draws of all jobs of an engine."""


def _gather(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    draws = _DRAWING[wildcards["engine"]](config)
    return SNAKEMAKE_MB + 200 + 2 * _draw_mb(config, draws), draws / 100_000


def _summaries(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    """Return the cost of diagnostics or figures, which read the posteriors of all engines."""
    draws = sum(_DRAWING[engine](config) for engine in config.posteriors.engines)
    return SNAKEMAKE_MB + 600 + 2 * _draw_mb(config, draws), 60 + draws / _DRAWS_PER_S


def _report(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    return SNAKEMAKE_MB + 600, 60


def _infer(config: Config, wildcards: Mapping[str, str]) -> tuple[float, float]:
    """Return the cost of every engine for every observation; the draws of one observation are in memory."""
    section = config.observations
    count = section.count if section.count is not None else config.traces.test - section.first
    memory, seconds = 0.0, 0.0
    for engine in section.engines:
        settings = getattr(config.posteriors, engine)
        configured = settings.starts if engine == "smc" else settings.runs
        engine_mb, engine_s = _COSTS[engine](config, wildcards)
        memory = max(memory, engine_mb)
        seconds += engine_s * (section.runs or configured) / configured
    return memory, count * seconds


_COSTS: Mapping[str, Callable[[Config, Mapping[str, str]], tuple[float, float]]] = {
    "simulator": _simulator,
    "generate": _generate,
    "observation": _observation,
    "sort": _sort,
    "verify": _verify,
    "layers": _layers,
    "network": _network,
    "rmh": _rmh,
    "network_rmh": _network_rmh,
    "ic": _ic,
    "smc": _smc,
    "importance": _importance,
    "gather": _gather,
    "infer": _infer,
    "diagnostics": _summaries,
    "figures": _summaries,
    "report": _report,
    "experiment_training": _experiment,
    "experiment_ranks": _experiment,
    "figure2": _report,
    "figure3": _report,
    "figure4": _report,
    "figure5": _report,
    "figure6": _report,
    "learning_rates": _report,
    "optimizers": _report,
    "tables": _report,
    "statements": _statements,
}
