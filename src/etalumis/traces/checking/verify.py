# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Check trace files and sorted sets through and through, and name everything that is wrong."""

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
    """Check trace files, and sorted sets with all the files that they name; return the number of traces.

    Memory is bounded: a window of one file's traces at a time.

    Parameters
    ----------
    paths
        Trace files, index files, or folders that hold an `index.json`.
    quick
        Headers and structure only: what takes no reading of the traces.

    Raises
    ------
    DatasetError
        After everything has been looked at: for each bad file the first thing that is wrong with it.
    """
    if not paths:
        raise DatasetError("no trace files were given; name files, an index.json or a folder that holds one")
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
    """Return how many traces a file or index says it has, for the progress; 0 where it cannot be read."""
    try:
        if path.suffix == ".json":
            return int(read_index(path)["traces"])
        with h5py.File(path, "r") as file:
            return int(file.attrs["traces"])
    except (DatasetError, StorageError, OSError, KeyError, ValueError, TypeError, RuntimeError):
        return 0  # what is wrong with it is found out later, and said


class _Verification:
    """One call's findings."""

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
        """Check one trace file, which is shard `number` of the set `check` or stands alone."""
        with self._collecting(path):
            if path.resolve() in self._seen:
                raise DatasetError(f"{path}: the same trace file was given twice; name it once")
            self._seen.add(path.resolve())
            with Shard(path) as shard:
                require_checksum(path, checksum, shard.checksum)
                verify_shard(shard, self._quick, self._progress.update)
                self.traces += len(shard)
                if check is not None:
                    check.shard(shard, number, self._quick)

    def sorted_set(self, index: Path) -> None:
        """Check every file that an index names, their order, and what the index says of them."""
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
                    raise DatasetError(f"{path}: missing, but {index} names it; sort the traces again")
            if len(self.bad) == before:  # of a set that lacks traces the totals are wrong for a reason already named
                check.close(self._quick)

    def close(self) -> None:
        """Say how long it took."""
        self._progress.close()
