# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Rules for the numbers in a trace file, shared by writing and checking."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.block import Block, Expected
from etalumis.traces.format import observation_path
from etalumis.traces.ragged import Ragged


def require_valid(block: Block, path: Path, first: int) -> None:
    """Check that the numbers of a block may be in a trace file.

    Values, log prior densities and observations are finite, and standard deviations positive. A log likelihood is
    finite, or NaN if nothing was scored. A tag may hold any number: NaN and infinities say that a quantity is undefined
    or out of range. A tag of NaN alone is the same as none.

    Parameters
    ----------
    block
        Consecutive traces of the file, from number `first` on.
    path
        The file that is written or read, for the message.
    first
        Number of the block's first trace in it.

    Raises
    ------
    DatasetError
        If a number breaks a rule; names file, column, trace and number.
    """
    _require_content(path, first, "entries/value", block.entries, "value", _address(block, block.entries))
    _require(path, first, "traces/log_prior", block.traces["log_prior"])
    likelihood = block.traces["log_likelihood"]
    _refuse_first(np.isinf(likelihood), path, first, "traces/log_likelihood", likelihood, "a finite number or NaN")
    for layout in block.layouts:
        observation = block.observations[layout.name]
        if isinstance(observation, Expected):
            _require_content(path, first, observation_path(layout.name, "mean"), observation.image, "mean")
            column, stddev = observation_path(layout.name, "stddev"), observation.stddev
            _refuse_first(~(np.isfinite(stddev) & (stddev > 0)), path, first, column, stddev, "a positive number")
        else:
            _require(path, first, observation_path(layout.name, "value"), observation)
    if block.rejected is not None:
        _require_content(path, first, "rejected/value", block.rejected, "value", _address(block, block.rejected))


def _address(block: Block, entries: Ragged) -> Callable[[int], str]:
    return lambda row: f" at address {block.dictionary.addresses.name(int(entries.columns['address'][row]))}"


def _refuse_first(bad: np.ndarray, path: Path, first: int, column: str, values: np.ndarray, expected: str) -> None:
    """Raise an error for the first bad trace."""
    found = np.flatnonzero(bad)
    if len(found):
        _refuse(path, column, first + int(found[0]), values[found[0]], "", expected)


def _require(path: Path, first: int, column: str, values: np.ndarray) -> None:
    # the sum is finite if all numbers are; it takes a single pass without temporary arrays
    if np.isfinite(values.sum(dtype=np.float64)):
        return
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        at = tuple(bad[0].tolist())
        _refuse(path, column, first + at[0], values[at], "")


def _require_content(
    path: Path, first: int, column: str, lists: Ragged, name: str, where: Callable[[int], str] | None = None
) -> None:
    values = lists.columns[name]
    if np.isfinite(values.sum(dtype=np.float64)):
        return
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        trace = first + int(np.searchsorted(lists.offset - lists.offset[0], row, side="right")) - 1
        _refuse(path, column, trace, values[row], where(row) if where is not None else "")


def _refuse(path: Path, column: str, trace: int, found: object, where: str, expected: str = "a finite number") -> None:
    raise DatasetError(
        f"{path}: column {column!r}: trace {trace} has the value {found}{where}; expected {expected}: the simulator, "
        "or the program that wrote the traces, gave this value; exclude such runs where they are generated"
    )
