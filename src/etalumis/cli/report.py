# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis report`: the story of a run on one HTML page."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from etalumis.cli.logs import say
from etalumis.files import write_text_atomic
from etalumis.report import content, page

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Write the report of a finished run: what was asked and observed, what the network learned, the posteriors and whether
to believe them, speed, configuration and versions. It is one file with all figures inside, which can be handed on;
links lead to the data beside it. The figures must exist as PNG (`etalumis figures`).
"""
_EPILOG = """\
example:
  etalumis report --run results/demo --output results/demo/report.html
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "report", help="write the report of a run: one HTML page with the whole story",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--run", dest="folder", type=Path, required=True, metavar="DIR", help="folder of a run, as results/demo"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="HTML file to write")


def sources(args: argparse.Namespace) -> list[Path]:
    """Return the products that the page shows."""
    return [
        args.folder / name
        for name in ("config.yaml", "simulator", "network", "diagnostics/diagnostics.json", "figures")
    ]


def configuration(args: argparse.Namespace) -> Path:
    """Return the configuration of the run."""
    return Path(args.folder, "config.yaml")


def run(args: argparse.Namespace) -> int:
    """Write the page, and print its name."""
    found = content.collect(args.folder, args.output)
    write_text_atomic(args.output, page.render(found))
    logger.info("wrote %s with %d figures", args.output, len(found.pictures))
    say(str(args.output))
    return 0
