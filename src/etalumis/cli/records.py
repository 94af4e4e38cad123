# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The record of the product that a verb writes, from its arguments."""

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etalumis.cli.logs import mpi_rank
from etalumis.errors import EtalumisError
from etalumis.provenance.record import Making

logger = logging.getLogger(__name__)

_NOT_INPUTS = ("output", "cache", "build_dir", "keep")
_NUMBERS = ("seed", "part", "chain", "job", "trace")


def making(args: argparse.Namespace, words: Sequence[str]) -> Making | None:
    """Return the making of the product of a verb; None if it writes none, or if another rank records it.

    The product is `--output`. Inputs are all other paths among the arguments.
    """
    product = getattr(args, "output", None)
    if not isinstance(product, Path) or mpi_rank() != 0 or getattr(args, "dry_run", False):
        return None
    inputs = list(args.sources(args))
    configuration = _configuration(args.configuration(args))
    numbers = {} if configuration is None else {"run.seed": configuration["run"]["seed"]}
    numbers |= {name: value for name in _NUMBERS if isinstance(value := getattr(args, name, None), int)}
    return Making.begin(words, product, inputs, configuration, numbers)


def paths_among(args: argparse.Namespace) -> Iterator[Path]:
    """Yield the inputs of a verb: all paths among its arguments that are not outputs."""
    for name, value in vars(args).items():
        if name not in _NOT_INPUTS:
            yield from (path for path in (value if isinstance(value, list) else [value]) if isinstance(path, Path))


def config_among(args: argparse.Namespace) -> Path | None:
    """Return the configuration of a verb: `--config`; None if it has no such option, or was given none."""
    path = getattr(args, "config", None)
    return path if isinstance(path, Path) else None


def record(made: Making) -> None:
    """Write the record of a finished product; without one, the product is as good."""
    try:
        made.finish()
    except (EtalumisError, OSError) as error:
        logger.warning("%s: its record could not be written: %s", made.product, error)


def _configuration(path: Path | None) -> dict[str, Any] | None:
    """Return the resolved configuration, without the place of Sherpa; the verb itself reports a wrong one."""
    if path is None:
        return None
    from etalumis.config import load  # half a second to import, which not every verb does

    try:
        config = load(path)
    except EtalumisError:
        return None
    return config.model_dump(mode="json", by_alias=True, exclude={"simulator": {"prefix"}})
