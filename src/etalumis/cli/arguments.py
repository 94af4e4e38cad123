# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Kinds of arguments that several verbs take, with errors that say what is expected."""

import argparse

_LONGEST_S = 1e6


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
