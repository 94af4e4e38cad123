# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis infer`: infer many observations and write one table."""

import argparse
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.cli.arguments import add_scopes, count, whole_number
from etalumis.cli.logs import say
from etalumis.cli.workers import add_observation_workers, started
from etalumis.config import Config, load
from etalumis.counting import counted
from etalumis.errors import InferenceError
from etalumis.files import locked
from etalumis.inference.posterior import MARKOV_ENGINES
from etalumis.inference_table import (
    ENGINES,
    EngineInputs,
    InferenceTable,
    ObservationSource,
    Outcome,
    ProbabilityColumn,
    from_files,
    from_traces,
    infer_all,
)
from etalumis.inference_table.record import FAILED, RELIABLE
from etalumis.products import check_output_folder
from etalumis.simulator.built import BuiltSimulator
from etalumis.traces.reading.dataset import TraceDataset

logger = logging.getLogger(__name__)

_SUMMARY = "infer many observations and write one table, with trigger probabilities"
_DESCRIPTION = """\
Infer the latent choices behind many observations, and write a table with one row per observation: effective sample
size, k-hat, log evidence, a verdict, mean, error, sd and quantiles of each quantity, the probability of each decay
channel, and the truth if it is known. The network is loaded once, and each worker starts one simulator. With
`--engine ic smc`, observations for which inference compilation gives no reliable result are repaired by sequential
Monte Carlo; the table says which engine gave each result.

The observations are files or folders of `etalumis traces observation` (--observations; each file .h5 in a folder is one
observation, each subfolder one observation in several files), or traces with noise (--traces).

NAME.csv is the table. NAME.jsonl has all numbers, one line per observation; an interrupted command resumes from it, and
observations can be added later. An observation that fails does not stop the others; the same command tries it again.
"""
_EPILOG = """\
probabilities: CONDITION or 'P(CONDITION) >= THRESHOLD'. A condition compares quantities (columns of the table) with
numbers: <, <=, >, >=, ==, !=, in {1, 2}, not in {1, 2}, in [0, 0.5] (an interval); and, or, not, parentheses.

examples, after `make demo`:
  D=results/demo
  etalumis infer --config $D/config.yaml --simulator $D/simulator --network $D/network --traces $D/traces/test-000.h5 \\
      --count 2 --output test.csv
  etalumis infer --config $D/config.yaml --simulator $D/simulator --network $D/network \\
      --observations $D/observation --probability 'P(px > 0) >= 0.9' --keep kept --output triggers.csv

docs/how-to-infer-many-observations.md explains the columns and how to use them.
"""


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "infer", help=_SUMMARY, description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    parser.add_argument(
        "--simulator", type=Path, required=True, metavar="DIR",
        help="folder of the simulator, from `etalumis simulator build` or `couple`",
    )  # fmt: skip
    parser.add_argument(
        "--engine", nargs="+", choices=[name for name in ENGINES if name not in MARKOV_ENGINES], default=["ic"],
        help="engine (default: ic); a second one is used for the observations without a reliable result",
    )  # fmt: skip
    parser.add_argument(
        "--network",
        type=Path,
        metavar="DIR",
        help="folder of the trained network, for ic and smc (default: network.from)",
    )
    add_scopes(parser)
    parser.add_argument(
        "--runs", type=count, metavar="N",
        help="simulator runs per observation; for smc, first runs (default: those of the engine in the configuration)",
    )  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--observations", type=Path, nargs="+", action="extend", metavar="PATH", help="observation files or folders"
    )
    source.add_argument(
        "--traces", type=Path, nargs="+", action="extend", metavar="FILE", help="trace files, or a sorted folder"
    )
    parser.add_argument(
        "--first", type=whole_number, metavar="K", help="with --traces: number of the first trace (default: 0)"
    )
    parser.add_argument("--count", type=count, metavar="N", help="with --traces: number of traces (default: all)")
    parser.add_argument(
        "--seed", type=whole_number, metavar="S", help="with --traces: seed of the noise (default: observation.seed)"
    )
    parser.add_argument(
        "--unconditioned", nargs="+", action="extend", default=[], metavar="NAME",
        help="observe statements on which the posteriors are not conditioned",
    )  # fmt: skip
    parser.add_argument(
        "--probability", nargs="+", action="extend", default=[], metavar="EXPRESSION",
        help="add the posterior probability of a condition to the table, see below",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="folder to keep the posterior file of each observation"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="NAME.csv", help="table to write")
    parser.add_argument("--force", action="store_true", help="start a new table even if NAME exists")
    add_observation_workers(parser)


