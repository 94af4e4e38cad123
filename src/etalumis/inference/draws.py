# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a posterior keeps of each trace, and how these draws become columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalumis.inference.entry_selection import DrawEntries, EntrySelection
from etalumis.names import require_one_value_per_name, require_storable
from etalumis.trace import REJECTED, Trace
from etalumis.typing import Array


@dataclass(slots=True)
class Draw:
    """Values kept of one trace.

    Attributes
    ----------
    values
        Tags and named entries by name.
    log_prior, log_likelihood
        As in `Posterior`.
    trace_type
        32 hex digits.
    entries
        The selected entries by address; None if none were to be selected.
    """

    values: dict[str, Array | float]
    log_prior: float
    log_likelihood: float
    trace_type: str
    entries: DrawEntries | None = None


def draw_of(
    trace: Trace,
    named: Sequence[tuple[int, str]] | None = None,
    trace_type: str | None = None,
    selection: EntrySelection | None = None,
) -> Draw:
    """Return the values to keep of `trace`.

    Of several entries with one name, the last one is kept. The result of the model is kept as `result`.

    Parameters
    ----------
    named
        Position and name of its accepted entries with a name; found in the trace if not given.
    trace_type
        Its type in hex digits; computed if not given.
    selection
        Selects entries to keep by address.

    Raises
    ------
    DatasetError
        If a name cannot be stored, or if two of a tag, a draw and the result have one name and different values.
    """
    draws: dict[str, float] = {}
    if named is None:
        flags = trace.flags
        named = [(i, name) for i, name in enumerate(trace.name) if name and not flags[i] & REJECTED]
    if named:
        value = trace.value
        for _, name in named:
            require_storable(name, "a draw")
        draws = {name: value[i] for i, name in named}
    result, tags = trace.result, trace.tags
    require_one_value_per_name(draws, result, tags)
    values: dict[str, Array | float] = {**draws}
    if result is not None:
        values["result"] = result
    if tags:
        for name in tags:
            require_storable(name, "a tag")
        values.update(tags)
    entries = None if selection is None else selection.entries(trace)
    return Draw(values, trace.log_prior, trace.log_likelihood, trace_type or trace.type.hex(), entries)


def columns(draws: list[Draw]) -> tuple[dict[str, Array], list[str]]:
    """Return the values of all draws as arrays (draw, ...), and the names left out because their shape varies.

    Missing values are NaN.
    """
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for draw in {id(draw): draw for draw in draws}.values():
        for name, value in draw.values.items():
            shapes.setdefault(name, set()).add(() if isinstance(value, float) else np.shape(value))
    found = {}
    for name, seen in shapes.items():
        if len(seen) == 1:
            column = np.full((len(draws), *next(iter(seen))), np.nan)
            for row, draw in enumerate(draws):
                if name in draw.values:
                    column[row] = draw.values[name]
            found[name] = column
    return found, sorted(set(shapes) - set(found))


def concatenate_columns(parts: list[tuple[dict[str, Array], int]]) -> tuple[dict[str, Array], list[str]]:
    """Join the columns of several sets of draws, each given with its number of draws.

    Missing columns are NaN. Names whose shape differs between the sets are left out and returned.
    """
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for values, _ in parts:
        for name, column in values.items():
            shapes.setdefault(name, set()).add(column.shape[1:])
    joined = {}
    for name, seen in shapes.items():
        if len(seen) == 1:
            shape = next(iter(seen))
            joined[name] = np.concatenate(
                [values[name] if name in values else np.full((count, *shape), np.nan) for values, count in parts]
            )
    return joined, sorted(set(shapes) - set(joined))
