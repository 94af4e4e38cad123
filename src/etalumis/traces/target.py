# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Locks on outputs, so that two processes never write the same one and nothing is overwritten."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from etalumis.errors import DatasetError
from etalumis.files import locked, require_writable
from etalumis.traces.format import writing


@contextmanager
def claimed(path: Path, kind: str, doing: str = "writing", folder: bool = False) -> Iterator[None]:
    """Hold the lock on an output while the block runs; other processes are told what this one is `doing` with it.

    Raises
    ------
    DatasetError
        If another process holds the lock.
    StorageError
        If the output, a file or a `folder`, cannot be written.
    """
    require_writable(path, kind, folder)
    with ExitStack() as held:
        with writing(path, kind):
            held.enter_context(locked(path, doing))
        yield


@contextmanager
def new_file(path: Path, kind: str = "trace file") -> Iterator[None]:
    """Hold the lock on a file that does not exist yet; raise DatasetError if it exists."""
    if path.exists():
        raise DatasetError(f"{path}: already exists and is not overwritten; remove it or choose another output")
    with claimed(path, kind):
        yield
