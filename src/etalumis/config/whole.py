# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Checks of a configuration as a whole: the workflow can run with it, and what a user may not expect of it."""

from collections.abc import Iterator
from pathlib import Path

from etalumis.config.models import Config
from etalumis.config.posteriors import PosteriorsConfig
from etalumis.config.section import Section
from etalumis.counting import counted
from etalumis.errors import ConfigError

MANIFEST = "manifest.json"
"""File in the folder of a trained network, which training writes last."""


def require_runnable(config: Config) -> None:
    """Raise if the configuration is valid key by key but the workflow cannot run with it.

    Raises
    ------
    ConfigError
        If a minibatch of all ranks has more traces than the training split, or the folder `network.from` has no
        trained network.
    """
    if config.network.from_ is not None:
        _require_network(config.network.from_)
        return
    training = config.training
    minibatch = training.tasks * training.batch_size
    if minibatch > config.traces.train:
        raise ConfigError(
            f"training.batch_size: {training.batch_size} on {counted(training.tasks, 'rank')} (training.tasks) needs "
            f"{counted(minibatch, 'training trace')}, found traces.train: {config.traces.train}. Lower "
            "training.batch_size or training.tasks, or raise traces.train."
        )


def _require_network(folder: str) -> None:
    if not (Path(folder) / MANIFEST).is_file():
        raise ConfigError(
            f"network.from: expected the folder of a trained network, found no {MANIFEST} in {folder}. Train that "
            "network first, correct the path (relative to the folder in which Snakemake runs), or remove the key to "
            "train a network for this run."
        )


def configuration_notes(config: Config) -> Iterator[str]:
    """Yield one line for every key without effect, because of other keys, and for every surprising choice."""
    training, rmh = config.training, config.posteriors.rmh
    if config.network.from_ is not None:
        yield (
            f"network.from: {config.network.from_} is used as it is: no training traces are generated and nothing is "
            "trained, so the sections sorted and training and the other keys of network have no effect"
        )
    if config.traces.observation == "noisy" and training.noise_ramp_share > 0 and training.noise_start < 1:
        yield (
            "training.noise_start and training.noise_ramp_share have no effect with traces.observation: noisy, "
            "since the stored noise cannot be scaled"
        )
    elif training.noise_ramp_share == 0 and _changed(training, "noise_start"):
        yield "training.noise_start has no effect with training.noise_ramp_share: 0"
    for key, needed in (("larc_trust", "larc"), ("momentum", "sgd"), ("adam_betas", "adam")):
        if needed not in training.optimizer and _changed(training, key):
            yield f"training.{key} has no effect with training.optimizer: {training.optimizer}"
    if training.schedule != "multistep" and _changed(training, "milestones"):
        yield f"training.milestones has no effect with training.schedule: {training.schedule}"
    if training.sampler != "buckets" and _changed(training, "buckets"):
        yield f"training.buckets has no effect with training.sampler: {training.sampler}"
    if training.schedule in ("none", "multistep") and _changed(training, "learning_rate_end"):
        yield f"training.learning_rate_end has no effect with training.schedule: {training.schedule}"
    if rmh.temperatures <= 2 and _changed(rmh, "hottest_beta"):
        yield (
            f"posteriors.rmh.hottest_beta has no effect with posteriors.rmh.temperatures: {rmh.temperatures}; "
            "it needs 3 or more"
        )
    if training.max_traces is not None and training.max_minutes is not None:
        yield (
            f"training.max_traces: {training.max_traces} and training.max_minutes: {training.max_minutes:g} are both "
            "set; training ends at the first one reached"
        )
    yield from _smc_notes(config.posteriors)
    for name in ("rmh", "network_rmh"):
        if getattr(config.posteriors, name).chains == 1:
            yield (
                f"posteriors.{name}.chains: 1 leaves the convergence unchecked, since R-hat requires two or more chains"
            )


def _smc_notes(posteriors: PosteriorsConfig) -> Iterator[str]:
    smc = posteriors.smc
    for key in ("in_flight", "replays", "shared_replays"):
        if smc.start == "prior" and _changed(smc, key):
            yield f"posteriors.smc.{key} has no effect with posteriors.smc.start: prior"
    if "smc" in posteriors.engines and smc.jobs == 1:
        yield "posteriors.smc.jobs: 1 leaves the evidence unchecked, which should agree between two or more jobs"


def _changed(section: Section, key: str) -> bool:
    return bool(getattr(section, key) != type(section).model_fields[key].default)
