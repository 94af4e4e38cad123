# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The weighted engines by name, each set up once for all observations.

A new engine is a function that sets it up, and a line in `ENGINES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from etalumis.config import Config
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference import Posterior, SmcSettings, compilation, importance, smc
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.proposal_controller import Scopes
from etalumis.simulator.built import BuiltSimulator

S = TypeVar("S", bound=BaseModel)


class Sampler(Protocol):
    """Samples the posterior of one observation."""

    def __call__(
        self, model: Model, observations: Mapping[str, Any], *, seed: int, checkpoint: Checkpoint | None
    ) -> Posterior:
        """Return the posterior; the draws depend on the seed only."""
        ...


@dataclass(frozen=True)
class Engine:
    """An engine with its settings.

    Attributes
    ----------
    name
        Name of the engine.
    settings
        What its draws depend on besides the simulator, the observation and the seed, as JSON values.
    sample
        Samples the posterior of one observation.
    several_processes
        Whether it uses a pool of simulator processes.
    """

    name: str
    settings: dict[str, Any]
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
        Number of runs per observation; None: that of the configuration. For smc, these are the first runs.
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
    return network_file.load_for(inputs.network, inputs.built)


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


ENGINES: dict[str, Callable[[EngineInputs], Engine]] = {"ic": _ic, "smc": _smc, "importance": _importance}
"""Name -> function that sets up the engine."""
