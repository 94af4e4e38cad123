# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis posteriors export`: posteriors as tables and in the format of ArviZ."""

import argparse
import importlib.util
import logging
from pathlib import Path
from typing import Any

from etalumis.counting import counted
from etalumis.errors import InferenceError
from etalumis.files import atomic_path, require_writable
from etalumis.inference import Posterior

logger = logging.getLogger(__name__)

FORMATS = (".csv", ".nc", ".parquet")

_SUMMARY = "write a posterior as a table or for ArviZ: .csv, .nc or .parquet"
_DESCRIPTION = """\
Write a posterior for other programs. The ending of the output selects the format:

  .csv      a table with one row per draw: chain, log weight, log likelihood, log prior, trace type, values
  .parquet  the same table (requires pyarrow: pip install pyarrow)
  .nc       netCDF with the groups of ArviZ: posterior, sample_stats, constant_data (the truth)

The draws of ic and importance are weighted: use exp(log_weight) as weights, or resample to draws of equal weight.
More of these than the effective sample size add no information.

--entries adds the draws of the simulator by address, if the file keeps them (configuration key posteriors.entries).
Cells are empty (NaN) if a trace does not have the address.
"""
_EPILOG = """\
examples, after `make demo`:
  R=results/demo
  etalumis posteriors export --input $R/posteriors/ic.h5 --output ic.csv
  etalumis posteriors export --input $R/posteriors/ic.h5 --resample 50 --output ic.nc

with posteriors.entries: [all] in the configuration:
  etalumis posteriors export --input $R/posteriors/rmh.h5 --entries all --output rmh.csv
"""


def register(actions: Any) -> None:
    """Add the action `export` to the parser of `etalumis posteriors`."""
    parser = actions.add_parser(
        "export", help=_SUMMARY, description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help="posterior file")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write: .csv, .nc, .parquet")
    parser.add_argument(
        "--entries", nargs="+", action="extend", default=[], metavar="PATTERN",
        help="add the kept draws whose address or name matches a pattern (`*`, `?`); all: every kept draw",
    )  # fmt: skip
    parser.add_argument(
        "--resample", type=int, metavar="N", help="write N draws of equal weight, chosen by the weights"
    )


def export(args: argparse.Namespace) -> None:
    """Write the output.

    Raises
    ------
    InferenceError
        If the format is unknown or needs a missing library, or the posterior does not have what is requested.
    """
    ending = args.output.suffix.lower()
    if ending not in FORMATS:
        raise InferenceError(f"--output {args.output}: expected a name that ends in {', '.join(FORMATS)}")
    if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InferenceError(
            f"--output {args.output}: writing .parquet requires pyarrow; install it (pip install pyarrow), or write "
            ".csv or .nc"
        )
    require_writable(args.output, "exported posterior")
    posterior = Posterior.load(args.input)
    if args.resample is not None:
        posterior = posterior.resample(args.resample)
    write(posterior, args.output, args.entries)
    weights = "of equal weight" if args.resample is not None or posterior.is_markov else "with weights"
    logger.info("%s: %s %s", args.input, counted(len(posterior), "draw"), weights)


def write(posterior: Posterior, path: Path, entries: list[str]) -> None:
    """Write a posterior in the format of the ending of `path`, whole or not at all."""
    ending = path.suffix.lower()
    content = posterior.to_arviz(entries) if ending == ".nc" else posterior.to_pandas(entries)
    with atomic_path(path) as temporary:
        if ending == ".nc":
            content.to_netcdf(temporary, engine="h5netcdf")
        elif ending == ".csv":
            content.to_csv(temporary)
        else:
            content.to_parquet(temporary)
