# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis serve`: a Python program as a PPX simulator."""

import argparse
import ast
import logging
import warnings
from typing import Any

from etalumis.cli.arguments import seconds
from etalumis.cli.termination import Terminated
from etalumis.models.frontend import OLD_ORDER
from etalumis.models.load import load_model
from etalumis.ppx.listen import DEFAULT_PORT, endpoint_of, is_open_to_others
from etalumis.ppx.serve import ModelError, serve

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Serve a Python function as a simulator over PPX, for any inference side to run: etalumis, or another PPX client.

A model is a function that draws with `sample`, states its likelihood with `observe`, and may remember with `tag`.
What it computes in between is its own affair: NumPy, a subprocess, another framework. For example, in coin.py:

  from etalumis.distributions import Beta, Bernoulli
  from etalumis.models import observe, sample

  def toss():
      bias = sample(Beta(2.0, 2.0), name="bias")
      observe(Bernoulli(bias), name="heads")
      return bias
"""
_EPILOG = """\
examples:
  etalumis serve coin:toss                       at tcp://127.0.0.1:5555, this machine only
  etalumis serve coin:toss 6000                  the same at port 6000
  etalumis serve coin:toss ipc:///tmp/coin       a socket file: quicker, guarded by file permissions
  etalumis serve coin:toss tcp://192.0.2.7:5555  for other machines, because the interface is written out
  etalumis simulator couple --output coin -- etalumis serve coin:toss {endpoint}
                                                 a folder that `traces` and `posteriors` take as --simulator

There is no authentication: whoever can connect can run the model. It serves until SIGTERM or Ctrl-C (exit code 0); an
error in the model ends it with exit code 1, a traceback, and the last address. docs/how-to-couple-your-own-simulator.md
tells the whole way.
"""


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a Python function as a simulator over PPX",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODULE:FUNCTION", help="importable from the current folder, as with `python -m`"
    )
    parser.add_argument(
        "address",
        nargs="?",
        default=str(DEFAULT_PORT),
        metavar="ADDRESS",
        help="ipc://PATH, tcp://INTERFACE:PORT, or a port on this machine alone (default: %(default)s)",
    )
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        type=_argument,
        metavar="KEY=VALUE",
        help="keyword argument of the function: a Python literal, else text; may be given again",
    )
    parser.add_argument(
        "--idle-timeout", type=seconds, metavar="S", help="stop after S seconds without a message (default: never)"
    )


def _argument(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    warnings.filterwarnings("default", message=OLD_ORDER, category=DeprecationWarning)  # Python hides them in modules
    endpoint = endpoint_of(args.address)
    model = load_model(args.model, dict(args.arg))

    def bound(at: str) -> None:
        logger.info("serving %s at %s", model.name, at)
        if is_open_to_others(at):
            logger.warning("%s: whoever reaches this port can run the model; there is no authentication", at)

    try:
        serve(model, endpoint, idle_timeout_s=args.idle_timeout, on_bound=bound)
    except (KeyboardInterrupt, Terminated):
        logger.info("told to stop")
    except ModelError as error:
        # the message that follows is short; where the model failed is in the traceback of its own error
        logger.error("%s: error in the model", model.name, exc_info=error.__cause__)
        raise
    return 0
