# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""One core for a client and its simulator.

The two alternate, one draw at a time, and never work simultaneously. On one core a turn costs a context switch; on two
cores it costs a wake-up of the other core, which takes several times as long.
"""

import fcntl
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

CLAIMS = Path("/dev/null")
"""The one file of a machine that every user can open for writing, in every network namespace."""
_NAMESPACES = Path("/proc/self/ns")
_INITIAL_NAMESPACES = {"ipc": 0xEFFFFFFF, "uts": 0xEFFFFFFE, "pid": 0xEFFFFFFC}
"""Inode numbers that Linux gives to the namespaces of the machine itself (include/linux/proc_ns.h)."""


@contextmanager
def one_core(claims: Path = CLAIMS, namespaces: Path = _NAMESPACES) -> Iterator[int | None]:
    """Pin this process, and the processes and threads that it starts meanwhile, to a core that no other call claims.

    A claim is a lock on the byte of `claims` with the number of the core. All users of a machine see the same locks,
    whatever their temporary folder and network namespace, and the kernel frees a lock when its process ends. Containers
    may have another such file, so nothing is pinned in a container: another container may have claimed the same core.
    Nothing is pinned either if all cores are claimed or the system does not support pinning.

    Parameters
    ----------
    claims
        File whose bytes are locked.
    namespaces
        Folder with the namespaces of this process, which tell whether it runs in a container.

    Yields
    ------
    int or None
        Number of the core; None if nothing is pinned.
    """
    claim = _claim(claims) if _sees_all_claims(namespaces) else None
    if claim is None:
        logger.debug("not pinned: all cores are claimed, or claims of other processes may be invisible here")
        yield None
        return
    core, holder = claim
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    logger.debug("pinned to core %d together with the simulator", core)
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)
        os.close(holder)


def _sees_all_claims(namespaces: Path) -> bool:
    """Return whether this process runs on the machine itself, not in a container."""
    try:
        return all(
            (namespaces / name).readlink().name == f"{name}:[{number}]" for name, number in _INITIAL_NAMESPACES.items()
        )
    except OSError:  # no Linux, or /proc is hidden
        return False


def _claim(claims: Path) -> tuple[int, int] | None:
    """Return (core, file descriptor that holds its claim) of a free core."""
    try:
        holder = os.open(claims, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    for core in sorted(os.sched_getaffinity(0)):
        # struct flock: type, whence, start, length, pid; an open file description owns the lock, not the process
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, core, 1, 0)
        try:
            fcntl.fcntl(holder, fcntl.F_OFD_SETLK, lock)
        except OSError:  # claimed by another process, or the system has no such locks
            continue
        return core, holder
    os.close(holder)
    return None
