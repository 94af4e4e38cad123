# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Replays of traces: their plans, and whether a replay gave the same trace."""

from typing import NamedTuple

import numpy as np

from etalumis.address import AddressTable, split
from etalumis.delegation import RunPlan
from etalumis.errors import InferenceError
from etalumis.inference.observations import Observations
from etalumis.rows import AddressKey, SavedKeys
from etalumis.trace import CONTROLLED, REPLACED, Trace


class SavedTrace(NamedTuple):
    """Accepted entries of a trace as JSON values, to be replayed by another process."""

    keys: list[AddressKey]
    values: list[float]
    scopes: list[int]


def saved_trace(addresses: AddressTable, trace: Trace) -> SavedTrace:
    """Return the accepted entries of a trace in the form that can be replayed by another process."""
    address, name, value, scope, flags = trace.address, trace.name, trace.value, trace.scope, trace.flags
    accepted = trace.accepted
    keys = [(*split(addresses.name(address[i])), name[i], flags[i] & (CONTROLLED | REPLACED)) for i in accepted]
    return SavedTrace(keys, [value[i] for i in accepted], [scope[i] for i in accepted])


def replay_plan(saved: SavedTrace, observations: Observations) -> RunPlan:
    """Return the plan that replays all accepted entries of a saved trace; the caller has to check the result."""
    rows = SavedKeys(saved.keys).rows(saved.values, saved.scopes)
    return RunPlan(rows, rows.size, observations.values, details=True)


def repetition_plan(trace: Trace, scope: int) -> RunPlan:
    """Return the plan that replays everything before a rejection scope of a trace, and draws the rest, unscored.

    The number R of `repetitions` of the scope is then geometric with E[R] = 1 / Z: an unbiased estimate of the inverse
    acceptance probability of the scope in the replayed context.
    """
    scopes = trace.scope
    before = next(n for n, i in enumerate(trace.accepted) if scopes[i] == scope)
    return RunPlan(trace.rows.first(before), before, details=True)


def repetitions(trace: Trace, plan: RunPlan) -> int:
    """Return how often the scope that follows the replayed entries was run, for a `repetition_plan`.

    Raises
    ------
    InferenceError
        If the run did not come so far.
    """
    check_complete_replay(trace)
    if len(trace) == plan.prefix:
        raise InferenceError(f"replay broke off at entry {len(trace)}: the run ended. {EXPECTED_REPLAY}")
    return trace.repetition[plan.prefix] + 1


def check_complete_replay(trace: Trace) -> None:
    """Check that a run reached all entries that its plan replays by position.

    Raises
    ------
    InferenceError
        If it did not. Then the model draws random numbers or keeps state outside its sample statements, or what it does
        after a rejection scope depends on the rejected repetitions.
    """
    if trace.mismatch:
        raise InferenceError(
            f"replay broke off at entry {len(trace)}: the model asks for a different entry, or for the same one with a "
            f"different prior. {EXPECTED_REPLAY}"
        )


EXPECTED_REPLAY = (
    "Expected a model that does the same when given the same values: look for draws outside sample statements (a "
    "random number generator of the model's own), for state kept between runs (counters, caches), and for rejection "
    "loops that depend on what they rejected."
)


def replay_difference(expected: Trace, found: Trace) -> str | None:
    """Return how the replay of a trace's accepted entries differs from the trace; None if it does not."""
    if found.mismatch:
        return f"it broke off at entry {len(found)}"
    addresses = [[trace.address[i] for i in trace.accepted] for trace in (expected, found)]
    if addresses[0] != addresses[1]:
        return f"expected the {len(addresses[0])} entries of the trace, found {len(addresses[1])} or different ones"
    if expected.log_likelihood != found.log_likelihood:
        statements = (
            f" (observe statement {now.name!r})"
            for before, now in zip(expected.observes, found.observes, strict=False)
            if before.log_prob != now.log_prob
        )
        where = next(statements, "")
        return f"expected the log likelihood {expected.log_likelihood}, found {found.log_likelihood}{where}"
    if list(expected.tags) != list(found.tags):
        return f"expected the tags {list(expected.tags)}, found {list(found.tags)}"
    for name, value in expected.tags.items():
        if not np.array_equal(value, found.tags[name], equal_nan=True):
            return f"expected the tag {name!r} to be {value}, found {found.tags[name]}"
    if expected.result != found.result and not (expected.result != expected.result and found.result != found.result):
        return f"expected the result {expected.result}, found {found.result}"
    return None
