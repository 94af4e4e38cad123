# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Project folders with the workflow, so that tests do not see the results of the checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from etalumis.config import Config
from etalumis.paths import Paths

LINKED = ("config", "workflow", "profiles", "slurm", "environment.yml", "scripts")
# inputs of rules are copied, so that a test may change them
COPIED = ("src/cpp", "resources")


@dataclass(frozen=True)
class Project:
    """A folder with the workflow, in which tests run Snakemake."""

    root: Path

    def paths(self, run: str) -> Paths:
        """Return the paths of a run."""
        return Paths(run, self.root / "results")

    def snakemake(
        self, *arguments: str, timeout_s: float = 120, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake and return its exit code and joined outputs."""
        words = [sys.executable, "-m", "snakemake", *arguments]
        return self.run_program(words, {**os.environ, **(variables or {})}, timeout_s)

    def run_program(
        self, words: Sequence[str], variables: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end with these environment variables, and return its exit code and joined outputs."""
        return subprocess.run(
            words,
            cwd=self.root,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )


# what salloc sets; without `srun`, MPICH's own mpiexec waits indefinitely
BATCH_VARIABLES = {
    "SLURM_JOB_ID": "1",
    "SLURM_NODELIST": "n[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_TASKS_PER_NODE": "1(x2)",
}


def load_script(path: Path) -> ModuleType:
    """Return a Python file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)  # as if Python was called with it
        spec.loader.exec_module(module)
    return module


def fill_project(root: Path, checkout: Path) -> Path:
    """Link the workflow to a folder and copy its inputs."""
    for name in LINKED:
        (root / name).symlink_to(checkout / name)
    for name in COPIED:
        shutil.copytree(checkout / name, root / name)
    return root


CONFIG = Path("config/test.yaml")


def link_make(root: Path, checkout: Path) -> None:
    """Link what `make` needs to a project: the Makefile, the environment, and the package where this looks for it."""
    (root / "Makefile").symlink_to(checkout / "Makefile")
    (root / ".venv").symlink_to(Path(sys.prefix))
    (root / "src" / "etalumis").symlink_to(checkout / "src" / "etalumis")


def _own_config(root: Path) -> None:
    """Replace the link to the configurations of the checkout by a copy."""
    shared = (root / "config").resolve()
    (root / "config").unlink()
    shutil.copytree(shared, root / "config")


def shrink_default(root: Path, run_name: str) -> None:
    """Give the default configuration of a project the scale of the tests, for commands that name no file."""
    _own_config(root)
    text = (root / CONFIG).read_text(encoding="utf-8")
    assert "run: {name: test, " in text
    text = text.replace("run: {name: test, ", f"run: {{name: {run_name}, ")
    (root / "config" / "config.yaml").write_text(text, encoding="utf-8")


def shrink_follower(root: Path, name: str, run_name: str) -> None:
    """Give a configuration that uses the network of another run the scale of the tests, after `shrink_default`.

    Its own name, network and observation stay. The observation is chosen among fewer traces, so it is the last of them.
    """
    path = root / "config" / name
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    test = yaml.safe_load((root / "config" / "config.yaml").read_text(encoding="utf-8"))
    assert own["network"] == {"from": f"results/{run_name}/network"}
    posteriors = {engine: test["posteriors"][engine] for engine in own["posteriors"]["engines"]}
    small = {
        **own,
        "simulator": test.get("simulator", {}),
        "traces": {"test": test["traces"]["test"]},
        "observation": own["observation"] | {"trace": test["traces"]["test"] - 1},
        "posteriors": {"engines": own["posteriors"]["engines"], **posteriors},
    }
    path.write_text(yaml.safe_dump(small), encoding="utf-8")


def shrink_paper(root: Path) -> None:
    """Give config/paper.yaml of a project the sizes of the tests; every choice that is not a size stays the paper's."""
    _own_config(root)
    path = root / "config" / "paper.yaml"
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    test = yaml.safe_load((root / CONFIG).read_text(encoding="utf-8"))
    sizes = {key: test["network"][key] for key in ("observation_embedding", "lstm_hidden", "address_embedding")}
    engines = {
        engine: {key: test["posteriors"][engine].get(key, value) for key, value in own["posteriors"][engine].items()}
        for engine in own["posteriors"]["engines"]
    }
    small = {
        **own,
        "traces": test["traces"] | {"test": own["observation"]["trace"] + 1},
        "sorted": test["sorted"],
        "network": own["network"] | sizes | {"conv_channels": [4, 4, 8, 8, 8]},
        "training": {key: test["training"].get(key, value) for key, value in own["training"].items()},
        "posteriors": own["posteriors"] | engines,
    }
    path.write_text(yaml.safe_dump(small), encoding="utf-8")


@dataclass(frozen=True)
class Run:
    """A finished run of the workflow at test scale."""

    project: Project
    config: Config
    paths: Paths

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake with the test configuration, as in the shell of `salloc`."""
        words = ["--configfile", str(CONFIG), *arguments]
        return self.project.snakemake(*words, timeout_s=540, variables=BATCH_VARIABLES)


# (lowest, highest) of the keys whose values are not numbers, or whose ends do not fit those of other keys
EXTREMES = {
    "run.name": ("a", "a" + 62 * "-" + "z"),
    "simulator.momentum_gev.px": ([-1.0, 1.0], [-1e9, 1e9]),
    "simulator.momentum_gev.py": ([-1.0, 1.0], [-1e9, 1e9]),
    "simulator.momentum_gev.pz": ([-1.0, 1.0], [-1e9, 1e9]),
    "simulator.prefix": (None, "/a {b}"),
    "traces.tags": ([], ["momentum", "a {b}"]),
    "network.from": (None, "another+run/network-1.0@x"),
    "network.embedding": ("paper", "a.b:C"),
    "network.tags": ({}, {"momentum": ["px", "py"], "a {b}": ["x"]}),
    "network.conv_channels": ([1] * 5, [4096] * 5),
    "observation.name": ("a", "$HOME {x} 'y'"),
    "observation.trace": (0, 10**9 - 1),
    "posteriors.entries": ([], ["all", "[forward+1:2]__Uniform__*", "a {b}"]),
    "observations.first": (0, 10**9 - 1),
    "observations.count": (1, 1),
    "observations.engines": (["smc"], ["ic", "importance"]),
    "observations.probabilities": ([], ["P(channel in {1, 2}) >= 0.9", '"$HOME \'y" > 0']),
    "experiments.lstm_layers": ([1], [16, 1]),
    "experiments.lstm_hidden": ([1], [65536, 1]),
    "experiments.mixture_components": ([1], [1000, 1]),
    "experiments.minibatches": ([1], [10**6, 1]),
    "experiments.learning_rates": ([1e-12], [10.0, 1e-12]),
    "experiments.optimizers": (["sgd"], ["adam", "adam_larc", "sgd", "sgd_larc"]),
    "experiments.schedules": (["none"], ["multistep", "none", "polynomial2", "polynomial1"]),
    "experiments.ranks": ([1], [4096, 1]),
    "figures.format": (["pdf"], ["svg", "png"]),
    "training.adam_betas": ([0.0, 0.0], [0.999999, 0.999999]),
    "training.milestones": ([], [0.001, 0.999]),
    # the minibatch of 65,536 ranks must not exceed the training split
    "training.batch_size": (1, 10**10 // 65536),
    # a chain of 10^10 runs at 1000 temperatures has 10^7 sweeps
    "posteriors.rmh.runs": (1, 10**10),
    "posteriors.rmh.burn_in_fraction": (0.0, 0.5),
    "posteriors.rmh.thin": (1, 10**6),
    # a sweep takes two runs at least, and 1.001 x 10^9 at most
    "posteriors.network_rmh.runs": (2, 10**10),
    "posteriors.network_rmh.burn_in_fraction": (0.0, 0.5),
    "posteriors.network_rmh.thin": (1, 4),
    "posteriors.engines": (["smc"], ["importance", "smc", "ic", "network_rmh", "rmh"]),
    "posteriors.smc.strata": ("a", "$HOME {x} 'y'"),
    "posteriors.smc.block_moves": (1, 10**6),
}


def extremes(model: type[BaseModel], end: str, prefix: str = "") -> dict[str, Any]:
    """Return a configuration in which every key has the lowest or the highest value that it accepts."""
    data: dict[str, Any] = {}
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        key = field.alias or name
        dotted = f"{prefix}{key}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            data[key] = extremes(field.annotation, end, f"{dotted}.")
        elif dotted in EXTREMES:
            data[key] = EXTREMES[dotted][end == "highest"]
        else:
            data[key] = _end_of_range(properties[key], end)
    return data


def _end_of_range(schema: dict[str, Any], end: str) -> Any:
    schema = next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), schema)
    if "enum" in schema:
        return schema["enum"][0 if end == "lowest" else -1]
    whole = schema["type"] == "integer"
    if end == "lowest":
        if "minimum" in schema:
            return schema["minimum"]
        return schema["exclusiveMinimum"] + (1 if whole else 1e-9)
    if "maximum" in schema:
        return schema["maximum"]
    if "exclusiveMaximum" in schema:
        return schema["exclusiveMaximum"] - (1 if whole else 1e-9)
    return 10**9
