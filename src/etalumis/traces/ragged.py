# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Lists of varying length as columns: offsets and content."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True)
class Ragged:
    """Columns with common offsets; list `i` consists of the rows `offset[i]:offset[i + 1]` of every column.

    A reference implementation of `take` is the concatenation of `[content[offset[i]:offset[i + 1]] for i in rows]`.
    """

    offset: np.ndarray
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Return the number of lists."""
        return len(self.offset) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 (list,): number of rows of each list."""
        return np.diff(self.offset)

    def take(self, rows: np.ndarray) -> Self:
        """Return the lists `rows`, in that order."""
        lengths = self.lengths[rows]
        offset = offsets(lengths)
        index = np.arange(offset[-1]) + np.repeat(self.offset[rows] - offset[:-1], lengths)
        return type(self)(offset, {name: column[index] for name, column in self.columns.items()})

    def slice(self, start: int, stop: int) -> Self:
        """Return the lists `start:stop`; the columns are views."""
        first, last = int(self.offset[start]), int(self.offset[stop])
        columns = {name: column[first:last] for name, column in self.columns.items()}
        return type(self)(self.offset[start : stop + 1] - first, columns)

    def list_numbers(self) -> np.ndarray:
        """Return int64 (row,): number of the list that each row belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Return the int64 (n + 1,) offsets of lists of the given lengths."""
    result = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=result[1:])
    return result


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """Concatenate the lists of all `parts`."""
    lengths = np.concatenate([part.lengths for part in parts])
    names = parts[0].columns
    return Ragged(offsets(lengths), {name: np.concatenate([part.columns[name] for part in parts]) for name in names})
