# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The first difference between a run and its replay, in words."""

from collections.abc import Iterator, Sequence

import numpy as np

from etalumis.counting import counted
from etalumis.trace import CONTROLLED, REPLACED, Observed, Trace
from etalumis.typing import Array


def trace_difference(expected: Trace, found: Trace, positions: Sequence[int]) -> str | None:
    """Return the first difference between a trace and a replay of some of its entries, or None if they are equal.

    Everything that a simulator sends is compared, bit for bit: entries, likelihoods, observed values, tags, the result.

    Parameters
    ----------
    expected
        The original run.
    found
        Its replay.
    positions
        The replayed entries of `expected`. If these are the accepted ones alone, each must be a first repetition.
    """
    return next(_differences(expected, found, positions), None)


def _differences(expected: Trace, found: Trace, positions: Sequence[int]) -> Iterator[str]:
    whole = len(positions) == len(expected)
    for number, position in enumerate(positions[: len(found)]):
        mine = _entry(expected, position)
        theirs = _entry(found, number)
        if mine != theirs:
            yield f"entry {position}: expected {mine}, found {theirs}"
        repetition = expected.repetition[position] if whole else 0
        if found.repetition[number] != repetition:
            yield f"entry {position}: expected repetition {repetition}, found {found.repetition[number]}"
    if len(positions) != len(found):
        yield f"expected {counted(len(positions), 'draw')}, found {len(found)}"
    names = [[observed.name for observed in trace.observes] for trace in (expected, found)]
    if names[0] != names[1]:
        yield f"expected the observe statements {names[0]}, found {names[1]}"
    for mine_observed, found_observed in zip(expected.observes, found.observes, strict=True):
        yield from _observe_differences(mine_observed, found_observed)
    if list(expected.tags) != list(found.tags):
        yield f"expected the tags {list(expected.tags)}, found {list(found.tags)}"
    for name, value in expected.tags.items():
        if not _equal(value, found.tags[name]):
            yield f"the tag {name!r} has another value: expected {_shown(value)}, found {_shown(found.tags[name])}"
    results = [np.asarray(np.nan if trace.result is None else trace.result) for trace in (expected, found)]
    if not _equal(*results):
        yield f"the result of the run: expected {expected.result}, found {found.result}"


def _entry(trace: Trace, position: int) -> str:
    """Describe an entry: equal entries have equal descriptions."""
    words = [f"{trace.distribution[position]} at {trace.addresses.name(trace.address[position])}"]
    flags = trace.flags[position]
    words += [f"name {trace.name[position]!r}"] * bool(trace.name[position])
    words += ["uncontrolled"] * (not flags & CONTROLLED) + ["replaced"] * bool(flags & REPLACED)
    words += [f"rejection scope {trace.scope[position]}"] * bool(trace.scope[position])
    return ", ".join(words)


def _observe_differences(expected: Observed, found: Observed) -> Iterator[str]:
    name = repr(expected.name)
    mine, theirs = expected.likelihood, found.likelihood
    if (mine.code, mine.shape, expected.address) != (theirs.code, theirs.shape, found.address):
        yield (
            f"the likelihood of {name}: expected {mine.kind} {mine.shape} at {expected.address}, found "
            f"{theirs.kind} {theirs.shape} at {found.address}"
        )
    for a, b in zip(mine.arrays, theirs.arrays, strict=True):
        if not _equal(a, b):
            yield f"the likelihood of {name} has other parameters: expected {_shown(a)}, found {_shown(b)}"
    values = [expected.value, found.value]
    if (values[0] is None) != (values[1] is None) or (
        values[0] is not None and values[1] is not None and not _equal(values[0], values[1])
    ):
        yield f"the value that the model gives for {name}: expected {_shown(values[0])}, found {_shown(values[1])}"


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _shown(value: Array | None) -> str:
    if value is None:
        return "none"
    return np.array2string(np.asarray(value), threshold=6, edgeitems=3, precision=17).replace("\n", "")
