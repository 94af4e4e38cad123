# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Collective steps of all MPI ranks: an error on one rank is raised on all of them."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from etalumis.errors import EtalumisError, StorageError
from etalumis.refusals import storage_error

T = TypeVar("T")


class Communicator(Protocol):
    """The interface of an mpi4py communicator that sorting needs."""

    def Get_rank(self) -> int:
        """Return the rank of the caller."""
        ...

    def Get_size(self) -> int:
        """Return the number of ranks."""
        ...

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return the objects of all ranks, ordered by rank."""
        ...


class SingleRank:
    """A communicator of one rank, for programs without MPI."""

    def Get_rank(self) -> int:
        """Return 0."""
        return 0

    def Get_size(self) -> int:
        """Return 1."""
        return 1

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return a list of the object."""
        return [sendobj]


def collectively(comm: Communicator, step: Callable[[], T]) -> T:
    """Run `step` on every rank and return this rank's own result.

    A collective call: all ranks must make it.

    Raises
    ------
    EtalumisError
        If the step failed on any rank, on every rank: the error of the lowest such rank. An error of the operating
        system becomes a StorageError.
    """
    outcome = _attempt(step)
    for failure in comm.allgather(outcome if isinstance(outcome, EtalumisError) else None):
        if failure is not None:
            raise failure
    assert not isinstance(outcome, EtalumisError)  # otherwise raised above
    return outcome


def _attempt(step: Callable[[], T]) -> T | EtalumisError:
    try:
        return step()
    except EtalumisError as error:
        return error
    except OSError as error:
        return storage_error(error.filename or "a file", "used", error) or StorageError(str(error))
