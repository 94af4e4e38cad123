# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The parser of the command line, and types of arguments that several verbs use."""

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from etalumis.cli.streams import write_output

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_MAX_SECONDS = 1e6


class Parser(argparse.ArgumentParser):
    """A parser that takes options and positional arguments in any order.

    argparse closes a list of positional arguments, or skips an optional one, at the first option. If a parser has such
    arguments, the options are therefore parsed first, and then the positional arguments. After ``--`` there are no
    options, and argparse's own order applies.
    """

    _whole_help = ""
    """Help text while the options are parsed, when argparse hides the positional arguments."""

    def format_help(self) -> str:
        """Return the help text."""
        return self._whole_help or super().format_help()

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """Write help and version so that a failure ends the command; argparse ignores it."""
        if file is sys.stdout:
            write_output(message)
        else:
            super()._print_message(message, file)

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Return the namespace and the arguments that are not known."""
        words = sys.argv[1:] if args is None else list(args)
        variable = any(action.nargs in ("?", "*", "+") for action in self._get_positional_actions())
        if self._whole_help or not variable or "--" in words:
            return super().parse_known_args(words, namespace)
        self._whole_help = self.format_help()
        try:
            return self.parse_known_intermixed_args(words, namespace)
        finally:
            self._whole_help = ""


def count(text: str) -> int:
    """Parse a positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text}")
    return int(text)


def whole_number(text: str) -> int:
    """Parse a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, found {text}")
    return int(text)


def seconds(text: str) -> float:
    """Parse a time in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0 and less than {_MAX_SECONDS:g}, found {text}")
    return value


def add_scopes(parser: argparse.ArgumentParser) -> None:
    """Add the option that says who draws in rejection loops, with IC."""
    parser.add_argument(
        "--scopes",
        choices=("auto", "first-shot", "prior"),
        default="auto",
        help="ic: source of the draws in rejection loops. first-shot: the network; prior: the simulator; auto: the "
        "simulator if its loop seldom accepts, else the network (default: %(default)s)",
    )
