# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The command `etalumis`, with one module of this package per verb.

Each module defines ``register(subparsers)``, which adds its parser, and ``run(args)``, which returns the exit code. It
may define ``sources(args)`` and ``configuration(args)`` for the record of its product, if these are not its arguments.
Only the module of the called verb is imported, so that help is fast.
"""

import argparse
import functools
import gc
import importlib
import logging
import sys
from collections.abc import Sequence

from etalumis import __version__
from etalumis.cli.arguments import Parser
from etalumis.cli.logs import Options, close_logs, open_logs
from etalumis.cli.records import config_among, making, paths_among, record
from etalumis.cli.streams import standard_streams
from etalumis.cli.termination import Terminated, terminating
from etalumis.cli.time_limit import stopping_in_time
from etalumis.errors import EtalumisError
from etalumis.refusals import storage_error, system_errno

logger = logging.getLogger("etalumis")

VERBS = {
    "simulator": "build Sherpa's τ decay with its calorimeter, or couple your own simulator",
    "traces": "run the simulator from its prior and record it; sort, merge, split, convert and verify traces",
    "layers": "list the controlled addresses, each of which becomes a layer of the network",
    "network": "train the 3DCNN-LSTM under MPI",
    "posteriors": "infer the latent choices behind an observation: rmh, network_rmh, ic, smc, importance, gather",
    "calibrate": "check on simulated observations that the posteriors of an engine are right: ranks, coverage",
    "infer": "infer many observations and write one table, with trigger probabilities",
    "diagnostics": "check posteriors: R-hat, ESS, k-hat, agreement of the engines",
    "figures": "draw the figures, with captions that give the numbers",
    "report": "write the report of a run: one HTML page with the whole story",
    "experiments": "train and draw what compares settings, seeds and ranks: figures and tables of the paper",
    "plan": "say what a run will take: time, node hours and bytes by stage",
    "quickstart": "from a Python model to a checked posterior in one call",
    "why": "say why jobs of the workflow would rerun, or not",
    "explain": "say where a product comes from, back to the simulator",
    "serve": "serve a Python function as a simulator over PPX",
    "bench": "measure the protocol (ppx), Sherpa's traces, trace files (dataset), training and the engines (infer)",
    "config": "check a configuration, show it with all defaults, write its schema and key table",
}

_DESCRIPTION = """\
Inference over existing stochastic simulators: which latent choices of a Sherpa τ decay
produced this detector observation?  The stages, in order:

  simulator -> traces -> sorted -> layers -> network -> posteriors -> diagnostics -> figures
"""

_EPILOG = """\
start here:
  make demo                                          everything, on this machine, with a report at the end
  snakemake --cores all                              the same, after `make setup`, with .venv activated
  snakemake --profile slurm                          the same on a cluster
  snakemake --cores all --configfile config/test.yaml   a run of a few minutes

by hand, one step:
  etalumis config show config/config.yaml            all keys with their values
  etalumis traces generate --help                    arguments of a step; every verb has --help
  etalumis traces info results/demo/traces/train-000.h5

with every verb:
  --log FILE    also write the log to FILE    -q, --quiet    warnings and errors only
  -v, --verbose   more detail

An error is reported in one message on standard error, with exit code 1; a usage error has exit code 2.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0; 1 error; 2 usage error; 130 interrupted; 143 terminated."""
    with standard_streams():
        return _run(argv)
    return 0  # the reader of the output is gone


def _run(argv: Sequence[str] | None) -> int:
    options, rest = Options.take(list(sys.argv[1:] if argv is None else argv))
    args = _parse(rest)
    gc.freeze()  # imported objects are permanent; collecting them repeatedly would cost a run of Sherpa 2 %
    try:
        open_logs(options)
        with terminating(), stopping_in_time():
            made = making(args, rest)
            code = int(args.run(args))
            if made is not None and code == 0:
                record(made)
            return code
    except EtalumisError as error:
        logger.error("%s", error, extra={"whole": True})
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted; the same command resumes if possible", extra={"whole": True})
        return 130
    except Terminated as ended:
        logger.error("terminated by SIGTERM; the same command resumes if possible", extra={"whole": True})
        return int(str(ended))
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError) as error:
        if not isinstance(error, OSError) and system_errno(error) is None:
            raise
        logger.debug("traceback", exc_info=True)
        logger.error("%s", _system_error(error), extra={"whole": True})
        return 1
    finally:
        close_logs()


def _system_error(error: OSError | RuntimeError) -> str:
    """Return an unexpected error of the operating system as one message."""
    known = storage_error(getattr(error, "filename", None) or "a file", "used", error)
    return str(known if known is not None else error)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    args = parser(next((word for word in argv if not word.startswith("-")), None)).parse_args(argv)
    assert hasattr(args, "run"), "argparse accepted a verb that was not imported"
    return args


def parser(called: str | None) -> Parser:
    """Return the parser of the command line, in which the called verb has its actions and options."""
    parser = Parser(
        prog="etalumis",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=18),
    )
    parser.add_argument("--version", action="version", version=f"etalumis {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for verb, text in VERBS.items():
        if verb == called:
            module = importlib.import_module(f"etalumis.cli.{verb}")
            module.register(subparsers)
            subparsers.choices[verb].set_defaults(
                run=module.run,
                sources=getattr(module, "sources", paths_among),
                configuration=getattr(module, "configuration", config_among),
            )
        else:
            subparsers.add_parser(verb, help=text)
    return parser
