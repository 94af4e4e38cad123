# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Translation of the ids of each file to ids of a common dictionary."""

from collections.abc import Sequence

import numpy as np


class UnknownNumber(ValueError):
    """A column refers to an id that is not in the dictionary of its file, number `file`."""

    def __init__(self, file: int, found: int, size: int) -> None:
        super().__init__(f"refers to id {found}, but the dictionary has {size} entries")
        self.file = file


class Translation:
    """The tables of several files, concatenated.

    Parameters
    ----------
    tables
        For each file, uint32 (id in the file,): the common id.
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
        """Return uint32 (n,): common id of the id `own[i]` of file `file[i]`.

        Raises
        ------
        UnknownNumber
            If a file has no such id.
        """
        unknown = np.flatnonzero(own >= self._sizes[file])
        if len(unknown):
            i = unknown[0]
            raise UnknownNumber(int(file[i]), int(own[i]), int(self._sizes[file[i]]))
        found: np.ndarray = self._common[self._first[file] + own]
        return found
