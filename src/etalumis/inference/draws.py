# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a posterior keeps of a trace, and how many of them become columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalumis.names import require_storable
from etalumis.trace import REJECTED, Trace
from etalumis.typing import Array


@dataclass(slots=True)
class Draw:
    """What is kept of one trace: tags and named entries by name, scores and the trace type (32 hex digits)."""

    values: dict[str, Array | float]
    log_prior: float
    log_likelihood: float
    trace_type: str


def draw_of(trace: Trace, named: Sequence[tuple[int, str]] | None = None, trace_type: str | None = None) -> Draw:
    """Return what is kept of `trace`; `named` (its accepted entries that have a name) and its type need not be given.

    Where a tag and an entry share a name the tag is kept; of several entries of one name, the last one. The model's
    result is kept as `result`.
    """
    values: dict[str, Array | float] = {}
    if named is None:
        flags = trace.flags
        named = [(i, name) for i, name in enumerate(trace.name) if name and not flags[i] & REJECTED]
    if named:
        value = trace.value
        for _, name in named:
            require_storable(name, "a draw")
        values = {name: value[i] for i, name in named}
    if (result := trace.result) is not None:
        values["result"] = result
    if tags := trace.tags:
        for name in tags:
            require_storable(name, "a tag")
        values.update(tags)
    return Draw(values, trace.log_prior, trace.log_likelihood, trace_type or trace.type.hex())


def columns(draws: list[Draw]) -> tuple[dict[str, Array], list[str]]:
    """Return the values of all draws as arrays (draw, ...), and the names left out because their shape varies.

    A value that a draw does not have is NaN there.
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
    """Join columns of several sets of draws, each with its number of draws.

    What a part lacks is NaN there; names whose shape differs between parts are left out and returned.
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
