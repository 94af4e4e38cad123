# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis calibrate`: whether the posteriors of an engine are right, on average over simulated observations."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from etalumis.calibration.cases import FORMAT, case_quantities, read_cases, write_cases
from etalumis.calibration.driver import calibrate, difference, identity_of
from etalumis.calibration.simulation import simulate
from etalumis.calibration.summary import DEFAULT_THRESHOLDS, summarise, usable_cases
from etalumis.calibration.table import csv_text
from etalumis.calibration.usability import DEFAULT_MAX_RHAT, DEFAULT_MIN_ESS
from etalumis.cli.arguments import add_scopes, count
from etalumis.cli.logs import say
from etalumis.cli.workers import add_observation_workers, started
from etalumis.config import Config, load
from etalumis.counting import counted
from etalumis.engines import ENGINES, EngineInputs
from etalumis.errors import InferenceError
from etalumis.figures import calibration as figures
from etalumis.figures import style
from etalumis.figures.inputs import read_channel_labels
from etalumis.files import locked, write_text_atomic
from etalumis.products import check_output_file, check_output_folder
from etalumis.simulator.built import BuiltSimulator

logger = logging.getLogger(__name__)

NAME_CHECK_RUNS = 20
"""Runs from the prior in which a quantity that the user names must occur."""

_SUMMARY = "check on simulated observations that the posteriors of an engine are right: ranks, coverage"
_DESCRIPTION = """\
Check whether the posteriors of an engine are right, on average over the prior (simulation-based calibration): draw a
truth and an observation from the simulator, infer the posterior, and find the rank of the truth in it. If the
posteriors are right, the ranks are uniform, and a central 50 % interval contains the truth in 50 % of the cases. Too
narrow, too wide and biased posteriors are told apart.

The folder gets calibration.json (finished observations and all results), calibration.csv (one row per observation and
quantity), and the figures calibration_ranks, calibration_coverage and, if a quantity is categorical,
calibration_categories (true against most probable value), each with its caption in NAME.md. The verdicts also go to
standard output.

An interrupted command resumes when it is called again. With a larger --observations, it adds observations; with other
limits or quantities, it judges the finished ones again.
"""
_EPILOG = """\
examples, after `make demo`:
  D=results/demo
  etalumis calibrate --config $D/config.yaml --simulator $D/simulator --engine importance --runs 2000 \\
      --observations 20 --output calibration/importance
  etalumis calibrate --config $D/config.yaml --simulator $D/simulator --engine ic --network $D/network --runs 2000 \\
      --output calibration/ic

Posteriors with few effective draws are counted and left out of the verdicts, but never dropped: all results are given
with and without them. docs/how-to-calibrate.md explains the results.
"""


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "calibrate", help=_SUMMARY, description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    parser.add_argument(
        "--simulator", type=Path, required=True, metavar="DIR",
        help="folder of the simulator, from `etalumis simulator build` or `couple`",
    )  # fmt: skip
    parser.add_argument("--engine", choices=list(ENGINES), required=True, help="engine to calibrate")
    parser.add_argument(
        "--network",
        type=Path,
        metavar="DIR",
        help="folder of the trained network, for ic, smc and network_rmh (default: network.from)",
    )
    add_scopes(parser)
    parser.add_argument(
        "--observations", type=count, default=100, metavar="N",
        help="number of simulated observations (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=count, metavar="M",
        help="runs per observation; rmh and network_rmh: of each chain; smc: first runs (default: those of "
        "posteriors.ENGINE)",
    )  # fmt: skip
    parser.add_argument(
        "--unconditioned", nargs="+", action="extend", default=[], metavar="NAME",
        help="observe statements on which the posteriors are not conditioned",
    )  # fmt: skip
    parser.add_argument(
        "--quantities",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="quantities to judge (default: all)",
    )
    parser.add_argument(
        "--categorical", nargs="+", action="extend", default=[], metavar="NAME",
        help="quantities whose values are codes without an order (the decay channel of a tau always is one)",
    )  # fmt: skip
    parser.add_argument(
        "--min-ess", type=_positive, default=DEFAULT_MIN_ESS, metavar="X",
        help="effective draws that a usable posterior has at least (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--max-khat", type=_positive, default=DEFAULT_THRESHOLDS.khat, metavar="X",
        help="largest k-hat of usable weights (default: %(default)g; less for fewer than 2,200 draws)",
    )  # fmt: skip
    parser.add_argument(
        "--max-rhat", type=_positive, default=DEFAULT_MAX_RHAT, metavar="X",
        help="largest R-hat of usable chains (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--format", nargs="+", choices=("png", "pdf", "svg"), help="formats of the figures (default: figures.format)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--force", action="store_true", help="start again, and discard a calibration in DIR")
    add_observation_workers(parser)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Run or resume a calibration, write its results and figures, and print the verdicts."""
    config = load(args.config)
    path, table = args.output / "calibration.json", args.output / "calibration.csv"
    check_output_folder(args.output)
    built = BuiltSimulator(args.simulator, config.simulator)
    engine = ENGINES[args.engine](EngineInputs(config, built, args.runs, args.network, args.scopes))
    origin = {"simulator_build_id": built.build_id, "config_digest": built.config_digest}
    identity = identity_of(engine, config.run.seed, args.unconditioned, args.categorical, origin)
    with locked(path, "writing"):
        _check_existing(path, identity, force=args.force)
        _check_names(args, built, config)
        cases = calibrate(
            lambda: started(built, 1), engine, observations=args.observations, seed=config.run.seed, path=path,
            unconditioned=args.unconditioned, categorical=args.categorical, origin=origin,
            retries=config.simulator.retries, workers=args.workers, pin=args.pin,
        )  # fmt: skip
        thresholds = replace(DEFAULT_THRESHOLDS, ess=args.min_ess, khat=args.max_khat, rhat=args.max_rhat)
        result = summarise(engine.name, cases, thresholds, args.quantities)
        write_cases(path, identity, cases, result)
        write_text_atomic(table, csv_text(cases, list(result["quantities"]), thresholds))
        usable = usable_cases(cases, thresholds)
        for drawing in figures.draw_all(result, cases, usable, read_channel_labels(args.simulator)):
            style.save(drawing, args.output, args.format or config.figures.format)
    for check in result["checks"]:
        say(f"{'ok ' if check['passed'] else 'NOT'}  {check['sentence']}")
    logger.info("wrote %s, with %s", args.output, counted(len(cases), "observation"))
    return 0


def _check_existing(path: Path, identity: dict[str, Any], *, force: bool) -> None:
    """Check that the file is no other calibration, or remove it with `force`."""
    check_output_file(path, FORMAT, force=force, difference=lambda found: difference(read_cases(found)[0], identity))
    if force and path.exists():
        path.unlink()


def _check_names(args: argparse.Namespace, built: BuiltSimulator, config: Config) -> None:
    """Check, before the work, that the named quantities occur in one of the first truths."""
    if not args.quantities and not args.categorical:
        return
    seed, retries = config.run.seed, config.simulator.retries
    with started(built, 1) as simulator:
        truths = [
            simulate(simulator, seed, index, args.unconditioned, retries).truth for index in range(NAME_CHECK_RUNS)
        ]
    known = list(
        dict.fromkeys(quantity.key for truth in truths for quantity in case_quantities(truth, args.categorical))
    )
    for option in ("quantities", "categorical"):
        for name in getattr(args, option):
            if name not in known:
                raise InferenceError(f"--{option} {name}: no such quantity; there are {', '.join(known) or 'none'}")
