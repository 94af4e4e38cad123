# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Standard output and error that can be in any encoding, full or closed without a traceback."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def standard_streams() -> Iterator[None]:
    """Prepare the standard streams for a program, and flush standard output at its end.

    Characters that the encoding lacks are written as escapes, closed streams are opened on the null device. If the
    reader of standard output is gone (``| head``), the block ends early and without an error.

    Raises
    ------
    SystemExit
        If standard output cannot be written, after one message on standard error.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            with _reporting():
                sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()


def write_output(text: str) -> None:
    """Write to standard output.

    Raises
    ------
    SystemExit
        If it cannot be written, after one message on standard error.
    """
    with _reporting():
        sys.stdout.write(text)


def _open_closed_streams() -> None:
    """Open closed descriptors 0 to 2, which the next opened file would get otherwise, and what Python made None."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        sys.stderr.write(f"etalumis: error: standard output: cannot be written ({error.strerror})\n")
        raise SystemExit(1) from error


def _discard_output() -> None:
    """Send what is left in the buffer to the null device; Python would fail on it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
