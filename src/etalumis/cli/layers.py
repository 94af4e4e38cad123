# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis layers`: the table of addresses from which the network is built before training."""

import argparse
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from etalumis.cli.logs import say
from etalumis.counting import counted
from etalumis.errors import DatasetError
from etalumis.products import check_output_file

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
List the controlled addresses of a dataset with the kinds of their priors. Each becomes a row of the network, so the
same file gives the same network on all ranks and in inference.
"""
_EPILOG = """\
examples:
  etalumis layers --input results/demo/sorted/train --output results/demo/layers/layers.json
  etalumis layers --input more/sorted/train --grow old/layers.json --output new/layers.json
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "layers", help="list the controlled addresses, each of which becomes a layer of the network",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--input", type=Path, nargs="+", required=True, metavar="PATH", help="sorted folder, index.json or trace files"
    )
    parser.add_argument(
        "--grow",
        type=Path,
        metavar="FILE",
        help="existing table, to which new addresses are appended",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="layer table to write")
    parser.add_argument("--force", action="store_true", help="overwrite FILE even if it is another finished product")


def run(args: argparse.Namespace) -> int:
    """Build, grow and write the table."""
    from etalumis.layers import FORMAT, LayerTable, build

    check_output_file(args.output, FORMAT, force=args.force)
    table = build(args.input)
    if not len(table):
        raise DatasetError(
            f"{args.input[0]}: no controlled entry in any trace; there is nothing for a network to propose"
        )
    if args.grow is not None:
        table = LayerTable.load(args.grow).grow(table)
    table.save(args.output)
    kinds = Counter(f"{row.kind}{f' of {row.categories}' if row.categories else ''}" for row in table.rows)
    logger.info(
        "%s: %s (%s), observation %s",
        args.output, counted(len(table), "address", "addresses"),
        ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        " ".join(f"{layout.name} {layout.shape}" for layout in table.observations),
    )  # fmt: skip
    say(str(args.output))
    return 0
