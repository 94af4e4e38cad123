# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Comparison of delegated and interactive runs with the same values."""

import numpy as np
import pytest

from etalumis import execution
from etalumis.delegation import RunPlan
from etalumis.draw_by_draw import PlannedRun
from etalumis.execution import BaseTable
from etalumis.recorded_trace import RecordedTrace, SiteNumbers
from etalumis.trace import REJECTED

EVERYTHING = RunPlan(observed={}, parameters=True, details=True, rejected=True)
"""A prior run with all details, which scores the values that the model observes itself."""


class Given:
    """Controller that replays recorded values, and conditions on observations if the model gives no value."""

    def __init__(self, values, observed=None):
        self.values, self.observed = values, observed

    def sample(self, site):
        return self.values[site.position]

    def observe(self, name, distribution, given):
        if self.observed is None:
            return None
        return np.reshape(self.observed[name], distribution.shape) if name in self.observed else given


class Reference(PlannedRun):
    """A run that follows a plan draw by draw, with given new draws; without, they come from a seed."""

    def __init__(self, plan, addresses, draws=None, seed=0, answer=None):
        trace = RecordedTrace(addresses, scored=plan.observed is not None, numbering=SiteNumbers(addresses))
        super().__init__(plan, seed, trace, BaseTable(addresses), answer)
        self._draws = None if draws is None else iter(draws)

    def draw(self, distribution):
        if self._draws is None or self._over:
            return super().draw(distribution)
        return next(self._draws)

    @classmethod
    def of(cls, simulator, plan, addresses, draws=None, **more):
        """The trace of a run; it must need all of the draws."""
        run = cls(plan, addresses, draws, **more)
        run.end(simulator.run(run))
        assert run._draws is None or list(run._draws) == []
        return run.trace


def new_draws(trace):
    """The values that a delegated run with details and rejected repetitions drew from its seed."""
    return [value for value, row in zip(trace.value, trace.details["row"].tolist(), strict=True) if row < 0]


class Counting:
    """Records the sizes of requests to a simulator, and its answers."""

    def __init__(self, simulator):
        self.requests, self.answers = [], []
        self.connection = simulator._connection
        simulator._connection = self

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def send(self, message, ahead=0):
        self.requests.append(len(message))
        self.connection.send(message, ahead)

    def wait(self, timeout_s):
        self.answers.append(self.connection.wait(timeout_s))
        return self.answers[-1]

    def request(self, message, timeout_s):
        self.send(message)
        return self.wait(timeout_s)


def asked_for(simulator, trace, observed=None):
    """The trace of an interactive run with the values of `trace`."""
    return execution.run(simulator, Given(trace.value, observed), trace.addresses)


def assert_same_entries(found, expected):
    assert found.address == expected.address
    assert found.value == expected.value
    assert found.distribution == expected.distribution
    assert found.flags == expected.flags
    assert found.scope == expected.scope
    assert found.repetition == expected.repetition
    assert found.name == expected.name
    assert found.log_prob == pytest.approx(expected.log_prob, rel=1e-12, abs=1e-12)


def assert_same_outcome(found, expected, likelihood=1e-12):
    """Everything but the entries; `expected` has the parameters of observe statements."""
    assert len(found.observes) == len(expected.observes)
    for here, there in zip(found.observes, expected.observes, strict=True):
        assert (here.name, here.address) == (there.name, there.address)
        assert here.log_prob == pytest.approx(there.log_prob, rel=likelihood, abs=likelihood)
        assert (here.value is None) == (there.value is None)
        if here.value is not None:
            assert np.array_equal(np.reshape(here.value, np.shape(there.value)), there.value)
        if here.distribution is not None:
            assert here.distribution.code == there.likelihood.code
            assert here.distribution.shape == there.likelihood.shape
            for mine, theirs in zip(here.distribution.arrays, there.likelihood.arrays, strict=True):
                assert np.array_equal(mine, theirs)
    tags = dict(expected.tags)
    assert found.tags.keys() == tags.keys()
    for name, value in tags.items():
        assert np.array_equal(found.tags[name], value)
        assert found.tags[name].shape == value.shape
    assert found.result == expected.result
    assert found.type == expected.type
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=likelihood, abs=likelihood)
    assert found.log_prior == pytest.approx(expected.log_prior, rel=1e-11, abs=1e-11)


def assert_same_trace(found, expected, likelihood=1e-12):
    assert_same_entries(found, expected)
    assert found.accepted == expected.accepted
    assert found.controlled == expected.controlled
    assert found.draws == expected.draws
    assert_same_outcome(found, expected, likelihood)


def content(trace):
    """The content that runs with the same plan and seed must share, bit for bit; numbers depend on the session."""
    return (
        trace.seed, trace.draws, trace.lost, trace.mismatch, trace.log_ratio,
        [trace.addresses.name(address) for address in trace.address], trace.value, trace.distribution, trace.flags,
        trace.name, trace.log_prior, trace.log_likelihood,
        [(o.name, o.address, o.log_prob, _bytes(o.value)) for o in trace.observes],
        {name: _bytes(value) for name, value in trace.tags.items()}, trace.result,
    )  # fmt: skip


def _bytes(array):
    return None if array is None else (np.shape(array), np.asarray(array).tobytes())


def accepted_values(trace):
    return [value for value, flags in zip(trace.value, trace.flags, strict=True) if not flags & REJECTED]
