# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Checks of windows of a plain set of traces, with errors that name file, key and trace."""

from collections.abc import Callable

import numpy as np

from etalumis.traces.plain.layout import Plain
from etalumis.traces.ragged import Ragged


class Checks:
    """Checks of the traces of one file; `start` is always the number of the first trace of a window."""

    def __init__(self, plain: Plain) -> None:
        self._plain = plain

    def require(self, held: np.ndarray, key: str, start: int, what: Callable[[int], str]) -> None:
        """Raise an error for the first trace for which `held` is false."""
        bad = np.flatnonzero(~held)
        if len(bad):
            raise self._plain.fail(key, what(int(bad[0])), start + int(bad[0]))

    def require_rows(self, held: np.ndarray, lists: Ragged, key: str, start: int, what: Callable[[int], str]) -> None:
        """Raise an error for the first row of a list column for which `held` is false."""
        bad = np.flatnonzero(~held)
        if len(bad):
            row = int(bad[0])
            trace = int(np.searchsorted(lists.offset, row, side="right")) - 1
            place = row - int(lists.offset[trace])
            raise self._plain.fail(key, f"{what(row)} in row {place} of the trace", start + trace)

    def finite(self, values: np.ndarray, key: str, start: int) -> None:
        """Require finite numbers of every trace."""
        flat = values.reshape(len(values), -1)
        held = np.all(np.isfinite(flat), axis=1)
        self.require(held, key, start, lambda i: f"expected finite numbers, found {flat[i][~np.isfinite(flat[i])][0]}")
