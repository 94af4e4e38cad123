# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The options `--workers` and `--pin`, and the start of simulators."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from etalumis.cli.arguments import count
from etalumis.ppx import Pool, Simulator
from etalumis.ppx.cores import one_core
from etalumis.simulator.built import BuiltSimulator


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of a verb whose runs are divided among several simulators."""
    _add(parser, "number of simulator processes, forked from one; does not affect the result (default: %(default)s)")


def add_observation_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of a verb that divides many observations among processes."""
    _add(
        parser,
        "number of observations at a time, each in a process with a simulator of its own; does not affect the results "
        "(default: %(default)s)",
    )


def _add(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--workers", type=count, default=1, metavar="N", help=meaning)
    parser.add_argument(
        "--pin", action="store_true", help="with several workers: pin worker i to core i, modulo the number of cores"
    )


@contextmanager
def started(built: BuiltSimulator, workers: int, pin: bool = False) -> Iterator[Simulator | Pool]:
    """Start a simulator: a single process shares a core with this one, as they alternate; several use all cores."""
    if workers == 1:
        with one_core(), built.start() as simulator:
            yield simulator
    else:
        with built.start(workers, pin) as pool:
            yield pool
