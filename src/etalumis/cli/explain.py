# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis explain`: where a product comes from."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from etalumis.cli.logs import say
from etalumis.provenance import chain

_DESCRIPTION = """\
Print where a product comes from, back to the simulator: for each step the command, time, code, seeds, simulator build,
configuration, machine and library versions, and its inputs. Every verb with --output leaves this in a record beside its
product, NAME.provenance.json.

Checksums of all files are compared with the records. A missing or altered input is named, and the exit code is then 1.
Notes name code with uncommitted changes, code that has changed since, and keys of the configuration that have changed.
"""
_EPILOG = """\
examples:
  etalumis explain results/demo/layers/layers.json
  etalumis explain --json results/demo/network
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "explain", help="say where a product comes from, back to the simulator",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("product", type=Path, metavar="PATH", help="file or folder that a verb has written")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the chain; return 1 if something is missing or altered."""
    steps = chain.trace_back(args.product)
    if args.json:
        say(json.dumps([asdict(step) for step in steps], indent=2, default=str))
    else:
        for line in chain.lines(steps):
            say(line)
    return int(any(step.problems for step in steps) or steps[-1].record is None)
