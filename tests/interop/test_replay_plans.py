# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Plans: the front end reuses, draws and loses the same entries as `draw_by_draw`, which this compares it with."""

import math

import numpy as np
import pytest
from delegation import (
    EVERYTHING,
    Reference,
    asked_for,
    assert_same_entries,
    assert_same_outcome,
    assert_same_trace,
    content,
    new_draws,
)

from etalumis.address import AddressTable, split
from etalumis.delegation import RunPlan
from etalumis.errors import InferenceError
from etalumis.inference.block_moves import BlockMove
from etalumis.inference.chain import Chain
from etalumis.inference.kernel import WHOLE_TRACE, Move, Settings, choose_move
from etalumis.inference.observations import Observations
from etalumis.inference.replays import check_complete_replay
from etalumis.inference.runner import ModelRunner
from etalumis.inference.state import StructureCache
from etalumis.ppx import Simulator
from etalumis.rows import ReplayRows, SavedKeys
from etalumis.trace import CONTROLLED, REPLACED

MODELS = {
    "branching": (["branching"], {"obs": 6.0}),
    "marsaglia": (["marsaglia"], {"obs0": 8.0, "obs1": 9.0}),
    "marsaglia --replaced": (["marsaglia", "--replaced"], {"obs0": 8.0, "obs1": 9.0}),
    "drifting": (["drifting"], {"track": [0.5, 0.75], "shares": [0.25, 0.5]}),
}
SETTINGS = Settings(focus_share=0.3, fresh_share=0.4, tail_share=0.15, redraw_share=0.05)


@pytest.fixture(params=MODELS)
def model(request, cpp_examples):
    (program, *options), observations = MODELS[request.param]
    with Simulator([str(cpp_examples / program), *options]) as simulator:
        yield simulator, Observations(observations)


@pytest.fixture(scope="module")
def drifting(cpp_examples):
    with Simulator([str(cpp_examples / "drifting")]) as simulator:
        yield simulator


def reference_state(simulator, structures, plan, seed, table):
    """The states of a prior run that the front end carried out, and of one draw by draw with the same draws."""
    plan = plan._replace(rejected=True)
    [whole] = simulator.carry_out(plan, (seed,), table)
    [trace] = simulator.carry_out(plan._replace(rejected=False), (seed,), table)
    reference = Reference.of(simulator, plan._replace(rejected=False), table, whole.value)
    assert_same_entries(trace, reference)
    assert_same_outcome(trace, reference)
    return structures.state(trace), structures.state(reference)


def assert_carried_out_alike(simulator, plan, reference_plan, table, seed):
    """Compare a run of the front end with one draw by draw: everything but the last bits of densities."""
    plan, reference_plan = (one._replace(rejected=True, parameters=True) for one in (plan, reference_plan))
    [found] = simulator.carry_out(plan, (seed,), table)
    draws = None if found.lost else new_draws(found)  # a lost run has no entries
    reference = Reference.of(simulator, reference_plan, table, draws, seed=seed)
    if found.lost:
        assert len(found) == len(found.observes) == len(found.tags) == 0
    else:
        assert_same_run(found, reference)
    return found, reference


def assert_same_run(found, reference):
    assert (found.mismatch, found.diverged, found.repeated) == (
        reference.mismatch,
        reference.diverged,
        reference.repeated,
    )
    assert_same_entries(found, reference)
    assert found.details["row"].tolist() == reference.row
    assert found.log_ratio == pytest.approx(reference.log_ratio, rel=1e-10, abs=1e-10)
    assert not reference.lost
    if not found.mismatch:
        assert_same_trace(found, reference)


