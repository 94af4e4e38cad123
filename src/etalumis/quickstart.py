# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""From a Python model to a checked posterior in one call, in this process: `etalumis quickstart`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etalumis import layers
from etalumis.calibration.simulation import simulate
from etalumis.config import Config, from_mapping, load, to_yaml
from etalumis.diagnostics.files import write_diagnostics
from etalumis.diagnostics.headline import headline
from etalumis.diagnostics.run import diagnose
from etalumis.engines import ENGINES, EngineInputs
from etalumis.errors import ConfigError
from etalumis.execution import Model
from etalumis.figures import posteriors, style
from etalumis.files import write_text_atomic
from etalumis.inference import Posterior, importance
from etalumis.products import check_output_folder
from etalumis.traces.format import Provenance
from etalumis.traces.recording.generate import generate
from etalumis.traces.sorting.sort import sort
from etalumis.typing import Array

logger = logging.getLogger(__name__)

PRIOR_RUNS = 2000
"""Runs from the prior that the figure shows."""
FIGURE = "posteriors"
ENGINES_HERE = ("smc", "rmh", "ic", "importance")
"""Engines of a quick start."""
_SETTINGS: dict[str, Any] = {
    "traces": {"train": 5000, "valid": 500, "test": 1, "jobs": 1},
    "network": {
        "embedding": "strided", "conv_channels": [8, 16], "observation_embedding": 32, "lstm_hidden": 32,
        "address_embedding": 8, "mixture_components": 5,
    },
    "training": {
        "tasks": 1, "batch_size": 64, "max_traces": 15_000, "learning_rate": 0.01, "learning_rate_end": 0.0001,
        "noise_ramp_share": 0.0, "valid_every": 100,
    },
    "posteriors": {
        "rmh": {"chains": 2, "runs": 30_000, "thin": 1},
        "smc": {
            "jobs": 1, "start": "prior", "starts": 12_000, "particles": 3000, "conditional_ess": 0.7, "entry_moves": 2,
            "block_moves": 2,
        },
        "ic": {"jobs": 1, "runs": 3000},
        "importance": {"jobs": 1, "runs": 20_000},
    },
    "figures": {"format": ["png"]},
}  # fmt: skip
"""Sizes that suit a model of a few draws, for less than a minute on one core."""


def settings(path: Path | None, engines: Sequence[str] = (), seed: int | None = None) -> Config:
    """Return the configuration of a quick start: that of a file, or one with sizes for a small model.

    Parameters
    ----------
    path
        Configuration file, such as the one that an earlier quick start has left; None: the sizes of this module.
    engines, seed
        In place of those of the file. Without either, the engines are smc and rmh and the seed is 1.

    Raises
    ------
    ConfigError
        If the file is not valid, or names an engine that a quick start does not have.
    """
    config = from_mapping({**_SETTINGS, "run": {"name": "quickstart"}}) if path is None else load(path)
    chosen = tuple(engines) or (("smc", "rmh") if path is None else config.posteriors.engines)
    unknown = [engine for engine in chosen if engine not in ENGINES_HERE]
    if unknown:
        raise ConfigError(
            f"{path}: posteriors.engines: a quick start has the engines {', '.join(ENGINES_HERE)}, found "
            f"{', '.join(unknown)}; choose some of these with --engine"
        )
    given = config.model_dump(mode="json", by_alias=True)
    given["posteriors"]["engines"] = list(chosen)
    given["run"]["seed"] = config.run.seed if seed is None else seed
    return from_mapping(given)


@dataclass(frozen=True)
class Question:
    """What is inferred.

    Attributes
    ----------
    model
        The model.
    observations
        Value of each observe statement, by name.
    truth
        Draws, tags and result behind the observation, if it was simulated.
    source
        The observation in words.
    """

    model: Model
    observations: Mapping[str, Array | None]
    truth: Mapping[str, Array]
    source: str


