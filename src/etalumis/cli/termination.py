# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM as an exception, so that simulators, sockets and temporary files are cleaned up."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(SystemExit):
    """SIGTERM arrived; the exit code is 143, as a shell would report."""


@contextmanager
def terminating() -> Iterator[None]:
    """Raise `Terminated` in the main thread at the first SIGTERM; ignore later ones, which would interrupt the cleanup.

    Python allows signal handlers in the main thread only; in other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(128 + number)
