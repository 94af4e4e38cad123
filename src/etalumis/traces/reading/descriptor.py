# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files with random access: opened on demand, with a bounded number of open descriptors."""

import os
import threading
import weakref
from collections import deque
from pathlib import Path

from etalumis.errors import DatasetError

MAX_OPEN_FILES = 128
"""Maximum number of open files of a process: a dataset of thousands of shards stays below the usual limit of 1024."""


class _Opened:
    """One file descriptor, which is closed with its last reference."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.process = os.getpid()

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class Descriptor:
    """A file whose bytes can be read from any thread and after a fork.

    It is opened on the first read, after a fork, and after it was closed because
    `MAX_OPEN_FILES` others were opened.

    Raises
    ------
    OSError
        If the file does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _identity(path.stat())
        self._opened: _Opened | None = None

    def read(self, size: int, place: int) -> bytes:
        """Return `size` bytes from position `place` on.

        Raises
        ------
        DatasetError
            If the file was replaced or altered since it was first opened.
        ValueError
            If the file ends before.
        """
        opened = self._opened
        if opened is None or opened.process != os.getpid():
            opened = self._open()
        content = os.pread(opened.number, size, place)
        if len(content) != size:
            raise ValueError(f"expected {size} bytes from byte {place} on, found {len(content)}")
        return content

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._opened = None

    def _open(self) -> _Opened:
        opened = _Opened(self.path)
        if _identity(os.fstat(opened.number)) != self._identity:
            raise DatasetError(
                f"{self.path}: the file was replaced or altered while it was being read; run the same command again"
            )
        self._opened = opened
        _pool.register(self)
        return opened


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Pool:
    """Open files in the order of opening; the oldest one is closed if there are too many."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all files, and replace the lock, which another thread may have held during a fork."""
        self._lock = threading.Lock()
        self._open: deque[weakref.ref[Descriptor]] = deque()

    def register(self, descriptor: Descriptor) -> None:
        with self._lock:
            self._open.append(weakref.ref(descriptor))
            if len(self._open) > MAX_OPEN_FILES:
                self._open = deque(ref for ref in self._open if (held := ref()) is not None and held._opened)
            while len(self._open) > MAX_OPEN_FILES:
                oldest = self._open.popleft()()
                if oldest is not None:
                    oldest.close()


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.reset)
