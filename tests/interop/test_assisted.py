# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Assisted runs, observations that are sent once, and concurrent clients."""

from collections import Counter

import numpy as np
import pytest
from delegation import EVERYTHING, Counting, asked_for, assert_same_trace, content

from etalumis.address import AddressTable
from etalumis.delegation import Answer, HandOver, RunPlan
from etalumis.errors import InferenceError, ProtocolError, SimulatorError
from etalumis.inference import rmh
from etalumis.inference.observations import Observations
from etalumis.inference.runner import ModelRunner
from etalumis.ppx import Simulator, connect
from etalumis.trace import CONTROLLED, REJECTED


@pytest.fixture
def drifting(cpp_examples):
    with Simulator([str(cpp_examples / "drifting")]) as simulator:
        yield simulator


class Proposing:
    """Answers controlled draws from the prior, with a separate generator; records the draws."""

    def __init__(self, seed=0, hand_over=lambda site: None):
        self.rng, self.sites, self.hand_over = np.random.default_rng(seed), [], hand_over

    def __call__(self, site):
        self.sites.append(site)
        return self.hand_over(site) or Answer(site.distribution.sample(self.rng))


def test_only_controlled_draws_are_messages(drifting):
    table = AddressTable()
    uncontrolled = []
    for seed in (1, 2, 2):
        proposing, counting = Proposing(7), Counting(drifting)
        trace = drifting.assist(EVERYTHING, seed, proposing, table)
        drifting._connection = counting.connection
        controlled = [i for i, flags in enumerate(trace.flags) if flags & CONTROLLED]
        assert 0 < len(controlled) < len(trace)
        assert len(counting.requests) == 1 + len(controlled)
        for site, i in zip(proposing.sites, controlled, strict=True):
            at = (site.address, site.distribution, site.name, site.scope, site.repetition)
            assert at == (
                trace.address[i], trace.distribution[i], trace.name[i], trace.scope[i], trace.repetition[i],
            )  # fmt: skip
            assert site.control
        rng = np.random.default_rng(7)
        assert [trace.value[i] for i in controlled] == [trace.distribution[i].sample(rng) for i in controlled]
        assert_same_trace(trace, asked_for(drifting, trace, {}))
        uncontrolled.append([v for v, flags in zip(trace.value, trace.flags, strict=True) if not flags & CONTROLLED])
    assert uncontrolled[1] == uncontrolled[2] != uncontrolled[0]


def test_draws_after_a_hand_over_come_from_the_seed(drifting):
    table = AddressTable()
    for seed, prior in enumerate(drifting.carry_out(EVERYTHING, range(20), table)):
        proposing = Proposing(hand_over=lambda site: Answer(None, HandOver.REST))
        trace = drifting.assist(EVERYTHING, seed, proposing, table)
        assert len(proposing.sites) == 1
        assert content(trace) == content(prior)
        # with a value for the draw itself
        proposing = Proposing(hand_over=lambda site: Answer(1.5, HandOver.REST))
        trace = drifting.assist(EVERYTHING, seed, proposing, table)
        assert (len(proposing.sites), trace.value[0]) == (1, 1.5)
        assert_same_trace(trace, asked_for(drifting, trace, {}))


@pytest.mark.parametrize("value", [None, 1.95])
def test_a_scope_that_is_handed_over_sends_no_more_draws(drifting, value):
    table, rejected, scopes = AddressTable(), 0, Counter()
    for seed in range(60):
        proposing = Proposing(seed, lambda site: Answer(value, HandOver.SCOPE) if site.scope else None)
        trace = drifting.assist(EVERYTHING, seed, proposing, table)
        inside = [site for site in proposing.sites if site.scope]
        assert [site.scope for site in inside] == sorted(set(trace.scope) - {0})  # once each
        assert all(site.repetition == 0 and site.name == "time" for site in inside)
        outside = [i for i, flags in enumerate(trace.flags) if flags & CONTROLLED and not trace.scope[i]]
        assert len(proposing.sites) == len(inside) + len(outside)
        if value is not None:
            firsts = [i for i, name in enumerate(trace.name) if name == "time" and not trace.repetition[i]]
            assert {trace.value[i] for i in firsts} == {value}
        assert_same_trace(trace, asked_for(drifting, trace, {}))
        rejected += sum(flags & REJECTED > 0 for flags in trace.flags)
        scopes[len(inside)] += 1
    assert rejected > 0
    assert min(scopes[1], scopes[2]) > 5


class Interrupted(Exception):
    """An exception in an answer."""


