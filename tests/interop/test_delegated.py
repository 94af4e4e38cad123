# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Delegated and assisted runs of the C++ examples: the same traces as in interactive runs."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from delegation import (
    EVERYTHING,
    Counting,
    accepted_values,
    asked_for,
    assert_same_trace,
    content,
)

from etalumis.address import AddressTable, split
from etalumis.delegation import RunPlan
from etalumis.distributions import BY_CODE, from_code
from etalumis.ppx import Simulator
from etalumis.traces.format import Provenance
from etalumis.traces.recording.builder import BlockBuilder
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.recording import Recording

EXAMPLES = {
    "gaussian": ["gaussian"],
    "marsaglia": ["marsaglia"],
    "marsaglia --replaced": ["marsaglia", "--replaced"],
    "branching": ["branching"],
    "hundred": ["hundred"],
    "all_distributions": ["all_distributions"],
    "drifting": ["drifting"],
}


@pytest.fixture(params=EXAMPLES, scope="module")
def command(request, cpp_examples):
    program, *options = EXAMPLES[request.param]
    return [str(cpp_examples / program), *options]


@pytest.fixture(scope="module")
def simulator(command):
    with Simulator(command) as simulator:
        assert simulator.delegates
        yield simulator


@pytest.fixture(scope="module")
def drifting(cpp_examples):
    with Simulator([str(cpp_examples / "drifting")]) as simulator:
        yield simulator