def ask(model: Model, given: Mapping[str, Array], seed: int) -> Question:
    """Return the question with the given observation, or with one that the model simulates from its prior."""
    if given:
        return Question(model, given, {}, "given on the command line")
    simulated = simulate(model, seed, 0)
    return Question(model, simulated.observations, simulated.truth, f"simulated from the prior, seed {seed}")


@dataclass(frozen=True)
class Answer:
    """Posteriors and their diagnostics, with the files of the figure."""

    posteriors: Sequence[Posterior]
    diagnostics: Mapping[str, Any]
    figure: Sequence[Path]

    def lines(self) -> Iterator[str]:
        """Yield the verdicts and the quantities in words, the conclusion last."""
        for check in self.diagnostics["checks"]:
            yield f"{'ok ' if check['passed'] else 'NOT'}  {check['sentence']}"
        yield ""
        for engine, report in self.diagnostics["engines"].items():
            for key, summary in report["quantities"].items():
                truth = self.diagnostics["truth"].get(key)
                known = "" if truth is None else f"  truth {truth:.4g}"
                yield f"{engine:<11} {key:<16} {summary['mean']:>10.4g} ± {summary['sd']:<10.4g}{known}"
        yield ""
        yield from headline(self.diagnostics)


def answer(question: Question, config: Config, folder: Path) -> Answer:
    """Run the engines of a configuration, check their posteriors, and draw them; all products go into a folder.

    Raises
    ------
    InferenceError
        If the observation does not fit the model.
    StorageError
        If the folder cannot be written.
    """
    check_output_folder(folder)
    write_text_atomic(folder / "config.yaml", to_yaml(config))
    found = [_infer(question, config, engine, folder) for engine in config.posteriors.engines]
    diagnostics = diagnose(found)
    write_diagnostics(folder / "diagnostics" / "diagnostics.json", diagnostics)
    prior = importance(question.model, {}, runs=PRIOR_RUNS, seed=config.run.seed)
    drawing = posteriors.draw(found, diagnostics, {}, prior=prior.values)
    drawing = dataclasses.replace(drawing, stem=FIGURE)
    return Answer(found, diagnostics, style.save(drawing, folder / "figures", config.figures.format))


def _infer(question: Question, config: Config, name: str, folder: Path) -> Posterior:
    """Return the posterior of one engine; IC first trains its network on runs from the prior."""
    network = _train(question.model, config, folder) if name == "ic" else None
    engine = ENGINES[name](EngineInputs(config, None, network=network))
    posterior = engine.sample(question.model, question.observations, seed=config.run.seed, checkpoint=None)
    posterior.truth = {key: value for key, value in question.truth.items() if key in posterior.values}
    posterior.info.update(model=question.model.name, observation=question.source)
    posterior.save(folder / "posteriors" / f"{name}.h5")
    return posterior


def _train(model: Model, config: Config, folder: Path) -> Path:
    """Train a network on runs from the prior, and return its folder."""
    from mpi4py import MPI  # starts MPI, and torch takes seconds: only where they are needed

    from etalumis.training.prepare import train

    for split in ("train", "valid"):
        traces = folder / "traces" / f"{split}-000.h5"
        provenance = Provenance(model=model.name, run_seed=config.run.seed, split=split)
        generate(model, traces, provenance, 0, getattr(config.traces, split), config.simulator.retries)
        sort([traces], folder / "sorted" / split, config.traces.shard_traces)
    table = folder / "layers" / "layers.json"
    layers.build([folder / "sorted" / "train"]).save(table)
    network = folder / "network"
    train(config, table, folder / "sorted" / "train", folder / "sorted" / "valid", network, MPI.COMM_SELF)
    return network


def observation_lines(question: Question) -> Iterator[str]:
    """Yield the observation in words."""
    for name, value in question.observations.items():
        if value is not None:
            shown = ", ".join(f"{number:.4g}" for number in value.ravel()[:10])
            more = ", ..." if value.size > 10 else ""
            yield f"observation {name} = [{shown}{more}], {question.source}"
