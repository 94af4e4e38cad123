# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the workflow's rules are wired with: which files there are, which keys a rule reads, which programs it calls."""

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from etalumis.config import Config
from etalumis.paths import Paths


def settings(section: BaseModel, *names: str) -> dict[str, Any]:
    """Return keys of a section of the configuration (all, or those named).

    They are the params of the rules that read them: Snakemake then reruns these rules, and no others, when one changes.
    """
    return section.model_dump(mode="json", include=set(names) if names else None)


def trace_jobs(config: Config, split: str) -> int:
    """Return how many jobs share the generating of a split: only the training split is large."""
    return config.traces.jobs if split == "train" else 1


def trace_settings(config: Config, split: str) -> dict[str, Any]:
    """Return what decides the traces of a split, beside the simulator."""
    kept = settings(config.traces, "entries", "observation", "tags")
    return {"seed": config.run.seed, "count": getattr(config.traces, split), "jobs": trace_jobs(config, split), **kept}


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
