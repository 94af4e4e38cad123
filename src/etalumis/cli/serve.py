# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis serve`: serve a Python function as a PPX simulator."""

import argparse
import ast
import logging
from typing import Any

from etalumis.cli.arguments import seconds
from etalumis.cli.termination import Terminated
from etalumis.errors import ConfigError
from etalumis.models.load import load_model
from etalumis.ppx.listen import DEFAULT_PORT, endpoint_of, is_open_to_others
from etalumis.ppx.serve import ModelError, serve

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Serve a Python function as a simulator over PPX. Any PPX client can run it: etalumis or another one.

A model is a function that draws with `sample`, states its likelihood with `observe`, and may record values with `tag`.
In between it may call anything: NumPy, a subprocess, another framework. For example, in coin.py:

  from etalumis.distributions import Beta, Bernoulli
  from etalumis.models import observe, sample

  def toss():
      bias = sample(Beta(2.0, 2.0), name="bias")
      observe(Bernoulli(bias), "heads")
      return bias
"""
_EPILOG = """\
examples:
  etalumis serve coin:toss                       on tcp://127.0.0.1:5555, for this machine only
  etalumis serve coin:toss 6000                  the same on port 6000
  etalumis serve coin:toss ipc:///tmp/coin       on a socket file: faster, protected by file permissions
  etalumis serve coin:toss tcp://192.0.2.7:5555  on one interface, for other machines
  etalumis simulator couple --output coin -- etalumis serve coin:toss {endpoint}
                                                 write a folder that `traces` and `posteriors` take as --simulator

There is no authentication: anyone who can connect can run the model. The command serves until SIGTERM or Ctrl-C (exit
code 0). An error in the model ends it with exit code 1, a traceback and the last address. For a complete example see
docs/how-to-couple-your-own-simulator.md.
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
        help="ipc://PATH, tcp://INTERFACE:PORT, or a port for this machine only (default: %(default)s)",
    )
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        type=_argument,
        metavar="KEY=VALUE",
        help="keyword argument of the function: a Python literal, otherwise text; may be repeated",
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
    """Serve until interrupted."""
    endpoint = endpoint_of(args.address)
    keys = [key for key, _ in args.arg]
    repeated = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if repeated:
        raise ConfigError(f"--arg {repeated[0]}: given {keys.count(repeated[0])} times; expected once per argument")
    model = load_model(args.model, dict(args.arg))

    def bound(at: str) -> None:
        logger.info("serving %s at %s", model.name, at)
        if is_open_to_others(at):
            logger.warning("%s: anyone who can reach this port can run the model; there is no authentication", at)

    def failed(error: ModelError) -> None:
        # the final message is short; the traceback shows where the model failed
        logger.error("%s: error in the model", model.name, exc_info=error.__cause__)

    try:
        serve(model, endpoint, idle_timeout_s=args.idle_timeout, on_bound=bound, on_error=failed)
    except (KeyboardInterrupt, Terminated):
        logger.info("stopping")
    return 0
