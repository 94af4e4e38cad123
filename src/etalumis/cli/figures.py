# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis figures`: draw the figures, each with a caption that gives its numbers."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from etalumis import config
from etalumis.cli.diagnostics import load_posteriors
from etalumis.cli.logs import say
from etalumis.counting import counted
from etalumis.diagnostics import history
from etalumis.diagnostics.files import read_diagnostics
from etalumis.figures import inputs, make

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Draw the figures for which input files are given:

  observation               --observation    the test decay in the calorimeter
  event_display             --observation, --config; with --posteriors, the inferred particles
  trace_frequency           --traces         frequencies of trace types and trace lengths
  figure7_loss              --network        training and validation loss, and the loss of the prior
  figure8_posteriors        --posteriors, --diagnostics; with --traces, the prior behind them
  posterior_pairs           --posteriors, --diagnostics
  predictive_check          --posteriors, --diagnostics, --observation
  chains_trace, chains_rank, chains_autocorrelation
                            --posteriors (RMH; with a suffix, RMH with network moves)

Each figure is written in the requested formats, and its caption as NAME.md and NAME.rst.
The verdicts on the posteriors are written to summary.md and summary.rst.
"""
_EPILOG = """\
example:
  R=results/demo
  etalumis figures --config $R/config.yaml --posteriors $R/posteriors/rmh.h5 $R/posteriors/ic.h5 \\
      --diagnostics $R/diagnostics/diagnostics.json --network $R/network --traces $R/sorted/train \\
      --observation $R/observation/observation.h5 --simulator $R/simulator --output $R/figures
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "figures", help="draw the figures, with captions that give the numbers",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE",
        help="resolved configuration, for prior ranges, geometry and formats (default: data ranges, voxel indices)",
    )  # fmt: skip
    parser.add_argument("--posteriors", type=Path, nargs="+", default=[], metavar="FILE", help="one file per engine")
    parser.add_argument("--diagnostics", type=Path, metavar="FILE", help="output of `etalumis diagnostics`")
    parser.add_argument("--network", type=Path, metavar="DIR", help="trained network with its training history")
    parser.add_argument(
        "--traces", type=Path, metavar="PATH", help="traces from the prior: sorted folder, index.json or file"
    )
    parser.add_argument("--observation", type=Path, metavar="FILE", help="observation")
    parser.add_argument(
        "--simulator", type=Path, metavar="DIR", help="built simulator, for the names of the decay channels"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("png", "pdf", "svg"),
        help="file formats (default: those of the configuration, else png)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the figures")


def run(args: argparse.Namespace) -> int:
    """Draw and save the figures, and print their names."""
    settings = config.load(args.config) if args.config else None
    formats = tuple(args.format or (settings.figures.format if settings else ("png",)))
    make.check_output(args.output, formats)
    given = inputs.FigureInputs(
        config=settings,
        posteriors=load_posteriors(args.posteriors),
        diagnostics=read_diagnostics(args.diagnostics) if args.diagnostics else None,
        history=history.load(args.network) if args.network else None,
        traces=inputs.read_frequencies(args.traces) if args.traces else None,
        prior=inputs.read_prior_tags(args.traces) if args.traces and args.posteriors else None,
        observation=inputs.read_observation(args.observation) if args.observation else None,
        channel_labels=inputs.read_channel_labels(args.simulator) if args.simulator else None,
        formats=formats,
    )
    written = make.save_all(given, args.output)
    for path in written:
        say(str(path))
    logger.info("drew %s in %s", counted(len({path.stem for path in written}), "figure"), args.output)
    return 0