def test_proposals_are_those_of_runs_draw_by_draw(model):
    """Hundreds of pairs of a state and a move: reused entries, lost proposals, ratios of densities, traces."""
    simulator, observations = model
    rng, table, structures = np.random.default_rng(17), AddressTable(), StructureCache(None)
    plan = EVERYTHING._replace(observed=observations.values)
    states = [reference_state(simulator, structures, plan, seed, table) for seed in range(60)]
    kept = fresh = 0
    lost = np.zeros(2, int)
    for number in range(360):
        state, reference_of_state = states[number % len(states)]
        move = choose_move(state, rng, SETTINGS)
        if move.log_ratio == -math.inf:
            continue
        plans = [move.plan(start, observations.values) for start in (state, reference_of_state)]
        found, reference = assert_carried_out_alike(simulator, *plans, table, int(rng.integers(2**63)))
        assert not found.mismatch
        if simulator.name == "marsaglia_replaced" and move.keep:  # reuses all values, and leaves nothing to draw
            assert found.lost == reference.lost
        if not found.lost:
            rows = found.details["row"].tolist()
            kept += sum(row > move.position for row in rows)
            fresh += rows.count(-1)
        # the same move with other draws: lost as often
        lost += found.lost, Reference.of(simulator, plans[1], table, seed=number).lost
    assert abs(lost[0] - lost[1]) <= 5 * math.sqrt(lost.sum())
    assert min(lost) > 5 or simulator.name in ("branching", "marsaglia")
    assert kept > 50
    assert fresh > 50


def test_block_moves_are_those_of_runs_draw_by_draw(model):
    """Joint changes of entries, some of which lead to other entries: a mismatch, at the same one."""
    simulator, observations = model
    rng, table, structures = np.random.default_rng(3), AddressTable(), StructureCache(None)
    plan = EVERYTHING._replace(observed=observations.values)
    outcomes = []
    for seed in range(60):
        states = reference_state(simulator, structures, plan, seed, table)
        count = int(rng.integers(1, min(4, len(states[0].candidates) + 1)))
        positions = sorted(rng.choice(states[0].candidates, count, replace=False).tolist())
        values = [states[0].prior(i).sample(rng) for i in positions]
        plans = [BlockMove(state, positions, values, 0.0).plan(state, observations.values) for state in states]
        found, _ = assert_carried_out_alike(simulator, *plans, table, seed)
        outcomes.append((found.lost, found.mismatch))
    assert (False, False) in outcomes
    assert len(set(outcomes)) > 1 or simulator.name == "branching"


def test_proposed_rows_are_used_as_in_runs_draw_by_draw(model):
    """Rows of another run: used as long as they fit, and none after the first that does not."""
    simulator, observations = model
    rng, table = np.random.default_rng(8), AddressTable()
    plan = RunPlan(observed=observations.values, details=True, parameters=True)
    outcomes = set()
    for seed in range(300):
        [whole] = simulator.carry_out(plan._replace(rejected=True), (seed,), table)
        [trace] = simulator.carry_out(plan, (seed,), table)
        reference = Reference.of(simulator, plan, table, whole.value)
        rows = trace.controlled[: int(rng.integers(0, len(trace.controlled) + 1))]
        values = [trace.distribution[i].sample(rng) if rng.random() < 0.2 else trace.value[i] for i in rows]
        values = [math.nan if rng.random() < 0.1 else value for value in values]
        scopes = [trace.scope[i] for i in rows]
        plans = []
        for source in (trace, reference):
            numbers = source.accepted_numbers
            entries = [(value, *numbers[i]) for i, value in zip(rows, values, strict=True)]
            proposed = source.keys.proposed(entries, scopes) if entries else None
            plans.append(plan._replace(rows=proposed, proposed=True))
        [found] = simulator.carry_out(plans[0], (seed + 1000,), table)
        repeated = [scope for scope, repetition in zip(found.scope, found.repetition, strict=True) if repetition]
        of_scope = [value for value, scope in zip(values, scopes, strict=True) if scope == min(repeated, default=-1)]
        known = len(of_scope) if found.repeated and not any(map(math.isnan, of_scope)) else 0
        if found.draws - len(found) != known:
            continue  # new draws of rejected repetitions, which the trace does not have
        assert_same_run(found, Reference.of(simulator, plans[1], table, new_draws(found)))
        outcomes.add((found.diverged, found.repeated))
    assert (True, False) in outcomes
    assert (False, False) in outcomes or simulator.name == "drifting"  # whose priors differ in every run
    assert (False, True) in outcomes or simulator.name != "marsaglia_replaced"


