# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis diagnostics`: check whether posteriors can be trusted."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from etalumis import config
from etalumis.cli.logs import say
from etalumis.diagnostics import history
from etalumis.diagnostics.files import write_diagnostics
from etalumis.diagnostics.run import FORMAT, diagnose
from etalumis.errors import InferenceError
from etalumis.files import digest
from etalumis.inference.posterior import Posterior
from etalumis.products import check_output_file

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Compute R-hat, effective sample sizes, Monte Carlo errors, k-hat and the evidence; compare the engines with each other
and with the truth. A verdict on each check goes to standard output, with the likely cause and the setting to change if
it fails. All numbers go to the JSON file.
"""
_EPILOG = """\
example:
  etalumis diagnostics --posteriors results/demo/posteriors/rmh.h5 results/demo/posteriors/ic.h5 \\
      --network results/demo/network --output results/demo/diagnostics/diagnostics.json
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "diagnostics", help="check posteriors: R-hat, ESS, k-hat, agreement of the engines",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="resolved configuration; its digest is stored in the output"
    )
    parser.add_argument("--posteriors", type=Path, nargs="+", required=True, metavar="FILE", help="one file per engine")
    parser.add_argument("--network", type=Path, metavar="DIR", help="trained network; its training is checked too")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument("--force", action="store_true", help="overwrite FILE even if it is another finished product")


def run(args: argparse.Namespace) -> int:
    """Read the posteriors, write diagnostics.json and print the verdicts."""
    check_output_file(args.output, FORMAT, force=args.force)
    result = diagnose(load_posteriors(args.posteriors))
    if args.network is not None:
        losses = history.load(args.network)
        result["training"] = history.summarise(losses)
        result["checks"].insert(0, history.judge(losses).as_dict())
    if args.config is not None:
        result["config_digest"] = digest(
            config.load(args.config).model_dump(mode="json", exclude={"simulator": {"prefix"}})
        )
    write_diagnostics(args.output, result)
    for verdict in result["checks"]:
        say(f"{'ok ' if verdict['passed'] else 'NOT'}  {verdict['sentence']}")
    logger.info("wrote %s", args.output)
    return 0


def load_posteriors(paths: list[Path]) -> list[Posterior]:
    """Load one posterior per engine.

    Raises
    ------
    InferenceError
        If two files are of the same engine.
    """
    posteriors: list[Posterior] = []
    for path in paths:
        posterior = Posterior.load(path)
        if posterior.engine in [p.engine for p in posteriors]:
            raise InferenceError(
                f"{path}: a second posterior of engine {posterior.engine!r}; expected one file per engine. Join the "
                "parts with `etalumis posteriors gather` first."
            )
        posteriors.append(posterior)
    return posteriors