@pytest.mark.parametrize("at", [0, 3, 8])
def test_an_exception_in_an_answer_leaves_the_simulator_usable(drifting, at):
    table = AddressTable()
    observed = {"track": np.array([0.5, 0.25])}
    plan = EVERYTHING._replace(observed=observed)
    [before] = drifting.carry_out(plan, (1,), table)
    pid = drifting.pid

    def hand_over(site):
        if len(asked) == at:
            raise Interrupted
        asked.append(site)

    for attempt in range(3):
        asked = []
        with pytest.raises(Interrupted):
            drifting.assist(plan, 100 + attempt, Proposing(attempt, hand_over), table)
        [after] = drifting.carry_out(plan, (1,), table)
        assert content(after) == content(before)
    assert drifting.pid == pid
    asked = []
    with pytest.raises(Interrupted):
        drifting.assist(plan, 9, Proposing(9, hand_over), table)
    # rows of the earlier trace are accepted, and an assisted and an interactive run succeed
    [again] = drifting.carry_out(plan._replace(rows=after.rows, prefix=3, rejected=False), (1,), table)
    assert again.value[:3] == before.value[:3]
    assert_same_trace(before, asked_for(drifting, before, observed))
    trace = drifting.assist(plan, 1, lambda site: Answer(None, HandOver.REST), table)
    assert content(trace) == content(before)


def test_an_exception_in_an_interactive_run_between_delegated_ones(drifting):
    table = AddressTable()
    [before] = drifting.carry_out(EVERYTHING, (4,), table)
    with pytest.raises(IndexError):
        asked_for(drifting, _Short(before))
    [after] = drifting.carry_out(EVERYTHING, (4,), table)
    assert content(after) == content(before)


class _Short:
    """A trace that ends early: the controller has no value for the rest."""

    def __init__(self, trace):
        self.value, self.addresses = trace.value[:3], trace.addresses


# ---------------------------------------------------------------------- observations


def test_observations_are_sent_once(cpp_examples):
    observed = {"obs0": np.array(8.0), "obs1": np.array(9.0), "ballast": np.zeros(10_000)}
    table = AddressTable()
    with Simulator([str(cpp_examples / "gaussian")]) as simulator:
        counting = Counting(simulator)
        plan = RunPlan(observed=observed, details=True)
        traces = [simulator.carry_out(plan, (seed,), table)[0] for seed in (1, 2)]
        rows = traces[0].rows.with_value(0, 3.0)
        traces += simulator.carry_out(plan._replace(rows=rows, prefix=1), (3,), table)
        simulator.carry_out(RunPlan(), (1,), table)  # without scoring
        traces += simulator.carry_out(plan, (1,), table)
        simulator.assist(plan, 1, Proposing(), table)
        first, *others = counting.requests
        assert first > 80_000
        assert max(others) < 300
        assert content(traces[0]) == content(traces[3])
        assert {trace.log_likelihood for trace in traces[:3]} == {
            asked_for(simulator, trace, {"obs0": 8.0, "obs1": 9.0}).log_likelihood for trace in traces[:3]
        }
        other = {"obs0": np.array(1.0)}
        [changed] = simulator.carry_out(RunPlan(observed=other), (1,), table)
        assert changed.observes[1].log_prob == 0.0  # obs1 is no longer observed
        assert changed.observes[0].value == 1.0


@pytest.fixture(params=[True, False], ids=["delegated", "asked"])
def delegate(request):
    return request.param


def refused(command, delegate, observations):
    def batch():
        list(runner.priors((1, 2)))
        runner.finish()

    def one_run():
        runner.carry_out(RunPlan(observed=runner.observations.values), 1)
        runner.finish()

    with Simulator(command, delegate=delegate) as simulator:
        runner = ModelRunner(simulator, Observations(observations), seed=1)
        with pytest.raises(InferenceError) as error:
            batch()
        with pytest.raises(InferenceError) as of_one_run:
            one_run()
    assert str(of_one_run.value) == str(error.value) or "NaN" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ({"track": [1.0, 2.0, 3.0]}, "'track' has shape (3,); the model observes shape (2,) under this name"),
        ({"track": [[1.0, 2.0]]}, "'track' has shape (1, 2); the model observes shape (2,) under this name"),
        ({"track": 1.0}, "'track' has shape (); the model observes shape (2,) under this name"),
        ({"track": [1.0, 2.0], "count": [1.0, 2.0]}, "'count' has shape (2,); the model observes shape ()"),
        ({"truck": [1.0, 2.0]}, "the model does not observe 'truck'; it observes 'track', "),
        # infinite at one end, zero density beyond the other: the sum of log densities is NaN
        ({"shares": [0.0, 2.0]}, "log likelihood of observe 'shares' at [Drifting::forward()+0x"),
    ],
)
def test_observations_that_do_not_fit_have_the_same_error(cpp_examples, delegate, observations, message):
    others = {name: None for name in ("track", "shares")}  # left out on purpose
    assert message in refused([str(cpp_examples / "drifting")], delegate, {**others, **observations})