def local_runs(command, runs, seed):
    """The output of `--local` for each run: draws, other statements and result."""
    words = [*command, "--local", str(runs), "--seed", str(seed), "--entries"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    found, lines = [], []
    for line in printed.splitlines():
        kind, *fields = line.split("\t")
        if kind == "result":
            found.append(([f for k, f in lines if k == "sample"], [(k, f) for k, f in lines if k != "sample"], fields))
            lines = []
        else:
            lines.append((kind, fields))
    return found


def numbers(text):
    return [float(word) for word in text.split()]


def test_prior_runs_are_the_local_runs_of_the_same_seed(command, simulator):
    plan = RunPlan(parameters=True, details=True, rejected=True, draw_below=1_000_000)
    traces = simulator.carry_out(plan, range(11, 41), AddressTable())
    for trace, (samples, others, [result]) in zip(traces, local_runs(command, 30, 11), strict=True):
        bases = [split(trace.addresses.name(address))[0] for address in trace.address]
        rows = zip(
            bases, trace.name, trace.distribution, trace.flags, trace.scope, trace.repetition, trace.value, strict=True
        )
        assert [
            [base.rpartition("__")[0], name, law.kind, str(flags & 1), str(scope), str(repetition), value]
            for base, name, law, flags, scope, repetition, value in rows
        ] == [[*fields[:-1], float(fields[-1])] for fields in samples]
        assert all(base.rpartition("__")[2] == law.suffix for base, law in zip(bases, trace.distribution, strict=True))
        observed = [fields for kind, fields in others if kind == "observe"]
        for mine, (address, name, kind, *_, values) in zip(trace.observes, observed, strict=True):
            assert (mine.address, mine.name, mine.likelihood.kind) == (address, name, kind)
            if name != "count":  # has a value of the model; a run that is not scored draws one nevertheless
                assert mine.value.ravel().tolist() == numbers(values)
        tagged = {name: numbers(fields[-1]) for kind, (_, name, *fields) in others if kind == "tag"}
        tags = {name: value.ravel().tolist() for name, value in trace.tags.items()}
        several = tags.pop("result", None)  # a result of several numbers is a tag
        assert several is None or several == numbers(result)
        assert tags == tagged
        if trace.result is not None:
            assert [trace.result] == numbers(result)


def test_the_same_seed_gives_the_same_trace_in_any_batch_order_and_process(command, simulator):
    seeds = [5, 2**64 - 1, 3, 3, 0, 77, 5, 10**15]
    traces = simulator.carry_out(EVERYTHING, seeds, AddressTable())
    expected = {seed: content(trace) for seed, trace in zip(seeds, traces, strict=True)}
    table = AddressTable()
    with Simulator(command) as other:
        for size in (1, 3, len(seeds)):
            for start in range(0, len(seeds), size):
                batch = seeds[::-1][start : start + size]
                found = other.carry_out(EVERYTHING, batch, table)
                assert [content(trace) for trace in found] == [expected[seed] for seed in batch]
            other.carry_out(RunPlan(), range(100, 100 + size), table)  # other runs in between do not matter
            asked_for(other, found[0], {})
        other.restart()
        assert content(other.carry_out(EVERYTHING, (77,), table)[0]) == expected[77]


def test_delegated_and_interactive_runs_give_the_same_trace_for_the_same_values(simulator):
    table = AddressTable()
    repetitions = 0
    for trace in simulator.carry_out(EVERYTHING, range(60), table):
        assert_same_trace(trace, asked_for(simulator, trace, {}))
        repetitions += sum(trace.repetition)
    if simulator.name in ("marsaglia_replaced", "drifting"):
        assert repetitions > 10


OBSERVED = {
    "gaussian": {"obs0": 8.0, "obs1": 9.0},
    "marsaglia --replaced": {"obs0": [8.0], "obs1": 9.0},
    "branching": {"obs": 6.0},
    "all_distributions": {"obs": [1.0, 2.0]},
    "drifting": {"track": [0.5, 0.25], "count": 5.0, "shares": [0.25, 0.5]},
}


@pytest.mark.parametrize("example", OBSERVED)
def test_observations_have_the_same_scores(cpp_examples, example):
    observed = {name: np.asarray(value, float) for name, value in OBSERVED[example].items()}
    program, *options = EXAMPLES[example]
    with Simulator([str(cpp_examples / program), *options]) as simulator:
        plan = EVERYTHING._replace(observed=observed)
        traces = simulator.carry_out(plan, range(40), AddressTable())
        for trace in traces:
            assert_same_trace(trace, asked_for(simulator, trace, observed))
        # details that are not requested are missing, which changes nothing else
        for brief, trace in zip(simulator.carry_out(RunPlan(observed=observed), range(40), traces[0].addresses), traces,
                                strict=True):  # fmt: skip
            assert brief.value == accepted_values(trace)
            assert (brief.log_prior, brief.log_likelihood) == (trace.log_prior, trace.log_likelihood)
            assert {observe.distribution for observe in brief.observes} == {None}
            with pytest.raises(ValueError, match="has no details"):
                brief.rows.first(1)


@pytest.mark.parametrize("code", BY_CODE)
def test_densities_at_the_limits_of_supports_are_those_of_the_inference_side(cpp_examples, code):
    """Each entry is replayed with values of a grid, and the log densities of the front end are compared."""
    position = code - 1
    laws = {1: (1.0, 2.0), 2: (-1.0, 3.0), 3: (0.2, 0.3, 0.5), 4: (4.0,), 5: (0.25,), 6: (2.0, 3.0), 7: (0.5,),
            8: (3.0, 2.0), 9: (0.1, 0.5), 10: (10.0, 0.3), 11: (2.0, 1.5),
            12: (2.5, 0.6), 13: (3.0, 1.0, 2.0)}  # fmt: skip
    law = from_code(code, laws[code])
    grid = [-math.pi, -1.0, -1e-300, -0.0, 0.0, 5e-324, 1e-300, 1e-9, 0.5, 1.0 - 1e-16, 1.0, 1.0 + 1e-15, 1.5, 2.0]
    grid += [3.0, math.nextafter(3.0, 4.0), math.nextafter(-1.0, -2.0), 10.0, 11.0, 170.0, 1e6, 1e300]
    with Simulator([str(cpp_examples / "all_distributions")]) as simulator:
        table = AddressTable()
        [trace] = simulator.carry_out(RunPlan(details=True), (1,), table)
        for x in grid:
            rows = trace.rows.with_value(position, x)
            [found] = simulator.carry_out(RunPlan(rows=rows, prefix=position + 1, details=True), (2,), table)
            assert not found.mismatch
            assert found.distribution[position] == law
            assert found.value[: position + 1] == [*trace.value[:position], x]
            assert found.log_prob[position] == pytest.approx(law.log_prob(x), rel=1e-12, abs=1e-12), (law, x)


def test_more_priors_than_either_side_keeps(cpp_examples):
    table = AddressTable()
    with Simulator([str(cpp_examples / "drifting"), "--steps", "3000"]) as simulator:
        for seed in range(4):
            for trace in simulator.carry_out(EVERYTHING, (seed, seed + 100), table):
                assert_same_trace(trace, asked_for(simulator, trace, {}))
        vocabulary = trace.vocabulary
        kept = len(vocabulary._kept)
        own = int((trace.entries["distribution"] >= 2**31).sum())
        assert kept < 8192
        assert own > 2900
        memory = resident(simulator.pid)
        for seed in range(100, 160):
            [trace] = simulator.carry_out(EVERYTHING, (seed,), table)
        assert trace.vocabulary is vocabulary
        assert len(vocabulary._kept) == kept
        assert resident(simulator.pid) - memory < 2**20  # 60 runs have 180,000 priors: some 10 MB
        # a chain continues from such a trace
        [again] = simulator.carry_out(RunPlan(rows=trace.rows, prefix=trace.rows.size, details=True), (1,), table)
        assert not again.mismatch
        assert again.value == accepted_values(trace)


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096


def test_no_seeds_give_no_runs(drifting):
    assert drifting.carry_out(EVERYTHING, (), AddressTable()) == []
    assert len(drifting.carry_out(EVERYTHING, (1,), AddressTable())) == 1


def test_answers_contain_only_new_terms(drifting):
    """Texts, addresses and priors are sent once."""
    drifting.restart()
    table = AddressTable()
    counting = Counting(drifting)
    for _ in range(2):
        drifting.carry_out(RunPlan(), range(50), table)
    # the first run goes alone, to learn how long a run takes
    first, second = (
        map(len, counting.answers[-2:])
        if len(counting.answers) == 2
        else (sum(map(len, counting.answers[:2])), len(counting.answers[2]))
    )
    names = sum(map(len, table.names()))
    assert first > second + names / 4
    assert max(counting.requests) < 1000
    assert b"forward" not in counting.answers[-1]


def test_a_file_keeps_accepted_entries_only(cpp_examples):
    """Rejected repetitions are not latents: a trace with them is stored like one without."""
    table, blocks = AddressTable(), []
    with Simulator([str(cpp_examples / "marsaglia"), "--replaced"]) as simulator:
        for rejected in (False, True):
            builder = BlockBuilder()
            for number, trace in enumerate(
                simulator.carry_out(RunPlan(parameters=True, draw_below=9, rejected=rejected), range(40), table)
            ):
                builder.add(trace, trace.seed, number)
            blocks.append(builder.block())
    without, with_them = blocks
    assert without.entries.offset[-1] < without.traces["draws"].sum()
    assert np.array_equal(without.entries.offset, with_them.entries.offset)
    for name, column in without.entries.columns.items():
        assert np.array_equal(column, with_them.entries.columns[name])
    assert np.array_equal(without.traces["type"], with_them.traces["type"])


def test_tags_that_a_file_does_not_keep_are_named_if_a_requested_one_is_missing(drifting, tmp_path, caplog):
    kept = Recording(tags=("nosuch",))
    generate(drifting, tmp_path / "t.h5", Provenance(model="drifting"), 0, 5, recording=kept)
    assert "no trace has the tag 'nosuch' given in traces.tags; the traces have the tags " in caplog.text
    assert "'picture', 'waited'" in caplog.text
