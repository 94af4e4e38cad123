# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The option `--workers`: how many simulator processes a verb uses."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from etalumis.cli.arguments import count
from etalumis.ppx import Pool, Simulator
from etalumis.ppx.cores import one_core
from etalumis.simulator.built import BuiltSimulator


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the option to a verb's parser."""
    parser.add_argument(
        "--workers", type=count, default=1, metavar="N",
        help="simulator processes, forked from one; the result does not depend on it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--pin", action="store_true", help="with several workers: each on a core of its own, by turns")


@contextmanager
def started(built: BuiltSimulator, workers: int, pin: bool = False) -> Iterator[Simulator | Pool]:
    """Start a simulator: a single one on the core of this process, as they take turns; several on all cores."""
    if workers == 1:
        with one_core(), built.start() as simulator:
            yield simulator
    else:
        with built.start(workers, pin) as pool:
            yield pool