def test_a_statement_without_a_value_has_the_same_error(cpp_examples, delegate):
    message = refused([str(cpp_examples / "drifting")], delegate, {"track": [1.0, 2.0]})
    assert "the model also observes 'shares', for which no value is given; values are given for 'track'" in message


def test_values_of_the_model_are_scored_unless_another_one_is_given(drifting):
    table = AddressTable()
    for observed, count in (({}, 2.0), ({"count": np.array(5.0)}, 5.0)):
        [trace] = drifting.carry_out(EVERYTHING._replace(observed=observed), (3,), table)
        track, shares, counted = trace.observes
        assert [track.value, shares.value, track.log_prob, shares.log_prob] == [None, None, 0, 0]
        assert float(counted.value) == count
        assert counted.log_prob == pytest.approx(counted.likelihood.log_prob(np.array(count)), rel=1e-13)
        assert trace.log_likelihood == counted.log_prob
    [unscored] = drifting.carry_out(RunPlan(parameters=True), (3,), table)
    assert [o.value for o in unscored.observes] == [None] * 3
    assert unscored.log_likelihood == 0


def test_small_observations_are_drawn_on_request(drifting):
    table = AddressTable()
    drawn = {}
    for below, there in ((0, []), (1, []), (2, ["count"]), (3, ["track", "shares", "count"])):
        traces = drifting.carry_out(RunPlan(parameters=True, draw_below=below), range(300), table)
        for trace in traces:
            values = {o.name: o.value for o in trace.observes if o.value is not None}
            assert list(values) == there
            assert {o.log_prob for o in trace.observes} == {0.0}
            for observe in trace.observes:
                assert observe.value is None or observe.value.shape == observe.likelihood.shape
        drawn[below] = traces
    # of the likelihood: standardised, the first coordinate is standard normal
    z = [(o.value - o.likelihood.arrays[0])[0] / 0.7 for o in (trace.observes[0] for trace in drawn[3])]
    assert abs(np.mean(z)) < 5 / np.sqrt(300)
    assert abs(np.var(z) - 1) < 5 * np.sqrt(2 / 300)


# ---------------------------------------------------------------------- clients


WORK = {
    "delegated": lambda simulator, table: simulator.carry_out(EVERYTHING, (1, 2), table),
    "assisted": lambda simulator, table: simulator.assist(EVERYTHING, 1, Proposing(), table),
}


@pytest.mark.parametrize("work", WORK)
def test_the_first_of_two_clients_gets_an_error_about_its_session(cpp_examples, tmp_path, work):
    endpoint = f"ipc://{tmp_path}/shared.ipc"
    command = [str(cpp_examples / "drifting")]
    table, other_table = AddressTable(), AddressTable()
    with Simulator(command, endpoint=endpoint) as first:
        expected = [content(trace) for trace in first.carry_out(EVERYTHING, range(6), table)]
        with connect(endpoint, timeout_s=10) as second:
            assert content(second.carry_out(EVERYTHING, (0,), other_table)[0]) == expected[0]
            with pytest.raises(SimulatorError, match=r"forgotten this session(.|\n)*another client"):
                WORK[work](first, table)
            found = second.carry_out(EVERYTHING, (3, 4), other_table)
            assert [content(trace) for trace in found] == expected[3:5]
        # the first continues with a new process
        assert [content(trace) for trace in first.carry_out(EVERYTHING, range(6), table)] == expected


def test_a_handshake_during_an_assisted_run(cpp_examples, tmp_path):
    endpoint = f"ipc://{tmp_path}/shared.ipc"
    table, other_table = AddressTable(), AddressTable()
    with (
        Simulator([str(cpp_examples / "drifting")], endpoint=endpoint),
        connect(endpoint, timeout_s=10) as second,
        connect(endpoint, timeout_s=10) as first,
    ):
        [expected] = first.carry_out(EVERYTHING, (3,), table)
        found = []

        def answer(site):
            if not found:
                second.restart()  # shakes hands
                found.extend(second.carry_out(EVERYTHING, (3,), other_table))
            return Answer(0.5)

        with pytest.raises((SimulatorError, ProtocolError), match="drifting"):
            first.assist(EVERYTHING, 1, answer, table)
        assert [content(trace) for trace in found] == [content(expected)]
        assert content(second.carry_out(EVERYTHING, (3,), other_table)[0]) == content(expected)
        first.restart()
        assert content(first.carry_out(EVERYTHING, (3,), table)[0]) == content(expected)


def test_delegation_can_be_refused(cpp_examples):
    with Simulator([str(cpp_examples / "gaussian")], delegate=False) as simulator:
        assert not simulator.delegates
        assert (simulator.handshake.delegation, simulator.handshake.session) == (0, 0)
        posterior = rmh(simulator, {"obs0": 8.0, "obs1": 9.0}, runs=20, seed=1)
    assert len(posterior.log_weight) == 20
