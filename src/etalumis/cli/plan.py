# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis plan`: what a run will take, by stage."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from etalumis import config, plan
from etalumis.cli.arguments import count
from etalumis.cli.logs import say

_DESCRIPTION = """\
Print jobs, cores, wall time, node hours and bytes of each stage of a run, before it starts. The times come from costs
that were measured with the demo on cores without other load, those of the 3DCNN of the paper from its table 2: other
processors differ, and a training is assumed to use all its threads fully and to wait for no other rank. The total time
is that with as many nodes as all jobs can use.
"""
_EPILOG = """\
example:
  etalumis plan config/paper.yaml --cores-per-node 32
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "plan", help="say what a run will take: time, node hours and bytes by stage",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file", type=Path, metavar="CONFIG", help="configuration")
    parser.add_argument("--cores-per-node", type=count, default=32, metavar="N", help="cores of a node (default: 32)")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    for line in plan.table(config.load(args.file), args.cores_per_node):
        say(line)
    return 0
