# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The engines by name, each set up once from a configuration, for one observation or many.

A new engine is a function that sets it up, and a line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from etalumis.config import Config, NetworkRmhConfig, RmhConfig
from etalumis.errors import DatasetError, InferenceError, NetworkError
from etalumis.execution import Model
from etalumis.inference import (
    NetworkRmhSettings,
    Posterior,
    SmcSettings,
    compilation,
    importance,
    inverse_temperatures,
    network_rmh,
    rmh,
    smc,
)
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.scope_choice import Scopes
from etalumis.simulator.built import BuiltSimulator

S = TypeVar("S", bound=BaseModel)

ENGINE_LOGGERS = ("etalumis.progress", "etalumis.inference")
"""Loggers of the progress of an engine, which hides that of a loop over observations."""


class Sampler(Protocol):
    """Samples the posterior of one observation."""

    def __call__(
        self,
        model: Model,
        observations: Mapping[str, Any],
        *,
        seed: int,
        checkpoint: Checkpoint | None,
        number: int | None = None,
    ) -> Posterior:
        """Return the posterior of a job or chain; the draws depend on the arguments only.

        Without a `number`, this is job 0, or all chains of the configuration.
        """
        ...


@dataclass(frozen=True)
class Engine:
    """An engine with its settings.

    Attributes
    ----------
    name
        Name of the engine, as in posterior files.
    settings
        What its draws depend on besides the simulator, the observation and the seed, as JSON values.
    sample
        Samples the posterior of one observation.
    """

    name: str
    settings: Mapping[str, Any] = field(repr=False)
    sample: Sampler


@dataclass(frozen=True)
class EngineInputs:
    """What the engines are set up from.

    Attributes
    ----------
    config
        The configuration.
    built
        The simulator, to which a network must belong; None: a model in this process.
    runs
        Number of runs per observation; None: that of the configuration. Those of rmh and network_rmh are
        per chain, and those of smc the first runs.
    network
        Folder of the trained network; None: that of `network.from`.
    scopes
        Source of the draws in rejection loops, for IC.
    entries
        Patterns of the controlled draws to keep, as `posteriors.entries`.
    """

    config: Config
    built: BuiltSimulator | None
    runs: int | None = None
    network: Path | None = None
    scopes: Scopes = "auto"
    entries: tuple[str, ...] = ()


def _with_runs(section: S, key: str, runs: int | None) -> S:
    """Return a section of the configuration with another number of runs, if it is not None."""
    return section if runs is None else section.model_copy(update={key: runs})


def _load_network(inputs: EngineInputs, engine: str) -> tuple[Any, str]:
    """Return the network of `inputs.network` or `network.from`, and the digest of its tensors."""
    import torch  # a second to import: only where it is needed

    from etalumis.network import checkpoint as network_file

    configured = inputs.config.network.from_
    if inputs.network is None and configured is None:
        remedy = "; or set posteriors.smc.start to prior" if engine == "smc" else ""
        raise NetworkError(
            f"engine {engine}: no trained network is given; give its folder with --network, or set network.from{remedy}"
        )
    torch.set_num_threads(1)
    folder = Path(configured or "") if inputs.network is None else inputs.network
    from_key = configured is not None and folder == Path(configured)
    if inputs.built is None:
        return network_file.load(folder), str(network_file.read_manifest(folder)["tensors_sha256"])
    try:
        return network_file.load_for(folder, inputs.built)
    except (NetworkError, DatasetError) as error:
        if not from_key:
            raise
        raise NetworkError(
            f"network.from: {error} Or name a network of this simulator in the key, or remove the key to train one."
        ) from error


def _entries_setting(inputs: EngineInputs) -> dict[str, Any]:
    return {"entries": list(inputs.entries)} if inputs.entries else {}


def _one_job(engine: Callable[..., Posterior], inputs: EngineInputs, **settings: Any) -> Sampler:
    """Return the sampler of an engine that has jobs."""

    def sample(
        model: Model,
        observations: Mapping[str, Any],
        *,
        seed: int,
        checkpoint: Checkpoint | None,
        number: int | None = None,
    ) -> Posterior:
        return engine(
            model, observations, seed=seed, job=number or 0, retries=inputs.config.simulator.retries,
            entries=inputs.entries, checkpoint=checkpoint, **settings,
        )  # fmt: skip

    return sample


