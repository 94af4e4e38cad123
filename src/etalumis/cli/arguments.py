# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Kinds of arguments that several verbs take, with errors that say what is expected."""

import argparse
from collections.abc import Iterable
from typing import Any

_LONGEST_S = 1e6


class Parser(argparse.ArgumentParser):
    """A parser that takes options and positional arguments in any order.

    argparse gives an optional positional argument up at the first option that comes before it. Where a parser has one,
    the options are therefore taken first, and then the positional arguments.
    """

    _whole_help = ""
    """While the options are taken: the help text, from which argparse has hidden the positional arguments by then."""

    def format_help(self) -> str:
        """Return the help text."""
        return self._whole_help or super().format_help()

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parse what is known; return the namespace and the rest."""
        optional = any(action.nargs == "?" for action in self._get_positional_actions())
        if self._whole_help or not optional:
            return super().parse_known_args(args, namespace)
        self._whole_help = self.format_help()
        try:
            return self.parse_known_intermixed_args(None if args is None else list(args), namespace)
        finally:
            self._whole_help = ""


def count(text: str) -> int:
    """Return a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text}")
    return int(text)


def seconds(text: str) -> float:
    """Return a time span in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < _LONGEST_S:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0 and less than {_LONGEST_S:g}, found {text}")
    return value
