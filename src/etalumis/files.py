# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files that are written whole or not at all: temporary name, fsync, rename."""

import fcntl
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etalumis.errors import DatasetError, StorageError
from etalumis.refusals import NO_LOCKS, lock_refused, locks_are_off, storage_error, storage_errors

_PROBE_BYTES = 4096


def require_writable(path: Path, what: str = "file", folder: bool = False) -> None:
    """Check, before any work is done, that an output can be written; call it first in every verb.

    Missing parent folders are created. A small temporary file is written where the output will be, so that a full disk,
    a read-only file system and missing permissions are found, even for root.

    Parameters
    ----------
    path
        The output.
    what
        What will be written, for the message: "posterior", "network".
    folder
        Whether the output is a folder; it may exist. Otherwise it is a file, which may exist and is then replaced.

    Raises
    ------
    StorageError
        If the output cannot be written: it exists and is of another kind, lies below a file, or the system refuses.
    """
    path = Path(path)
    with storage_errors(path, "written"):
        if folder and path.exists() and not path.is_dir():
            raise StorageError(f"{path}: is a file; expected a folder to write into ({what})")
        if not folder and path.is_dir():
            raise StorageError(f"{path}: is a folder; expected the name of a file ({what})")
        if not folder and path.exists() and not path.is_file():
            raise StorageError(f"{path}: is not a regular file, so it cannot be replaced; choose another output")
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if not above.is_dir():
            raise StorageError(f"{path}: cannot be written: {above} is a file, expected a folder")
        place = path if folder and path.is_dir() else path.parent
        place.mkdir(parents=True, exist_ok=True)
        _write_probe(place, path.name)


def _write_probe(folder: Path, name: str) -> None:
    descriptor, probe = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(_PROBE_BYTES))
    finally:
        Path(probe).unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on error it is removed.

    The temporary file lives in the same folder, since a rename is atomic only within one file system.

    Raises
    ------
    StorageError
        If the file cannot be written. Errors of the block that name another file are passed on as they are.
    """
    path = Path(path)
    with storage_errors(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(descriptor)
    temporary = Path(name)
    try:
        with storage_errors(path, "written", name):
            yield temporary
            _fsync(temporary)
            # mkstemp creates private files; a product has the permissions of any other file
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            _fsync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes left behind. Hold the lock of `path`."""
    for left in Path(path).parent.glob(f".{glob.escape(Path(path).name)}.*.tmp"):
        left.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on the product `path` (a file or a folder) while the block runs.

    The kernel locks the hidden file ``.NAME.lock`` beside `path` and releases it when the process ends, so a stale lock
    file does no harm.

    Raises
    ------
    DatasetError
        If another process holds the lock; the message names that process.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise DatasetError(
                    f"{path}: {holder} is {what} it at the moment; wait until it has finished, or choose another output"
                ) from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                if not locks_are_off():
                    raise lock_refused(lock, "locked", error.errno) from error
            if not _is_named(file.fileno(), lock):
                continue  # its holder removed it after it was opened here and before it was locked
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_named(descriptor: int, path: Path) -> bool:
    """Return whether `path` is the name of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` (UTF-8) so that readers see either the old file or the new one, never a part of it."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused, since JSON has none."""
    write_text_atomic(path, json.dumps(value, indent=2, allow_nan=False, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    StorageError
        If the system refuses to read it: this says nothing about its content.
    ValueError
        If it is not JSON in UTF-8.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise storage_error(path, "read", error) or error from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return 16 hex digits (blake2b) of a JSON-able value; key order does not matter."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
