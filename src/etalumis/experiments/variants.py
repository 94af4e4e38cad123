# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The trainings of the experiments: their names, and what each changes in the configuration of the run."""

import itertools
import re
from typing import Any

from etalumis.config import Config, NetworkConfig, from_mapping
from etalumis.errors import ConfigError

_GRID = re.compile(r"stacks(\d+)-hidden(\d+)-components(\d+)")
_RATE = re.compile(r"minibatch(\d+)-rate(\S+)")
_OPTIMIZER = re.compile(r"(adam|adam_larc|sgd|sgd_larc)-(none|multistep|polynomial1|polynomial2)")
_SEED = re.compile(r"seed(\d+)")
_RANKS = re.compile(r"(paper-)?ranks(\d+)")
_TIMING = re.compile(r"timing-minibatch(\d+)")
VALIDATIONS = 8
"""Validations in a training whose loss is shown, besides that of the first iteration."""


def grid_names(config: Config) -> list[str]:
    """Return the trainings of figure 2, one for each combination of the grid."""
    section = config.experiments
    grid = itertools.product(section.lstm_layers, section.lstm_hidden, section.mixture_components)
    return [f"stacks{layers}-hidden{hidden}-components{components}" for layers, hidden, components in grid]


def rate_names(config: Config) -> list[str]:
    """Return the trainings of section 6.3, one for each minibatch and learning rate."""
    section = config.experiments
    return [f"minibatch{size}-rate{rate:g}" for size in section.minibatches for rate in section.learning_rates]


def optimizer_names(config: Config) -> list[str]:
    """Return the trainings of section 7.1.2, one for each optimizer and schedule."""
    section = config.experiments
    return [f"{optimizer}-{schedule}" for optimizer in section.optimizers for schedule in section.schedules]


def seed_names(config: Config) -> list[str]:
    """Return the trainings of figure 5, which differ by their seeds."""
    return [f"seed{number}" for number in range(1, config.experiments.seeds + 1)]


def rank_names(config: Config) -> list[str]:
    """Return the trainings of figures 4 and 6, which differ by their numbers of ranks."""
    return [f"ranks{number}" for number in config.experiments.ranks]


def timing_names(config: Config) -> list[str]:
    """Return the trainings of figure 6 that differ from `ranks1` by the size of their minibatches.

    With one size, a fit cannot tell the cost of a trace from the fixed cost of a step.
    """
    size = config.experiments.rank_batch_size
    return [f"timing-minibatch{number}" for number in (max(1, size // 2), 2 * size)]


def paper_rank_names(config: Config) -> list[str]:
    """Return the trainings of table 2, with the network of the paper, which differ by their numbers of ranks."""
    return [f"paper-ranks{number}" for number in config.experiments.ranks]


def is_timed(name: str) -> bool:
    """Return whether a training is made for its time: no other job may share its cores."""
    return bool(_RANKS.fullmatch(name) or _TIMING.fullmatch(name))


def ranks_of(name: str) -> int:
    """Return the number of MPI ranks of a training."""
    found = _RANKS.fullmatch(name)
    return int(found[2]) if found else 1


def settings_of(config: Config, name: str) -> Config:
    """Return the configuration of a training of the experiments.

    Parameters
    ----------
    config
        The configuration of the run.
    name
        Name of a training, as the other functions of this module return them.

    Raises
    ------
    ConfigError
        If there is no training of this name, or the training split is smaller than its minibatch.
    """
    section = config.experiments
    data = config.model_dump(mode="json")
    changes: dict[str, Any] = {"max_minutes": None, "threads_per_task": 1, "optimizer": "adam_larc"}
    changes |= {"schedule": "polynomial2", "tasks": 1, "batch_size": section.minibatch}
    if not is_timed(name):
        changes |= {"noise_ramp_share": section.noise_ramp_share}
    if found := _GRID.fullmatch(name):
        keys = ("lstm_layers", "lstm_hidden", "mixture_components")
        data["network"] |= dict(zip(keys, map(int, found.groups()), strict=True))
        changes |= {"max_traces": section.grid_traces}
    elif found := _RATE.fullmatch(name):
        rate = float(found[2])
        changes |= {"max_traces": section.rate_traces, "batch_size": int(found[1]), "learning_rate": rate}
        changes |= {"learning_rate_end": min(rate, config.training.learning_rate_end)}
    elif found := _OPTIMIZER.fullmatch(name):
        changes |= {"max_traces": section.optimizer_traces, "optimizer": found[1], "schedule": found[2]}
    elif found := _SEED.fullmatch(name):
        data["run"] = {**data["run"], "seed": int(found[1])}
        changes |= {"max_traces": section.seed_traces}
    elif found := _RANKS.fullmatch(name):
        ranks = int(found[2])
        if found[1]:  # the defaults are the network of the paper
            data["network"] |= {**NetworkConfig().architecture(), "dtype": config.network.dtype}
        changes |= {"tasks": ranks, "batch_size": section.rank_batch_size}
        iterations = section.paper_iterations if found[1] else section.rank_iterations
        changes |= {"max_traces": iterations * ranks * section.rank_batch_size}
    elif found := _TIMING.fullmatch(name):
        size = int(found[1])
        changes |= {"batch_size": size, "max_traces": section.rank_iterations * size}
    else:
        raise ConfigError(
            f"experiments: {name!r} names no training; expected a name such as {grid_names(config)[0]}, "
            f"{seed_names(config)[0]} or {rank_names(config)[0]}"
        )
    minibatch = changes["tasks"] * changes["batch_size"]
    if minibatch > config.traces.train:
        key = "rank_batch_size" if is_timed(name) else "minibatches" if _RATE.fullmatch(name) else "minibatch"
        raise ConfigError(
            f"experiments.{key}: training {name} needs {minibatch:,} training traces for a minibatch, found "
            f"traces.train: {config.traces.train:,}. Lower experiments.{key}, or raise traces.train."
        )
    iterations = -(-changes["max_traces"] // minibatch)
    # a timing has no validation but that of the first iteration and the last one
    every = iterations if is_timed(name) else max(1, iterations // VALIDATIONS)
    changes |= {"valid_every": every, "warmup_iterations": min(config.training.warmup_iterations, iterations // 10)}
    data["training"] |= changes
    data["network"]["from"] = None
    return from_mapping(data)
