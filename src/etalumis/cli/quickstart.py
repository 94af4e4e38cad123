# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis quickstart`: from a Python model to a checked posterior."""

from __future__ import annotations

import argparse
import ast
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.cli.arguments import whole_number
from etalumis.cli.logs import say
from etalumis.errors import ConfigError
from etalumis.models.load import load_model
from etalumis.typing import Array

logger = logging.getLogger(__name__)

_SUMMARY = "from a Python model to a checked posterior in one call"
_DESCRIPTION = """\
Infer the posterior of a Python model with two engines, check both, and draw them with the prior. The model is a
function that draws with `sample` and states its likelihood with `observe` (`etalumis serve --help` shows one). The
last lines on standard output say which posterior to rely on.

Without --observe, the observation is simulated from the prior, so that its truth is known: do this first. smc and rmh
need no training; ic first trains a small network.

The folder gets config.yaml (all settings), posteriors/ENGINE.h5, diagnostics/diagnostics.json and
figures/posteriors.png. The sizes suit a model of a few draws that takes less than a millisecond. If a verdict names a
key to raise, edit config.yaml, and give it with --config.
"""
_EPILOG = """\
examples:
  etalumis quickstart coin:toss --output coin
  etalumis quickstart coin:toss --observe heads=1 --engine smc ic --output coin-ic

docs/quick-start.md explains the output, and where to go from there.
"""


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "quickstart", help=_SUMMARY, description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "model", metavar="MODULE:FUNCTION", help="importable from the current folder, as with `python -m`"
    )
    parser.add_argument(
        "--observe", nargs="+", action="extend", type=_observed, default=[], metavar="NAME=VALUE",
        help="observed value of each observe statement: a number, a list, or a file of numbers (text or .npy)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", nargs="+", choices=("smc", "rmh", "ic", "importance"), default=[],
        help="engines (default: smc rmh, or those of the configuration)",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: sizes for a small model)")
    parser.add_argument("--seed", type=whole_number, metavar="S", help="seed of all draws (default: run.seed, or 1)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the products")


def _observed(text: str) -> tuple[str, Array]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    try:
        return name, np.asarray(ast.literal_eval(value), dtype=float)
    except (ValueError, SyntaxError, TypeError):
        if not Path(value).is_file():
            raise argparse.ArgumentTypeError(
                f"{name}: expected a number, a list of numbers such as [1.5,2], or the name of a file, found {value!r}"
            ) from None
    from etalumis.traces.observation import measured

    return name, measured(Path(value), name).observed[name].value


def sources(args: argparse.Namespace) -> Iterator[Path]:
    """Yield the file of the model, if it is in the current folder, and the configuration."""
    yield Path(args.model.partition(":")[0].replace(".", "/")).with_suffix(".py")
    if args.config is not None:
        yield args.config


def run(args: argparse.Namespace) -> int:
    """Infer, check and draw; print the verdicts."""
    from etalumis import quickstart  # seconds to import

    if args.output.is_dir() and any(args.output.iterdir()):
        raise ConfigError(f"{args.output}: is not empty; expected a new folder. Name another one, or delete it")
    names = [name for name, _ in args.observe]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"--observe {repeated[0]}: given {names.count(repeated[0])} times; expected once")
    config = quickstart.settings(args.config, list(dict.fromkeys(args.engine)), args.seed)
    question = quickstart.ask(load_model(args.model), dict(args.observe), config.run.seed)
    for line in quickstart.observation_lines(question):
        say(line)
    found = quickstart.answer(question, config, args.output)
    for line in found.lines():
        say(line)
    say(f"figure: {found.figure[0]}")
    return 0
