# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Numbers that must be finite: NaN and infinities are refused before they reach a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.block import Block, Expected
from etalumis.traces.format import observation_path
from etalumis.traces.ragged import Ragged


def require_finite(block: Block, path: Path, first: int) -> None:
    """Raise DatasetError where a value, a log prior density or an observation of a block is not finite.

    A tag may be NaN where a trace lacks it, and a log likelihood where nothing was scored.

    Parameters
    ----------
    block
        Traces `first` and following of the file.
    path
        The file that is written or read, for the message.
    first
        Number of the block's first trace in it.
    """
    _require_content(path, first, "entries/value", block.entries, "value", _address(block, block.entries))
    _require(path, first, "traces/log_prior", block.traces["log_prior"])
    for layout in block.layouts:
        observation = block.observations[layout.name]
        if isinstance(observation, Expected):
            _require_content(path, first, observation_path(layout.name, "mean"), observation.image, "mean")
            _require(path, first, observation_path(layout.name, "stddev"), observation.stddev)
        else:
            _require(path, first, observation_path(layout.name, "value"), observation)
    if block.rejected is not None:
        _require_content(path, first, "rejected/value", block.rejected, "value", _address(block, block.rejected))


def _address(block: Block, entries: Ragged) -> Callable[[int], str]:
    return lambda row: f" at address {block.dictionary.addresses.name(int(entries.columns['address'][row]))}"


def _require(path: Path, first: int, column: str, values: np.ndarray) -> None:
    # the sum of finite numbers of a file's size is finite, and a single pass without temporaries
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


def _refuse(path: Path, column: str, trace: int, found: object, where: str) -> None:
    raise DatasetError(
        f"{path}: column {column!r}: trace {trace} has the value {found}{where}; expected a finite number: the "
        "simulator, or whoever made the traces, gave it; leave such runs out at their source"
    )
