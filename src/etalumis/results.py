# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The folder of a run: its version stamp and its resolved configuration."""

import json
from pathlib import Path

from etalumis.config import Config, to_yaml
from etalumis.errors import ConfigError
from etalumis.files import write_json_atomic, write_text_atomic
from etalumis.paths import RESULTS_FORMAT, STAGES, Paths


def check_format(paths: Paths) -> None:
    """Refuse the products of another version of the layout and formats; a new or empty run is accepted.

    Raises
    ------
    ConfigError
        If the run has another version. The message names the folder, both versions, and what to do.
    """
    products = [stage for stage in STAGES if (paths.root / stage).exists()]
    if not products and not paths.format.exists():
        return
    found = _stamp(paths.format)
    if found != RESULTS_FORMAT:
        raise ConfigError(
            f"{paths.root}: made by another version of etalumis: expected {_shown(RESULTS_FORMAT)} in {paths.format}, "
            f"found {_shown(found)}\n"
            f"Nothing was changed. Keep it under another name (mv {paths.root} {paths.root}-old), delete it, or give "
            "the new run another run.name"
        )


def write_run_files(paths: Paths, config: Config) -> None:
    """Write the version stamp and the resolved configuration of a run, unless they are up to date."""
    if not paths.format.exists():
        write_json_atomic(paths.format, RESULTS_FORMAT)
    text = to_yaml(config)
    if not (paths.config.exists() and paths.config.read_text(encoding="utf-8") == text):
        write_text_atomic(paths.config, text)


def _stamp(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return "no JSON"


def _shown(stamp: object) -> str:
    match stamp:
        case None:
            return "no such file"
        case {"format": name, "version": version}:
            return f"{name} version {version}"
        case _:
            return repr(stamp)
