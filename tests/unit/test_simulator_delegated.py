# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Delegated runs of Sherpa give the same traces as runs draw by draw, in any process and batch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from delegation import (
    EVERYTHING,
    Reference,
    accepted_values,
    asked_for,
    assert_same_outcome,
    assert_same_trace,
    content,
    new_draws,
)

from etalumis.address import AddressTable
from etalumis.delegation import RunPlan
from etalumis.inference.kernel import Settings, choose_move
from etalumis.inference.observations import Observations
from etalumis.inference.state import StructureCache
from etalumis.ppx import Simulator

TRACES = 200


def command(folder: Path) -> list[str]:
    return [str(folder / "bin" / "sherpa_tau"), "--config", str(folder / "sherpa_tau.conf")]


@pytest.fixture(scope="module")
def simulator(sherpa_simulator: Path) -> Iterator[Simulator]:
    with Simulator(command(sherpa_simulator)) as simulator:
        assert simulator.delegates
        yield simulator


@pytest.fixture(scope="module")
def observed(simulator: Simulator) -> dict[str, np.ndarray]:
    """A noisy observation of one of the traces."""
    [trace] = simulator.carry_out(RunPlan(parameters=True), (12345,), AddressTable())
    [observation] = trace.observes
    return {observation.name: observation.likelihood.sample(np.random.default_rng(2))}


def test_delegated_traces_equal_traces_recorded_by_draw(simulator: Simulator, observed: dict[str, np.ndarray]) -> None:
    """Values, addresses, priors, densities and the expected observation are equal, the likelihood within 1e-9."""
    table = AddressTable()
    plan = EVERYTHING._replace(observed=observed)
    types, repetitions = set(), 0
    for start in range(0, TRACES, 50):
        for trace in simulator.carry_out(plan, range(start, start + 50), table):
            asked = asked_for(simulator, trace, observed)
            assert_same_trace(trace, asked, likelihood=1e-9)
            expected, found = (one.observes[0].likelihood.arrays[0] for one in (asked, trace))
            np.testing.assert_array_equal(found, expected)
            types.add(trace.type)
            repetitions += sum(trace.repetition)
    assert repetitions > 0, "no loop ever rejected: the test tests less than it says"
    assert len(types) > 5


def test_the_same_seed_gives_the_same_trace_in_a_fresh_process_and_in_any_batch(
    simulator: Simulator, sherpa_simulator: Path
) -> None:
    seeds = [3, 2**63 + 1, 17, 0, 99, 4]
    plan = EVERYTHING._replace(observed=None)
    expected = dict(zip(seeds, map(whole, simulator.carry_out(plan, seeds, AddressTable())), strict=True))
    table = AddressTable()
    with Simulator(command(sherpa_simulator)) as other:
        for batch in ((17,), (99, 4, 3), (0, 2**63 + 1, 17)):
            for seed, trace in zip(batch, other.carry_out(plan, batch, table), strict=True):
                assert whole(trace) == expected[seed]
            [brief] = other.carry_out(RunPlan(), batch[:1], table)
            assert brief.value == accepted_values(other.carry_out(plan, batch[:1], table)[0])
            other.carry_out(RunPlan(), (1000,), table)


def whole(trace):
    return content(trace), [array.tobytes() for array in trace.observes[0].likelihood.arrays]


def test_a_replay_of_accepted_entries_gives_the_trace(simulator: Simulator, observed: dict[str, np.ndarray]) -> None:
    table = AddressTable()
    for trace in simulator.carry_out(RunPlan(observed=observed, parameters=True, details=True), range(40), table):
        plan = RunPlan(trace.rows, trace.rows.size, observed, parameters=True, details=True)
        [found] = simulator.carry_out(plan, (7,), table)
        assert (found.mismatch, found.lost, found.draws) == (False, False, len(trace))
        assert found.value == trace.value
        assert found.log_prob == trace.log_prob
        assert found.log_likelihood == trace.log_likelihood
        assert_same_outcome(found, trace)


def test_proposals_equal_those_of_runs_draw_by_draw(simulator: Simulator, observed: dict[str, np.ndarray]) -> None:
    rng, table, structures = np.random.default_rng(4), AddressTable(), StructureCache(None)
    observed = Observations(observed).values
    plan = RunPlan(observed=observed, details=True)
    compared = kept = 0
    for trace in simulator.carry_out(plan, range(40), table):
        state = structures.state(trace)
        reference = structures.state(Reference.of(simulator, plan, table, trace.value))
        move = choose_move(state, rng, Settings())
        [found] = simulator.carry_out(move.plan(state, observed), (int(rng.integers(2**63)),), table)
        assert not found.mismatch
        if found.lost:
            continue
        asked = Reference.of(simulator, move.plan(reference, observed), table, new_draws(found))
        assert asked.value == found.value, "its accepted entries alone give the same run"
        assert asked.row == found.details["row"].tolist()
        assert found.log_ratio == pytest.approx(asked.log_ratio, rel=1e-9, abs=1e-9)
        compared += 1
        kept += sum(row > move.position for row in asked.row)
    assert compared > 20
    assert kept > 20
