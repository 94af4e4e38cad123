# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Settings of the workflow's rules: the configuration, input files, the keys that a rule reads, environment."""

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from etalumis.config import Config, TracesConfig, read
from etalumis.errors import ConfigError
from etalumis.paths import Paths

_STORED_COLUMNS = ("entries", "observation", "tags")
"""Keys that say which columns of a trace are stored."""
MPIEXEC = "python -m etalumis.mpiexec"
"""Command that starts MPI ranks on this machine; the profile of a cluster replaces it."""
PROGRAMS = "ETALUMIS_PROGRAMS"
"""Environment variable: a folder whose programs the jobs call first, such as an `etalumis` that starts a container."""
KEY_OPTIONS = ("--config", "-C")
"""Names of Snakemake's option for keys of the configuration; it uses only the last one."""
FILE_OPTIONS = ("--configfile", "--configfiles")
"""Names of its option for files, likewise."""


def read_config(workflow: Any) -> Config:
    """Return the configuration of a call of Snakemake.

    Snakemake's own ``config`` is not used: its reader accepts duplicate sections, and reads `null` as text.

    Parameters
    ----------
    workflow
        Snakemake's workflow object.

    Raises
    ------
    ConfigError
        If the configuration is not valid, an option is repeated, or ``--replace-workflow-config`` is given.
    """
    for names in (KEY_OPTIONS, FILE_OPTIONS):
        if sum(word.partition("=")[0] in names for word in sys.argv[1:]) > 1:
            raise ConfigError(
                f"{names[0]} is given twice, but Snakemake uses only the last one; write all values after one"
            )
    if workflow.config_settings.replace_workflow_config:
        raise ConfigError(
            "--replace-workflow-config: not supported; files after --configfile replace config/config.yaml"
        )
    return read(workflow.configfiles, workflow.config_settings.config_args or ())


def settings(section: BaseModel, *names: str) -> dict[str, Any]:
    """Return all keys of a section of the configuration, or those named.

    They are params of the rules that read them, so that Snakemake reruns these rules, and no others, if a key changes.
    """
    return section.model_dump(mode="json", include=set(names) if names else None)


def trace_jobs(config: Config, split: str) -> int:
    """Return the number of jobs that generate a split: `traces.jobs` for the training split, one for the others."""
    return config.traces.jobs if split == "train" else 1


def traces_section(config: Config, split: str) -> TracesConfig:
    """Return the section `traces` with the values that apply to a split.

    Test traces are always stored completely: the observation, its truth and the figures are created from them.
    """
    defaults = {name: TracesConfig.model_fields[name].default for name in _STORED_COLUMNS}
    return config.traces.model_copy(update=defaults) if split == "test" else config.traces


def trace_settings(config: Config, split: str) -> dict[str, Any]:
    """Return all settings that determine the traces of a split, apart from the simulator."""
    count, jobs = getattr(config.traces, split), trace_jobs(config, split)
    return {
        "seed": config.run.seed,
        "count": count,
        "jobs": jobs,
        **settings(traces_section(config, split), *_STORED_COLUMNS),
    }


def training_settings(config: Config) -> dict[str, Any]:
    """Return all settings that determine a network and how long it is trained on stored traces, apart from these."""
    return {
        "seed": config.run.seed,
        "network": config.network.architecture(),
        "training": config.training.model_dump(mode="json", exclude={"online_layers"}),
        "observation": config.observation.name,
    }


def training_folders(paths: Paths, names: list[str]) -> list[Path]:
    """Return the folders of trainings of the experiments."""
    return [paths.experiment_training(name).parent for name in names]


def figure_formats(config: Config) -> list[str]:
    """Return the file formats of the figures: PNG for the report, and those of the configuration."""
    return list(dict.fromkeys(["png", *config.figures.format]))


def trace_files(paths: Paths, config: Config, split: str) -> list[Path]:
    """Return the trace files of a split, one per job."""
    return [paths.traces(split, part) for part in range(trace_jobs(config, split))]


