# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the workflow's rules are wired with: which files there are, which keys a rule reads, which programs it calls."""

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from etalumis.config import Config, TracesConfig, read
from etalumis.errors import ConfigError
from etalumis.paths import Paths

_KEPT = ("entries", "observation", "tags")
# starts MPI ranks on this machine; a profile for a cluster replaces it
MPIEXEC = "python -m etalumis.mpiexec"
# Snakemake takes only the last one of several
_SINGLE_OPTIONS = (("--config", "-C"), ("--configfile", "--configfiles"))


def read_config(workflow: Any) -> Config:
    """Return the configuration of a Snakemake call.

    Snakemake's own ``config`` is not used: its reader accepts duplicate sections, and does not know `null`.

    Parameters
    ----------
    workflow
        Snakemake's workflow object.

    Raises
    ------
    ConfigError
        If the configuration is not valid, or an option is given that Snakemake would apply in another way.
    """
    for names in _SINGLE_OPTIONS:
        if sum(word.partition("=")[0] in names for word in sys.argv[1:]) > 1:
            raise ConfigError(
                f"{names[0]} is given twice, and Snakemake takes only the last one; write all values after one"
            )
    if workflow.config_settings.replace_workflow_config:
        raise ConfigError(
            "--replace-workflow-config: not supported; files after --configfile replace config/config.yaml"
        )
    return read(workflow.configfiles, workflow.config_settings.config_args or ())


def settings(section: BaseModel, *names: str) -> dict[str, Any]:
    """Return keys of a section of the configuration (all, or those named).

    They are the params of the rules that read them: Snakemake then reruns these rules, and no others, when one changes.
    """
    return section.model_dump(mode="json", include=set(names) if names else None)


def trace_jobs(config: Config, split: str) -> int:
    """Return how many jobs share the generating of a split: only the training split is large."""
    return config.traces.jobs if split == "train" else 1


def recorded(config: Config, split: str) -> TracesConfig:
    """Return the section that says what is kept of the traces of a split.

    The keys are for the large splits. Of test traces everything is kept: the observation, its truth and the figures
    are made from them.
    """
    defaults = {name: TracesConfig.model_fields[name].default for name in _KEPT}
    return config.traces.model_copy(update=defaults) if split == "test" else config.traces


def trace_settings(config: Config, split: str) -> dict[str, Any]:
    """Return what decides the traces of a split, beside the simulator."""
    count, jobs = getattr(config.traces, split), trace_jobs(config, split)
    return {"seed": config.run.seed, "count": count, "jobs": jobs, **settings(recorded(config, split), *_KEPT)}


def figure_formats(config: Config) -> list[str]:
    """Return the file formats of the figures: PNG, which the report shows, and those of the configuration."""
    return list(dict.fromkeys(["png", *config.figures.format]))


def trace_files(paths: Paths, config: Config, split: str) -> list[Path]:
    """Return the trace files of a split: one a generating job."""
    return [paths.traces(split, part) for part in range(trace_jobs(config, split))]


def posterior_files(paths: Paths, config: Config, engine: str) -> list[Path]:
    """Return the posteriors of an engine's chains (rmh) or jobs (ic)."""
    count = {"rmh": config.posteriors.rmh.chains, "ic": config.posteriors.ic.jobs}[engine]
    return [paths.posterior_part(engine, job) for job in range(count)]


def source_files(*places: str, without: str) -> list[Path]:
    """Return some files of the checkout and every file under some folders, but for those under `without`, in order."""
    found = [path for place in map(Path, places) for path in [place, *sorted(place.rglob("*"))] if path.is_file()]
    return [path for path in found if not path.is_relative_to(without)]


def put_environment_first() -> None:
    """Let shell lines find the programs beside this Python, whether or not its environment is activated.

    `etalumis` is one, and `mpiexec` is another where MPI is a wheel.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
