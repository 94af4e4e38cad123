# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Errors of the operating system, produced for real in this process, also when it runs as root."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def no_free_descriptors() -> Iterator[None]:
    """Let every attempt to open a file fail with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def files_end_at(nbytes: int) -> Iterator[None]:
    """Let no file grow beyond `nbytes`, as on a disk that is full: writing more fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fail_to_read(path: Path) -> str:
    """Replace a file by one that can be opened but not read; return what the system says."""
    path.unlink()
    path.symlink_to("/proc/self/mem")  # nothing is mapped at address 0
    return os.strerror(errno.EIO)


def fail_to_find(path: Path) -> str:
    """Replace a file by one that cannot even be looked up; return what the system says."""
    path.unlink()
    path.symlink_to(path.name)
    return os.strerror(errno.ELOOP)
