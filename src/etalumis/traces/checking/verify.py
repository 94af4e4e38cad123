# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verification of trace files and sorted sets, with a report of all bad files."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py

from etalumis.errors import DatasetError, StorageError
from etalumis.progress import Progress
from etalumis.traces.checking.shard import verify_shard
from etalumis.traces.checking.sorted_set import SetCheck
from etalumis.traces.index import NAME, read_index, require_checksum
from etalumis.traces.reading.shard import Shard

logger = logging.getLogger(__name__)

__all__ = ["verify", "verify_shard"]


def verify(paths: Sequence[Path], quick: bool = False) -> int:
    """Verify trace files and sorted sets with all their files; return the number of traces.

    Memory is bounded, since traces are read in windows.

    Parameters
    ----------
    paths
        Trace files, index files, or folders with an `index.json`.
    quick
        Check headers and structure only, without reading the traces.

    Raises
    ------
    DatasetError
        After everything has been checked, with the first problem of each bad file.
    StorageError
        If the only problem is a file that the system refuses to read.
    """
    if not paths:
        raise DatasetError("no trace files were given; expected files, an index.json or a folder with one")
    given = [Path(path) / NAME if Path(path).is_dir() else Path(path) for path in paths]
    run = _Verification(quick, sum(map(_announced, given)))
    for path in given:
        if path.suffix == ".json":
            run.sorted_set(path)
        else:
            run.file(path)
    run.close()
    if len(run.bad) == 1:
        raise run.bad[0]
    if run.bad:
        listed = "\n".join(f"  {error}" for error in run.bad)
        raise DatasetError(f"{len(run.bad)} of {run.looked_at} files or sets are bad or cannot be read:\n{listed}")
    return run.traces


def _announced(path: Path) -> int:
    """Return the number of traces in the header of a file or index, for the progress; 0 if it cannot be read."""
    try:
        if path.suffix == ".json":
            return int(read_index(path)["traces"])
        with h5py.File(path, "r") as file:
            return int(file.attrs["traces"])
    except (DatasetError, StorageError, OSError, KeyError, ValueError, TypeError, RuntimeError):
        return 0  # the problem is found and reported later


class _Verification:
    """State of one call."""

    def __init__(self, quick: bool, announced: int) -> None:
        self.bad: list[DatasetError | StorageError] = []
        self.traces = 0
        self.looked_at = 0
        self._quick = quick
        self._seen: set[Path] = set()
        self._progress = Progress(announced or None, "traces", "verifying")

    @contextmanager
    def _collecting(self, path: Path) -> Iterator[None]:
        self.looked_at += 1
        try:
            yield
        except (DatasetError, StorageError) as error:
            logger.warning("%s: bad, see the end of the output", path)
            self.bad.append(error)

    def file(self, path: Path, checksum: str | None = None, check: SetCheck | None = None, number: int = 0) -> None:
        """Check one trace file; with `check`, it is shard `number` of this set."""
        with self._collecting(path):
            if path.resolve() in self._seen:
                raise DatasetError(f"{path}: the same trace file was given twice")
            self._seen.add(path.resolve())
            with Shard(path) as shard:
                require_checksum(path, checksum, shard.checksum)
                verify_shard(shard, self._quick, self._progress.update)
                self.traces += len(shard)
                if check is not None:
                    check.shard(shard, number, self._quick)

    def sorted_set(self, index: Path) -> None:
        """Check all files of an index, their order, and the index itself."""
        before = len(self.bad)
        with self._collecting(index):
            content = read_index(index)
            check = SetCheck(index, content)
            for number, entry in enumerate(content["shards"]):
                path = index.parent / entry["file"]
                if path.is_file():
                    self.file(path, entry["checksum"], check, number)
                    continue
                with self._collecting(path):
                    raise DatasetError(f"{path}: missing, but listed in {index}; sort the traces again")
            if len(self.bad) == before:  # if traces are missing, the totals are wrong for a reason already reported
                check.close(self._quick)

    def close(self) -> None:
        """Log the duration."""
        self._progress.close()
