# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""From the numbers of each file's own dictionary to those of a dictionary of several files."""

from collections.abc import Sequence

import numpy as np


class UnknownNumber(ValueError):
    """A column refers to a number that the dictionary of its file (the `file`-th) does not have."""

    def __init__(self, file: int, found: int, size: int) -> None:
        super().__init__(f"refers to number {found}, but the dictionary has {size}")
        self.file = file


class Translation:
    """The tables of several files as one.

    Parameters
    ----------
    tables
        uint32 (number of the file's dictionary,) of each file: the common number.
    """

    def __init__(self, tables: Sequence[np.ndarray]) -> None:
        self._sizes = np.array([len(table) for table in tables], np.int64)
        self._first = np.cumsum(self._sizes) - self._sizes
        self._common = np.concatenate([*tables, np.empty(0, np.uint32)])

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return self._common.nbytes + self._sizes.nbytes + self._first.nbytes

    def numbers(self, file: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the common number uint32 (n,) of the number `own[i]` of file `file[i]`.

        Raises
        ------
        UnknownNumber
            Where a file has no such number.
        """
        unknown = np.flatnonzero(own >= self._sizes[file])
        if len(unknown):
            i = unknown[0]
            raise UnknownNumber(int(file[i]), int(own[i]), int(self._sizes[file[i]]))
        found: np.ndarray = self._common[self._first[file] + own]
        return found