def _ic(inputs: EngineInputs) -> Engine:
    network, network_digest = _load_network(inputs, "ic")
    section = _with_runs(inputs.config.posteriors.ic, "runs", inputs.runs)
    given = section.model_dump(exclude={"jobs"})
    sample = _one_job(compilation, inputs, network=network, scopes=inputs.scopes, **given)
    origin = {"network_digest": network_digest, "scopes": inputs.scopes, **_entries_setting(inputs)}
    return Engine("ic", {**origin, **section.model_dump(mode="json", exclude={"jobs", "in_flight"})}, sample)


def _importance(inputs: EngineInputs) -> Engine:
    runs = _with_runs(inputs.config.posteriors.importance, "runs", inputs.runs).runs
    sample = _one_job(importance, inputs, runs=runs)
    return Engine("importance", {"runs": runs, **_entries_setting(inputs)}, sample)


def _smc(inputs: EngineInputs) -> Engine:
    section = _with_runs(inputs.config.posteriors.smc, "starts", inputs.runs)
    given = section.model_dump(mode="json", exclude={"jobs", "in_flight"})
    network, origin = None, _entries_setting(inputs)
    if section.start == "network":
        network, origin["network_digest"] = _load_network(inputs, "smc")
    settings = SmcSettings(**{name: given[name] for name in SmcSettings._fields})
    sample = _one_job(
        smc, inputs, network=network, settings=settings, strata=section.strata, in_flight=section.in_flight
    )
    return Engine("smc", {**origin, **given}, sample)


def _all_chains(engine: Callable[..., Posterior], inputs: EngineInputs, chains: int, **settings: Any) -> Sampler:
    """Return the sampler of an engine that has chains."""

    def sample(
        model: Model,
        observations: Mapping[str, Any],
        *,
        seed: int,
        checkpoint: Checkpoint | None,
        number: int | None = None,
    ) -> Posterior:
        def chain(number: int, checkpoint: Checkpoint | None) -> Posterior:
            return engine(
                model, observations, seed=seed, chain=number, retries=inputs.config.simulator.retries,
                entries=inputs.entries, checkpoint=checkpoint, **settings,
            )  # fmt: skip

        if number is not None:
            return chain(number, checkpoint)
        # a checkpoint belongs to one chain
        return Posterior.concatenate([chain(k, None) for k in range(chains)])

    return sample


def _check_length(engine: str, section: RmhConfig | NetworkRmhConfig) -> None:
    if (reason := section.too_short()) is not None:
        raise InferenceError(f"engine {engine}: {reason}. Raise --runs.")


def _rmh(inputs: EngineInputs) -> Engine:
    section = _with_runs(inputs.config.posteriors.rmh, "runs", inputs.runs)
    _check_length("rmh", section)
    betas = inverse_temperatures(section.temperatures, section.hottest_beta)
    sample = _all_chains(
        rmh, inputs, section.chains, runs=section.runs, burn_in=section.burn_in, thin=section.thin, betas=betas
    )
    settings = {**section.model_dump(mode="json"), **_entries_setting(inputs)}
    return Engine("rmh", settings, sample)


def _network_rmh(inputs: EngineInputs) -> Engine:
    section = _with_runs(inputs.config.posteriors.network_rmh, "runs", inputs.runs)
    _check_length("network_rmh", section)
    network, network_digest = _load_network(inputs, "network_rmh")
    moves = NetworkRmhSettings(**section.model_dump(include=set(NetworkRmhSettings._fields)))
    sample = _all_chains(
        network_rmh, inputs, section.chains, network=network, runs=section.runs, burn_in=section.burn_in,
        thin=section.thin, init_runs=section.init_runs, settings=moves, in_flight=section.in_flight,
    )  # fmt: skip
    origin = {"network_digest": network_digest, **_entries_setting(inputs)}
    return Engine("network_rmh", {**origin, **section.model_dump(mode="json", exclude={"in_flight"})}, sample)


ENGINES: dict[str, Callable[[EngineInputs], Engine]] = {
    "ic": _ic,
    "smc": _smc,
    "rmh": _rmh,
    "network_rmh": _network_rmh,
    "importance": _importance,
}
"""Name -> function that sets up the engine."""
