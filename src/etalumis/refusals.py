# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Errors of the operating system, told apart from damaged files, with what to do about them."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from etalumis.errors import StorageError

LOCKING = "HDF5_USE_FILE_LOCKING"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room for a file: a full disk, a quota, a limit of the file size."""
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What file systems answer that have no locks."""
_BUSY = (errno.EAGAIN, errno.EACCES)
_HDF5_ERRNO = re.compile(r"errno = (\d+)")
_REMEDIES: dict[frozenset[int], str] = {
    FULL: "free some space, or choose another output, and run the same command again",
    frozenset({errno.EACCES, errno.EPERM}): "change its permissions or those of its folder, or choose another path",
    frozenset({errno.EROFS}): "choose a path on a file system that is not read-only",
    frozenset({errno.EMFILE, errno.ENFILE}): "raise the limit of open files (`ulimit -n`)",
    frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.EREMOTEIO}): (
        "the disk or the network file system failed, and the file may be intact: run the same command again, and if "
        "that does not help see the system log"
    ),
    frozenset({errno.EISDIR}): "it is a folder: choose the path of a file",
    frozenset({errno.ENOTDIR, errno.EEXIST}): "a part of the path is a file: choose another path",
    frozenset({errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP}): "check the path",
    frozenset({errno.ENOMEM}): "free some memory",
}
"""What to do. Other numbers, such as EINVAL, also come from damaged files, whose offsets lead nowhere."""


def locks_are_off() -> bool:
    """Return whether the user switched file locks off (``HDF5_USE_FILE_LOCKING=FALSE``)."""
    return os.environ.get(LOCKING, "").upper() in ("FALSE", "0")


def system_errno(error: BaseException | None) -> int | None:
    """Return the error number of the operating system behind an error; None if there is none.

    HDF5 sometimes gives the number in its text only.
    """
    if isinstance(error, OSError | StorageError) and error.errno is not None:
        return error.errno
    found = _HDF5_ERRNO.search(str(error)) if isinstance(error, OSError | RuntimeError) else None
    return int(found[1]) if found is not None else None


def storage_error(path: Path | str, action: str, error: BaseException) -> StorageError | None:
    """Return an error of the operating system as one that names the path, the cause and a remedy.

    Parameters
    ----------
    path
        The file or folder.
    action
        What failed, for the message: "read", "written".
    error
        What was raised.

    Returns
    -------
    StorageError or None
        None if the error did not come from the operating system, but from the file's content; and if a file to be read
        does not exist, since the caller knows what makes it.
    """
    if isinstance(error, StorageError):
        return error
    number = system_errno(error)
    if number is None or (number == errno.ENOENT and action == "read"):
        return None
    if "unable to lock file" in str(error) and number in _BUSY:
        return _error(path, action, number, "it is locked", "wait until the process that writes it has finished")
    if "unable to lock file" in str(error) or number == errno.ENOLCK:
        return lock_refused(path, action, number)
    remedy = next((text for numbers, text in _REMEDIES.items() if number in numbers), None)
    return None if remedy is None else _error(path, action, number, "", remedy)


def lock_refused(path: Path | str, action: str, number: int) -> StorageError:
    """Return the error to raise if a file system has no locks, or refuses them with the error number `number`."""
    remedy = f"set {LOCKING}=FALSE in the environment, and make sure that no other process writes the file"
    return _error(path, action, number, "the file system refuses file locks", remedy)


@contextmanager
def explaining_loss(loss: Callable[[], str]) -> Iterator[None]:
    """Add to a StorageError of the block what is lost by it, and how to continue.

    Parameters
    ----------
    loss
        Returns the text; called only after an error.
    """
    try:
        yield
    except StorageError as error:
        explained = StorageError(f"{error}\n  {loss()}")
        explained.errno = error.errno
        raise explained from error


def _error(path: Path | str, action: str, number: int, cause: str, remedy: str) -> StorageError:
    text = ": ".join(filter(None, (cause, os.strerror(number))))
    damage = "; this is an error of the system, not damage to the file" if action == "read" else ""
    refused = StorageError(f"{path}: cannot be {action} ({text}){damage}; {remedy}")
    refused.errno = number
    return refused


@contextmanager
def storage_errors(path: Path | str, action: str, opened: str | None = None) -> Iterator[None]:
    """Raise errors of the operating system as a StorageError that names `path`; see `storage_error`.

    With `opened`, the name under which the block opens the file, errors that name another file are passed on.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        named = getattr(error, "filename", None)
        refused = storage_error(path, action, error)
        if refused is None or (opened is not None and named is not None and str(named) != opened):
            raise
        raise refused from error
