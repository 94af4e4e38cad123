# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Execution: instance numbers, rejection scopes, and the recorded trace."""

import math

import numpy as np
import pytest

from etalumis.address import AddressTable, join, split, trace_type
from etalumis.distributions import ArrayDistribution, Normal, Uniform
from etalumis.errors import ProtocolError
from etalumis.execution import Execution, run
from etalumis.trace import CONTROLLED, REJECTED, REPLACED

UNIT = Uniform(0.0, 1.0)


class Scripted:
    """A controller that returns a list of values and conditions on given observations."""

    def __init__(self, values, observed=None):
        self.values, self.observed, self.sites = iter(values), observed, []

    def sample(self, site):
        self.sites.append(site)
        return next(self.values)

    def observe(self, name, distribution, given):
        return self.observed if given is None else given


class Loop:
    """Two rejection scopes at one call site, each `while u > 0.5`, with a plain draw before, between and after."""

    name = "loop"

    def run(self, execution: Execution) -> float:
        execution.sample("[a]", UNIT)
        for scope in (1, 2):
            repetition = 0
            while (
                execution.sample("[x]", UNIT, replace=True, scope=scope, repetition=repetition)
                + execution.sample("[u]", UNIT, replace=True, scope=scope, repetition=repetition)
                > 1.0
            ):
                repetition += 1
        return execution.sample("[a]", UNIT, control=False)


def test_instance_numbers_are_reset_after_a_rejected_repetition():
    table = AddressTable()
    trace = run(Loop(), Scripted([0.1, 0.9, 0.8, 0.2, 0.3, 0.4, 0.5, 0.6]), table)
    names = [table.name(a) for a in trace.address]
    assert names == [
        "[a]__Uniform__1",
        "[x]__Uniform__1", "[u]__Uniform__1",
        "[x]__Uniform__1", "[u]__Uniform__1",
        "[x]__Uniform__2", "[u]__Uniform__2",
        "[a]__Uniform__2",
    ]  # fmt: skip
    replaced = CONTROLLED | REPLACED
    assert trace.flags == [1, replaced | REJECTED, replaced | REJECTED, replaced, replaced, replaced, replaced, 0]
    assert trace.accepted == [0, 3, 4, 5, 6, 7]
    assert trace.controlled == [0, 3, 4, 5, 6]
    assert trace.result == 0.6


def test_the_trace_type_does_not_depend_on_rejected_repetitions():
    table = AddressTable()
    direct = run(Loop(), Scripted([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), table)
    looped = run(Loop(), Scripted([0.7, 0.9, 0.9, 0.9, 0.8, 0.2, 0.3, 0.9, 0.2, 0.4, 0.5, 0.6]), table)
    assert direct.type == looped.type
    assert direct.log_prior == looped.log_prior == 0.0
    shorter = trace_type(table.name(direct.address[i]) for i in direct.controlled[:-1])
    assert shorter != direct.type


@pytest.mark.parametrize(
    ("moves", "message"),
    [([(1, 0), (1, 2)], "repetition 2 follows 0"), ([(1, 1)], "starts with repetition 1")],
)
def test_invalid_scopes_are_protocol_errors(moves, message):
    execution = Execution(Scripted([0.5] * 4), AddressTable())
    for scope, repetition in moves[:-1]:
        execution.sample("[x]", UNIT, replace=True, scope=scope, repetition=repetition)
    scope, repetition = moves[-1]
    with pytest.raises(ProtocolError, match=message):
        execution.sample("[x]", UNIT, replace=True, scope=scope, repetition=repetition)


def test_observe_scores_only_what_the_controller_returns():
    normal = ArrayDistribution.of(Normal(0.0, 1.0))
    scored = Execution(Scripted([], np.asarray(2.0)), AddressTable())
    scored.observe("[o]", normal, name="y")
    scored.observe("[o]", normal, name="z", value=np.asarray(1.0))
    expected = -0.5 * (4 + 1) - math.log(2 * math.pi)
    assert scored.trace.log_likelihood == pytest.approx(expected, rel=1e-14)
    unscored = Execution(Scripted([]), AddressTable())
    unscored.observe("[o]", normal, name="y")
    assert unscored.trace.log_likelihood == 0.0
    assert unscored.trace.observes[0].value is None


def test_addresses_split_and_types_do_not_collide_by_concatenation():
    assert split(join("[f+0x1; g__h+0x2]__Uniform", 12)) == ("[f+0x1; g__h+0x2]__Uniform", 12)
    assert trace_type(["ab", "c"]) != trace_type(["a", "bc"]) != trace_type(["abc"])
    assert len({trace_type([str(i)]) for i in range(100_000)}) == 100_000