def run(args: argparse.Namespace) -> int:
    """Infer the observations; return 1 if one of them failed."""
    columns = [ProbabilityColumn.parse(text) for text in args.probability]
    config = load(args.config)
    if args.keep is not None:
        check_output_folder(args.keep)
    built = BuiltSimulator(args.simulator, config.simulator)
    sources = _sources(args, config, built)
    entries = tuple(config.posteriors.entries) if args.keep is not None else ()
    inputs = EngineInputs(config, built, args.runs, args.network, args.scopes, entries)
    engines = [ENGINES[name](inputs) for name in dict.fromkeys(args.engine)]
    identity = {
        "engines": [engine.name for engine in engines],
        "settings": {engine.name: engine.settings for engine in engines},
        "seed": config.run.seed,
        "simulator_build_id": built.build_id,
        "config_digest": built.config_digest,
        "noise_seed": None if args.traces is None else _noise_seed(args, config),
        "probabilities": [str(column) for column in columns],
    }
    with locked(args.output, "writing"):
        table = InferenceTable(args.output, identity, force=args.force)
        outcome = infer_all(
            sources,
            lambda: started(built, 1),
            engines,
            table,
            seed=config.run.seed,
            columns=columns,
            keep=args.keep,
            built=built,
            workers=args.workers,
            pin=args.pin,
        )
    _report(table, outcome)
    say(str(args.output))
    return 1 if outcome.failed else 0


def _sources(args: argparse.Namespace, config: Config, built: BuiltSimulator) -> list[ObservationSource]:
    if args.traces is None:
        for option in ("first", "count", "seed"):
            if getattr(args, option) is not None:
                raise InferenceError(f"--{option}: belongs to --traces; observation files have their noise already")
        return from_files(args.observations, args.unconditioned)
    dataset = TraceDataset(args.traces)
    origin = dataset.provenance
    misfit = built.misfit(origin.simulator_build_id, origin.config_digest, origin.settings)
    if misfit is not None:
        raise InferenceError(
            f"{dataset.paths[0]}: traces of another simulator: {misfit}. Give the simulator and the configuration that "
            "they were generated with."
        )
    return from_traces(dataset, args.first or 0, args.count, _noise_seed(args, config), args.unconditioned)


def _noise_seed(args: argparse.Namespace, config: Config) -> int:
    return config.observation.seed if args.seed is None else int(args.seed)


def _report(table: InferenceTable, outcome: Outcome) -> None:
    records = [record for record in table.records.values() if record["status"] != FAILED]
    if records:
        reliable = Counter(record["engine"] for record in records if record["status"] == RELIABLE)
        logger.info(
            "%s: %s, %d of them reliable (%s); median efficiency %.2g %%",
            table.path, counted(len(records), "observation"), reliable.total(),
            ", ".join(f"{engine} {number}" for engine, number in reliable.items()) or "none",
            100 * float(np.median([record["efficiency"] for record in records])),
        )  # fmt: skip
    if outcome.failed:
        logger.error(
            "%d of %s failed: %s. The table has the others; correct these and call the same command again",
            len(outcome.failed), counted(outcome.total, "observation"), ", ".join(outcome.failed),
        )  # fmt: skip
