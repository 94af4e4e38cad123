# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM as an exception, so that simulators, sockets and temporary files are cleaned up."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpi4py import MPI

FORWARD_S = 0.5
"""Time in which `mpiexec` forwards the last message of a rank: it discards what it has not read when a rank aborts."""
RETRY_S = 0.05
"""Delay before a swallowed signal is raised once more: the code that swallowed it has returned by then."""


class Terminated(SystemExit):
    """SIGTERM arrived; the exit code is 143, as a shell would report."""


@contextmanager
def terminating() -> Iterator[None]:
    """Raise `Terminated` in the main thread at the first SIGTERM; ignore later ones, which would interrupt the cleanup.

    Python discards exceptions in destructors and weak reference callbacks. If it discards `Terminated` or
    `KeyboardInterrupt` there, the signal is raised again, since the process would go on otherwise.

    Python allows signal handlers in the main thread only; in other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.signal(signal.SIGTERM, _terminate), sys.unraisablehook
    sys.unraisablehook = _raise_again(hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(128 + number)


def _raise_again(hook: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return an unraisable hook that raises the signals that Python discarded, and leaves the rest to `hook`."""

    def raise_again(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Terminated):
            signal.signal(signal.SIGTERM, _terminate)
            number = signal.SIGTERM
        elif isinstance(unraisable.exc_value, KeyboardInterrupt):
            number = signal.SIGINT
        else:
            hook(unraisable)
            return
        # a signal of the system, which also ends a wait
        timer = threading.Timer(RETRY_S, signal.pthread_kill, [threading.main_thread().ident, number])
        timer.daemon = True
        timer.start()

    return raise_again


def abort_all_ranks(comm: MPI.Comm) -> None:
    """End all MPI ranks with exit code 1, after this one has logged the reason."""
    logging.shutdown()
    time.sleep(FORWARD_S)
    comm.Abort(1)
