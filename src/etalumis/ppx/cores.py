# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""One core for a client and its simulator.

The two take turns, one draw at a time, and never work at once. On one core a turn costs a context switch; on two it
costs a wake-up of the other core, which takes several times as long.
"""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def one_core(folder: Path | None = None) -> Iterator[int | None]:
    """Pin this process, and the processes and threads it starts meanwhile, to a core that no other call has claimed.

    A claim is a lock on a file, which the system frees however its process ends. Where every core is claimed, or the
    system knows no pinning, nothing is pinned.

    Parameters
    ----------
    folder
        Where the lock files lie, one a core; by default in the temporary folder, one folder a user.

    Yields
    ------
    int or None
        Number of the core.
    """
    claim = _claim(folder or Path(tempfile.gettempdir()) / f"etalumis-cores-{os.getuid()}")
    if claim is None:
        yield None
        return
    core, descriptor = claim
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    logger.debug("pinned to core %d together with the simulator", core)
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)
        os.close(descriptor)


def _claim(folder: Path) -> tuple[int, int] | None:
    """Return (core, descriptor that holds its lock) of a free core."""
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return None
    for core in sorted(os.sched_getaffinity(0)):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(folder / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:  # pinning only saves time: not worth failing for
            logger.debug("no core is claimed: %s", error)
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
        else:
            return core, descriptor
    return None
