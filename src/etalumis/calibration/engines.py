# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The engines by name, each set up once for all observations.

A new engine is a function that sets it up, and a line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from etalumis.config import Config
from etalumis.errors import InferenceError, NetworkError
from etalumis.execution import Model
from etalumis.inference import Posterior, SmcSettings, compilation, importance, inverse_temperatures, rmh, smc
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.proposal_controller import Scopes
from etalumis.simulator.built import BuiltSimulator

S = TypeVar("S", bound=BaseModel)


class Sampler(Protocol):
    """Samples the posterior of one observation."""

    def __call__(
        self, model: Model, observations: Mapping[str, Any], *, seed: int, checkpoint: Checkpoint | None
    ) -> Posterior:
        """Return the posterior; the draws depend on the arguments only."""
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
    several_processes
        Whether it uses a pool of simulator processes.
    """

    name: str
    settings: Mapping[str, Any] = field(repr=False)
    sample: Sampler
    several_processes: bool = False


@dataclass(frozen=True)
class EngineInputs:
    """What the engines are set up from.

    Attributes
    ----------
    config
        The configuration.
    built
        The simulator.
    runs
        Number of runs per observation; None: that of the configuration. Those of rmh are per chain, and
        those of smc the first runs.
    network
        Folder of the trained network; None if no network was given.
    scopes
        Source of the draws in rejection loops, for the engines that use a network.
    """

    config: Config
    built: BuiltSimulator
    runs: int | None = None
    network: Path | None = None
    scopes: Scopes = "first-shot"


def _with_runs(section: S, key: str, runs: int | None) -> S:
    """Return a section of the configuration with another number of runs, if it is not None."""
    return section if runs is None else section.model_copy(update={key: runs})


def _load_network(inputs: EngineInputs, engine: str) -> tuple[Any, str]:
    """Return the network and its digest."""
    if inputs.network is None:
        raise InferenceError(f"engine {engine}: expected a trained network; give its folder (--network)")
    import torch  # a second to import: only where it is needed

    from etalumis.network import checkpoint as network_file

    torch.set_num_threads(1)
    network = network_file.load(inputs.network)
    misfit = inputs.built.misfit(network.layers.simulator_build_id, network.layers.config_digest)
    if misfit is not None:
        raise NetworkError(
            f"{inputs.network}: trained on another simulator: {misfit}. Train the network on traces of this simulator."
        )
    return network, str(network_file.read_manifest(inputs.network)["tensors_sha256"])


def _ic(inputs: EngineInputs) -> Engine:
    network, network_digest = _load_network(inputs, "ic")
    section = _with_runs(inputs.config.posteriors.ic, "runs", inputs.runs)

    def sample(model: Model, observations: Mapping[str, Any], *, seed: int, checkpoint: Checkpoint | None) -> Posterior:
        return compilation(
            model,
            observations,
            network,
            runs=section.runs,
            seed=seed,
            scopes=inputs.scopes,
            replays=section.replays,
            shared_replays=section.shared_replays,
            in_flight=section.in_flight,
            retries=inputs.config.simulator.retries,
            checkpoint=checkpoint,
        )

    settings = {"network_digest": network_digest, "scopes": inputs.scopes}
    return Engine("ic", {**settings, **section.model_dump(mode="json", exclude={"jobs", "in_flight"})}, sample)


def _importance(inputs: EngineInputs) -> Engine:
    runs = _with_runs(inputs.config.posteriors.importance, "runs", inputs.runs).runs

    def sample(model: Model, observations: Mapping[str, Any], *, seed: int, checkpoint: Checkpoint | None) -> Posterior:
        retries = inputs.config.simulator.retries
        return importance(model, observations, runs=runs, seed=seed, retries=retries, checkpoint=checkpoint)

    return Engine("importance", {"runs": runs}, sample, several_processes=True)


def _smc(inputs: EngineInputs) -> Engine:
    section = _with_runs(inputs.config.posteriors.smc, "starts", inputs.runs)
    given = section.model_dump(mode="json", exclude={"jobs", "in_flight"})
    network, origin = None, {}
    if section.start == "network":
        network, origin["network_digest"] = _load_network(inputs, "smc")

    def sample(model: Model, observations: Mapping[str, Any], *, seed: int, checkpoint: Checkpoint | None) -> Posterior:
        return smc(
            model,
            observations,
            network,
            seed=seed,
            settings=SmcSettings(**{name: given[name] for name in SmcSettings._fields}),
            in_flight=section.in_flight,
            retries=inputs.config.simulator.retries,
            checkpoint=checkpoint,
        )

    return Engine("smc", {**origin, **given}, sample)


def _rmh(inputs: EngineInputs) -> Engine:
    section = _with_runs(inputs.config.posteriors.rmh, "runs", inputs.runs)
    if section.sweeps - section.burn_in < section.thin:
        raise InferenceError(
            f"engine rmh: expected enough runs for one draw, found {section.runs}: {section.sweeps} sweeps of "
            f"{section.temperatures} temperatures, {section.burn_in} of them burn-in, and a draw per {section.thin} "
            "sweeps. Raise --runs."
        )

    def chain(model: Model, observations: Mapping[str, Any], number: int, seed: int) -> Posterior:
        return rmh(
            model,
            observations,
            runs=section.runs,
            seed=seed,
            chain=number,
            burn_in=section.burn_in,
            thin=section.thin,
            betas=inverse_temperatures(section.temperatures, section.hottest_beta),
            retries=inputs.config.simulator.retries,
        )

    def sample(model: Model, observations: Mapping[str, Any], *, seed: int, checkpoint: Checkpoint | None) -> Posterior:
        return Posterior.concatenate([chain(model, observations, number, seed) for number in range(section.chains)])

    return Engine("rmh", section.model_dump(mode="json"), sample, several_processes=True)


ENGINES: dict[str, Callable[[EngineInputs], Engine]] = {"ic": _ic, "smc": _smc, "rmh": _rmh, "importance": _importance}
"""Name -> function that sets up the engine."""