def test_a_prefix_is_replayed_and_the_rest_comes_from_the_seed(drifting):
    table = AddressTable()
    for seed, trace in enumerate(drifting.carry_out(EVERYTHING._replace(rejected=False), range(8), table)):
        values = trace.value
        for prefix in (0, 1, 5, len(values) - 3, len(values)):
            plan = EVERYTHING._replace(rows=trace.rows.first(prefix), prefix=prefix)
            found, again = drifting.carry_out(plan, (seed + 50, seed + 50), table)
            assert content(found) == content(again)
            assert found.value[:prefix] == values[:prefix]
            assert found.details["row"].tolist() == [*range(prefix), *[-1] * (len(found) - prefix)]
            assert found.log_ratio == 0
            assert_same_trace(found, asked_for(drifting, found, {}))
        assert len(found) == len(values)
        assert_same_outcome(found, asked_for(drifting, trace, {}))


def of_length(simulator, table, entries, rejected=False):
    """A prior trace with a number of entries: 12 without the scope of the detour, 15 with it."""
    plan = EVERYTHING._replace(rejected=rejected)
    return next(t for t in simulator.carry_out(plan, range(100), table) if len(t) == entries)


def test_values_are_reused_unless_their_support_changed(drifting):
    table = AddressTable()
    trace = of_length(drifting, table, 12)
    names = trace.name
    start, width, kind, hits = (names.index(name) for name in ("start", "width", "kind", "hits"))
    uncontrolled = [i for i, flags in enumerate(trace.flags) if not flags & CONTROLLED]
    scope = [i for i, number in enumerate(trace.scope) if number]
    rows = trace.rows.with_value(start, trace.value[start] * 0.9 + 0.1)
    [found] = drifting.carry_out(EVERYTHING._replace(rows=rows, prefix=1, rejected=False), (5,), table)
    drawn = {i for i, row in enumerate(found.details["row"].tolist()) if row == -1}
    assert {width, *uncontrolled, *scope} == drawn  # the support of the width ends at the start
    assert [found.value[i] for i in (kind, hits)] == [trace.value[i] for i in (kind, hits)]
    kept = [i for i in range(1, 12) if i not in drawn]
    expected = math.fsum(found.log_prob[i] - trace.log_prob[i] for i in kept)
    assert found.log_ratio == pytest.approx(expected, rel=1e-12)
    # one more scope: the scope after it is no longer the first instance, the number of categories differs
    detour = names.index("detour")
    rows = trace.rows.with_value(detour, 1.0)
    [found] = drifting.carry_out(EVERYTHING._replace(rows=rows, prefix=detour + 1, rejected=False), (5,), table)
    assert len(found) == 15
    assert found.details["row"].tolist() == [*range(detour + 1), *[-1] * 8]
    assert found.distribution[-1].total_count == 4 + found.value[-2]


def test_a_lost_run_has_no_content(drifting):
    table = AddressTable()
    trace = of_length(drifting, table, 12)
    time = trace.name.index("time")
    rows = trace.rows.with_value(time, 50.0)
    plan = EVERYTHING._replace(rows=rows, prefix=time + 1)
    lost, whole = drifting.carry_out(plan, (1, 2), table), drifting.carry_out(EVERYTHING, (3,), table)
    assert [t.lost for t in lost] == [True, True]
    assert [(len(t), t.tags, t.observes, t.result) for t in lost] == [(0, {}, [], None)] * 2
    assert not whole[0].lost
    assert_same_trace(whole[0], asked_for(drifting, whole[0], {}))


def test_a_run_that_differs_from_the_rows_is_a_mismatch(drifting):
    table = AddressTable()
    trace = of_length(drifting, table, 12)
    plan = EVERYTHING._replace(rows=trace.rows, prefix=len(trace))

    def mismatch(rows, prefix=plan.prefix):
        [found] = drifting.carry_out(plan._replace(rows=rows, prefix=prefix), (1,), table)
        if found.mismatch:
            with pytest.raises(InferenceError, match="replay broke off"):
                check_complete_replay(found)
        return found.mismatch

    assert not mismatch(trace.rows)
    entries, details = trace.rows.entries.copy(), trace.rows.details.copy()
    details["log_prob"][3] = np.nextafter(details["log_prob"][3], 0.0)
    assert mismatch(ReplayRows(trace.rows.entries, details, trace.rows.keys))
    assert not mismatch(ReplayRows(trace.rows.entries, details, trace.rows.keys), prefix=3)
    entries["address"][[0, 6]] = entries["address"][[6, 0]]
    assert mismatch(ReplayRows(entries, trace.rows.details, trace.rows.keys))
    longer = [np.append(column, column[-1:]) for column in (trace.rows.entries, trace.rows.details)]
    assert mismatch(ReplayRows(*longer, trace.rows.keys), prefix=13)
    detour = trace.name.index("detour")
    assert mismatch(trace.rows.with_value(detour, 1.0))  # another scope instead of the recorded entry
    rejecting = trace.name.index("time")
    assert mismatch(trace.rows.with_value(rejecting, 50.0))  # another repetition


