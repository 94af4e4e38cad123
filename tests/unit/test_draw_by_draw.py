# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Plans that a Python model carries out; tests/interop/test_replay_plans.py compares them with the C++ front end."""

import math

import numpy as np
import pytest

from etalumis.address import AddressTable
from etalumis.delegation import Answer, HandOver, RunPlan
from etalumis.distributions import Normal, Poisson, Uniform
from etalumis.draw_by_draw import DrawByDraw
from etalumis.inference.observations import Observations
from etalumis.inference.replays import replay_plan, saved_trace
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample, tag

LOOP = RunPlan(observed={"obs": np.array(0.7)}, details=True)


def carried_out(plan, seed=1, model=None, table=None):
    found = DrawByDraw(model or examples.model("dependent_loop"))
    return found.carry_out(plan, (seed,), table if table is not None else AddressTable())[0]


def content(trace):
    outcome = trace.lost, trace.mismatch, trace.draws, trace.log_ratio, trace.log_likelihood, trace.result
    return trace.value, trace.row, trace.log_prob, trace.scope, trace.repetition, outcome


def of_repetitions(more_than):
    """A prior run whose scope has more than some repetitions, and the seed."""
    return next((trace, seed) for seed in range(1000) if (trace := carried_out(LOOP, seed)).repetition[-1] >= more_than)


def test_plan_and_seed_determine_the_trace():
    model, table = DrawByDraw(examples.model("dependent_loop")), AddressTable()
    [start] = model.carry_out(LOOP, (5,), table)
    plans = [LOOP, LOOP._replace(rows=start.rows.first(1), prefix=1)]
    requests = [(plan, seed) for plan in plans for seed in range(20)]
    expected = [content(trace) for trace in model.carry_out_each(requests, table)]
    for (plan, seed), there in reversed(list(zip(requests, expected, strict=True))):
        assert content(model.carry_out(plan, (seed,), table)[0]) == there
    assert len({trace[0][0] for trace in expected[20:]}) == 1  # replayed


def test_rejected_repetitions_are_kept_on_request_only():
    trace, seed = of_repetitions(2)
    whole = carried_out(LOOP._replace(rejected=True), seed)
    assert trace.draws == whole.draws == len(whole) > len(trace) == 3
    assert [whole.value[i] for i in whole.accepted] == trace.value
    with pytest.raises(ValueError, match="rejected"):
        _ = whole.rows


def test_a_saved_trace_is_replayed():
    table = AddressTable(["something else"])
    trace = carried_out(LOOP, 4)
    plan = replay_plan(saved_trace(trace.addresses, trace), Observations({"obs": 0.7}))
    found = carried_out(plan, 9, table=table)
    assert not found.mismatch
    assert found.value == trace.value
    assert found.log_likelihood == trace.log_likelihood


def test_an_open_scope_that_is_repeated_loses_the_run():
    model, table = DrawByDraw(examples.model("dependent_loop")), AddressTable()
    [start] = model.carry_out(LOOP, (5,), table)
    plan = LOOP._replace(rows=start.rows.with_value(1, 1e-6), prefix=2)  # u > x^theta, unless u is drawn again
    [lost] = model.carry_out(plan, (1,), table)
    assert lost.lost
    assert (len(lost), lost.observes, lost.tags, lost.result) == (0, [], {}, None)
    assert lost.draws == 3


@pytest.mark.parametrize("second", [Normal(0.0, 2.0), Uniform(0.0, 1.0), None])
def test_a_run_that_differs_from_its_rows_ends_at_the_difference(second):
    priors = [Normal(0.0, 1.0)]

    def model():
        sample(Normal(0.0, 1.0))
        if priors[0] is not None:
            sample(priors[0])
        tag("after", 1.0)
        observe(Normal(0.0, 1.0), name="obs", value=0.0)

    carrier, table = DrawByDraw(FunctionModel(model)), AddressTable()
    [start] = carrier.carry_out(RunPlan(observed={}, details=True), (1,), table)
    priors[0] = second
    [found] = carrier.carry_out(RunPlan(start.rows, 2, {}, details=True), (2,), table)
    assert found.mismatch
    assert len(found) == 1
    assert ("after" in found.tags) is (second is None)  # the run was over before it showed


def test_a_kept_value_needs_the_same_support():
    width = [1.0]

    def model():
        sample(Normal(0.0, 1.0))
        sample(Uniform(0.0, width[0]))
        sample(Poisson(width[0]))

    carrier, table = DrawByDraw(FunctionModel(model)), AddressTable()
    [start] = carrier.carry_out(RunPlan(details=True), (1,), table)
    width[0] = 2.0
    [found] = carrier.carry_out(RunPlan(start.rows.with_value(0, 0.3), 1, details=True), (2,), table)
    assert found.row == [0, -1, 2]
    assert found.value[2] == start.value[2]
    assert found.log_ratio == found.log_prob[2] - start.log_prob[2]


def test_observations_are_scored_drawn_or_do_not_fit():
    def model():
        observe(Normal(np.zeros(2), 1.0), name="pair")
        observe(Poisson(3.0), name="count", value=4.0)

    def observed(**plan):
        return carried_out(RunPlan(**plan), 3, FunctionModel(model))

    prior = observed()
    assert [o.value for o in prior.observes] == [None, None]
    assert (prior.log_likelihood, prior.unscored()) == (0.0, ())
    own = observed(observed={})
    assert [o.name for o in own.unscored()] == ["pair"]
    assert own.log_likelihood == pytest.approx(Poisson(3.0).log_prob(4.0))
    given = observed(observed={"pair": np.ones(2), "count": np.array([5.0])})
    assert given.unscored() == []
    assert given.log_likelihood == pytest.approx(2 * Normal(0.0, 1.0).log_prob(1.0) + Poisson(3.0).log_prob(5.0))
    wrong = observed(observed={"pair": np.ones(3)})
    assert [o.name for o in wrong.misfits()] == ["pair"]
    assert math.isnan(wrong.log_likelihood)
    drawn = observed(draw_below=2)
    assert [o.value is None for o in drawn.observes] == [True, False]
    assert drawn.log_likelihood == 0.0


def test_an_assisted_run_asks_until_it_is_handed_over():
    asked = []

    def model():
        sample(Normal(0.0, 1.0), name="a")
        sample(Normal(0.0, 1.0), control=False)
        with rejection_scope() as scope:
            while sample(Uniform(0.0, 1.0), name="u") < 0.5:
                scope.repeat()
        sample(Normal(0.0, 1.0), name="b")
        sample(Normal(0.0, 1.0), name="c")

    def answer(site):
        asked.append(site.name)
        hand_over = {"u": HandOver.SCOPE, "b": HandOver.REST}.get(site.name, HandOver.NOTHING)
        return Answer(7.0 if hand_over is HandOver.NOTHING else None, hand_over)

    carrier, table = DrawByDraw(FunctionModel(model)), AddressTable()
    for seed in range(5):
        asked.clear()
        trace = carrier.assist(RunPlan(details=True), seed, answer, table)
        assert asked == ["a", "u", "b"]
        assert trace.value[0] == 7.0
        assert trace.value[2] >= 0.5
        assert len(trace) == 5
