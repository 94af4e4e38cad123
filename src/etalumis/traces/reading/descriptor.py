# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files that are read at given places: opened when needed, and never more at a time than the system allows."""

import os
import threading
import weakref
from collections import deque
from pathlib import Path

from etalumis.errors import DatasetError

MOST_OPEN = 128
"""Files that a process holds open; a dataset of thousands of shards stays below the usual limit of 1024."""


class _Opened:
    """One file descriptor; it is closed when the last one who reads it lets it go."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.process = os.getpid()

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class Descriptor:
    """A file whose bytes can be read from any thread and after a fork.

    It is opened at the first reading, again in a process that inherited it, and again after it was closed because
    `MOST_OPEN` others were opened since.

    Raises
    ------
    OSError
        Where the file is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _identity(path.stat())
        self._opened: _Opened | None = None

    def read(self, size: int, place: int) -> bytes:
        """Return `size` bytes from byte `place` on.

        Raises
        ------
        DatasetError
            Where the file was replaced or altered since it was opened first.
        ValueError
            Where it ends before.
        """
        opened = self._opened
        if opened is None or opened.process != os.getpid():
            opened = self._open()
        content = os.pread(opened.number, size, place)
        if len(content) != size:
            raise ValueError(f"expected {size} bytes from byte {place} on, found {len(content)}")
        return content

    def close(self) -> None:
        """Close the file; it is opened again if it is read again."""
        self._opened = None

    def _open(self) -> _Opened:
        opened = _Opened(self.path)
        if _identity(os.fstat(opened.number)) != self._identity:
            raise DatasetError(
                f"{self.path}: the file was replaced or altered while it was being read; run the same command again"
            )
        self._opened = opened
        _pool.admit(self)
        return opened


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Pool:
    """The files that are open, in the order in which they were opened; the oldest is closed where they are too many."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all; a lock that another thread held when the process forked is dropped with them."""
        self._lock = threading.Lock()
        self._open: deque[weakref.ref[Descriptor]] = deque()

    def admit(self, descriptor: Descriptor) -> None:
        with self._lock:
            self._open.append(weakref.ref(descriptor))
            if len(self._open) > MOST_OPEN:
                self._open = deque(ref for ref in self._open if (held := ref()) is not None and held._opened)
            while len(self._open) > MOST_OPEN:
                oldest = self._open.popleft()()
                if oldest is not None:
                    oldest.close()


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.reset)