def test_rows_of_another_process_or_simulator_are_translated(cpp_examples):
    table, other_table = AddressTable(), AddressTable(["something else"])
    command = [str(cpp_examples / "drifting")]
    with Simulator(command) as simulator, Simulator(command) as other:
        traces = simulator.carry_out(EVERYTHING._replace(rejected=False), range(6), table)
        simulator.restart()
        other.carry_out(RunPlan(), (77,), other_table)  # its numbers differ
        for peer, addresses in ((simulator, table), (other, other_table)):
            for trace in traces:
                plan = EVERYTHING._replace(rows=trace.rows, prefix=len(trace))
                for _ in range(2):
                    [found] = peer.carry_out(plan, (1,), addresses)
                    assert (found.mismatch, found.value, found.name) == (False, trace.value, trace.name)
                    assert found.log_prob == trace.log_prob
                    assert list(map(addresses.name, found.address)) == list(map(table.name, trace.address))
                changed = trace.rows.with_value(0, 1.5)  # reused by address, not by number
                plans = [
                    RunPlan(rows=rows, prefix=1, details=True) for rows in (changed, found.rows.with_value(0, 1.5))
                ]
                one, same = (peer.carry_out(plan, (4,), addresses)[0] for plan in plans)
                assert content(one) == content(same)
                assert (one.details["row"] > 0).sum() >= 4


def test_rows_from_a_file_are_replayed_in_a_new_process(cpp_examples):
    command = [str(cpp_examples / "marsaglia"), "--replaced"]
    with Simulator(command) as simulator:
        [trace] = simulator.carry_out(RunPlan(details=True), (3,), AddressTable())
    keys = [
        (*split(trace.addresses.name(address)), name, flags & (CONTROLLED | REPLACED))
        for address, name, flags in zip(trace.address, trace.name, trace.flags, strict=True)
    ]
    rows = SavedKeys(keys).rows(trace.value, trace.scope)
    with Simulator(command) as simulator:
        [found] = simulator.carry_out(RunPlan(rows=rows, prefix=rows.size, details=True), (9,), AddressTable())
    assert not found.mismatch
    assert (found.value, found.log_prob) == (trace.value, trace.log_prob)


@pytest.mark.parametrize("delegate", [True, False])
def test_a_chain_continues_from_its_checkpoint_with_and_without_delegation(cpp_examples, delegate):
    (program, *options), observations = MODELS["marsaglia --replaced"]
    command = [str(cpp_examples / program), *options]
    with Simulator(command) as simulator:
        chain = new_chain(simulator, observations)
        [trace] = chain.runner.priors((4,), details=True)
        chain.state = chain.structures.state(trace)
        for _ in range(20):
            chain.step()
        snapshot = chain.snapshot()
    with Simulator(command, delegate=delegate) as simulator:
        other = new_chain(simulator, observations)
        if delegate:
            other.resume(snapshot)
            assert other.state.log_likelihood == chain.state.log_likelihood
        else:  # scored here, where the last bit may differ
            snapshot["log_likelihood"] = pytest.approx(snapshot["log_likelihood"], rel=1e-12)
            other.resume(snapshot)
        assert other.state.value == chain.state.value
        for _ in range(20):
            other.step()


def new_chain(simulator, observations):
    return Chain(ModelRunner(simulator, Observations(observations), seed=1), np.random.default_rng(5), SETTINGS)


def test_a_move_that_changes_everything_is_a_prior_run(drifting):
    table = AddressTable()
    observations = Observations({"track": [0.5, 0.75], "shares": [0.25, 0.5]})
    plan = RunPlan(observed=observations.values, details=True)
    [trace] = drifting.carry_out(plan, (1,), table)
    move = Move(WHOLE_TRACE, 0.0, 0.0, keep=False)
    proposal = move.plan(StructureCache(None).state(trace), observations.values)
    [found], [prior] = (drifting.carry_out(p, (8,), table) for p in (proposal, plan))
    assert content(found) == content(prior)
