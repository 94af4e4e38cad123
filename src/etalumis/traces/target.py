# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Outputs that nobody else writes and that nothing is overwritten for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from etalumis.errors import DatasetError
from etalumis.files import locked
from etalumis.traces.format import writing


@contextmanager
def claimed(path: Path, kind: str, doing: str = "writing") -> Iterator[None]:
    """Hold the lock on an output while the block runs; others are told what this process is `doing` with it.

    Raises
    ------
    DatasetError
        Where another process holds it, or the folder that it lies in cannot be made or written.
    """
    with ExitStack() as held:
        with writing(path, kind):
            held.enter_context(locked(path, doing))
        yield


@contextmanager
def new_file(path: Path, kind: str = "trace file") -> Iterator[None]:
    """Hold the lock on a file that does not exist yet; raise DatasetError also where it does."""
    with claimed(path, kind):
        if path.exists():
            raise DatasetError(f"{path}: is there already and is not overwritten; remove it or name another output")
        yield