def paths_of(config: Config) -> Paths:
    """Return the paths of the run of a configuration."""
    folder = config.network.from_
    return Paths(config.run.name, network_from=None if folder is None else Path(folder))


def trains(config: Config) -> bool:
    """Return whether the run trains a network, and so needs training and validation traces."""
    return config.network.from_ is None


def prior_traces(paths: Paths, config: Config) -> Path:
    """Return the traces whose types and lengths are drawn: the training traces, or else the test traces."""
    return paths.sorted_index("train") if trains(config) else paths.traces("test", 0)


def posterior_files(paths: Paths, config: Config, engine: str) -> list[Path]:
    """Return the posterior files of the chains or jobs of an engine."""
    section = getattr(config.posteriors, engine)
    count = section.chains if hasattr(section, "chains") else section.jobs
    return [paths.posterior_part(engine, job) for job in range(count)]


def needs_network(config: Config) -> bool:
    """Return whether an engine that infers many observations uses a trained network."""
    engines = config.observations.engines
    return "ic" in engines or ("smc" in engines and config.posteriors.smc.start == "network")


def engine_settings(config: Config, engine: str) -> dict[str, Any]:
    """Return what the draws of one chain or job of an engine depend on, apart from its inputs."""
    section = getattr(config.posteriors, engine)
    keys = [key for key in type(section).model_fields if key not in ("chains", "jobs", "in_flight")]
    return {**settings(section, *keys), **settings(config.posteriors, "entries"), "seed": config.run.seed}


def inference_settings(config: Config) -> dict[str, Any]:
    """Return all settings that determine the results for many observations, apart from simulator and network."""
    return {
        "seed": config.run.seed,
        "noise_seed": config.observation.seed,
        "observations": settings(config.observations),
        "engines": {
            engine: getattr(config.posteriors, engine).model_dump(mode="json", exclude={"jobs", "in_flight"})
            for engine in config.observations.engines
        },
    }


def inference_options(config: Config) -> list[str]:
    """Return the options of `etalumis infer` for the section `observations`.

    Raises
    ------
    ConfigError
        If an expression does not follow the grammar of conditions.
    """
    section = config.observations
    options = ["--engine", *section.engines, "--first", str(section.first)]
    options += [] if section.count is None else ["--count", str(section.count)]
    options += [] if section.runs is None else ["--runs", str(section.runs)]
    if not section.probabilities:
        return options
    from etalumis.inference_table.conditions import ProbabilityColumn  # a second to import: only where it is needed

    return [*options, "--probability", *(str(ProbabilityColumn.parse(text)) for text in section.probabilities)]


def source_files(*places: str, without: str) -> list[Path]:
    """Return the given files and all files in the given folders, except those in `without`, in order."""
    found = [path for place in map(Path, places) for path in [place, *sorted(place.rglob("*"))] if path.is_file()]
    return [path for path in found if not path.is_relative_to(without)]


def launcher(mpi: str, cpus_per_task: int) -> str:
    """Return the command that starts MPI ranks, with the number of CPUs of each if it is `srun`.

    `srun` does not take this number from the job since SLURM 22.05, and Snakemake's job step removes the variables from
    which it took it before: without the option, all threads of a rank would share one CPU.
    """
    if Path(mpi.split()[0]).name != "srun":
        return mpi
    return f"{mpi} --cpus-per-task={cpus_per_task}"


def put_environment_first() -> None:
    """Put the folder of this Python first on the PATH, so that shell lines find its programs without activation.

    These are `etalumis` and `python`, and `mpiexec` if MPI is installed as a wheel. The folder that `PROGRAMS` names
    comes before it.
    """
    first = [os.environ[PROGRAMS]] if os.environ.get(PROGRAMS) else []
    os.environ["PATH"] = os.pathsep.join([*first, str(Path(sys.executable).parent), os.environ["PATH"]])
