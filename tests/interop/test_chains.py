# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Chains whose steps the C++ front end makes by itself: their distribution, and that only the seed decides them."""

import itertools
import math
import os
import random
import signal
import struct
from collections import Counter

import numpy as np
import pytest
from delegation import content
from delegation_bytes import SMALL, generated_traces, trace

from etalumis.address import AddressTable
from etalumis.delegation import RunPlan, StepFlag, Steps, StepSettings
from etalumis.errors import InferenceError, ProtocolError
from etalumis.inference import rmh
from etalumis.inference.chain import Chain
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.kernel import Settings
from etalumis.inference.observations import Observations
from etalumis.inference.runner import ModelRunner
from etalumis.ppx import Simulator
from etalumis.ppx.decode import Decoder
from etalumis.ppx.messages import HandshakeResult
from etalumis.ppx.session import Conversation

MIXED = Settings(focus_share=0.3, fresh_share=0.2, tail_share=0.1, redraw_share=0.02)
OBSERVED = {"track": np.array([1.2, 0.8])}
CONDITIONED = {**OBSERVED, "shares": None}


@pytest.fixture(scope="module")
def drifting(cpp_examples):
    with Simulator([str(cpp_examples / "drifting")]) as simulator:
        assert simulator.can_step
        yield simulator


def start(simulator, table, observed=OBSERVED):
    [found] = simulator.carry_out(RunPlan(observed=observed, details=True), (3,), table)
    return found.rows


def moves(settings=MIXED, focus=None, beta=1.0):
    return StepSettings(*settings, focus=focus, beta=beta)


# ---------------------------------------------------------------------- the distribution


def statistics_of(values):
    """Name -> number: statistics of a trace that reveal a wrong distribution."""
    found = {"waited": float(values["waited"]), "result": float(values["result"])}
    for entry in ("start", "width", "detour", "kind", "hits"):
        found[entry], found[f"{entry}^2"] = float(values[entry]), float(values[entry]) ** 2
    found["width x hits"] = found["width"] * found["hits"]
    found["width over start"] = found["width"] / found["start"]
    return found


@pytest.mark.parametrize("focus", [None, ("width", "hits", "never met")], ids=["named", "chosen"])
@pytest.mark.usefixtures("statistics")
def test_a_chain_at_beta_0_leaves_the_prior_invariant(drifting, focus):
    """Varying supports, scopes, addresses and priors; test_chain.cpp has further cases."""
    runner = ModelRunner(drifting, Observations(CONDITIONED), seed=1)
    chain = Chain(runner, np.random.default_rng(5), MIXED._replace(redraw_share=0.0, tail_share=0.02), focus, beta=0.0)
    priors = list(runner.priors(range(4_000), details=True))
    expected = [statistics_of(chain.structures.state(one).draw().values) for one in priors]
    chain.state = chain.structures.state(priors[0])
    chain.start_remote_steps()
    found = []
    for step in range(32_000):
        chain.step()
        if step % 8 == 7:
            found.append(statistics_of(chain.state.draw().values))
    proposed, accepted, lost = (sum(row[i] for row in chain.counts.values()) for i in range(3))
    assert 0.2 < accepted / proposed < 0.95
    assert lost > 0
    for key in expected[0]:
        prior = np.array([one[key] for one in expected])
        batches = np.array([one[key] for one in found]).reshape(50, -1).mean(axis=1)
        error = math.hypot(batches.std(ddof=1) / math.sqrt(len(batches)), prior.std(ddof=1) / math.sqrt(len(prior)))
        assert abs(batches.mean() - prior.mean()) < 4.5 * error, key


# ---------------------------------------------------------------------- only the seed


def test_the_number_of_steps_per_message_does_not_matter(drifting):
    table = AddressTable()
    rows = start(drifting, table)

    def taken(*counts):
        now, first, outcomes = rows, 0, []
        for count in counts:
            steps, traces = drifting.take_steps(Steps(now, OBSERVED, moves(), 99, first, count), table)
            assert len(steps) == count
            outcomes += [steps, [content(one)[1:] for one in traces]]
            now, first = traces[-1].rows if traces else now, first + count
        return [list(itertools.chain(*outcomes[0::2])), list(itertools.chain(*outcomes[1::2]))]

    whole = taken(120)
    assert taken(*[1] * 20, 33, 67) == whole
    flags = [flag for _, flag in whole[0]]
    assert {StepFlag.RUN, StepFlag.RUN | StepFlag.ACCEPTED} < set(flags)
    assert any(flag & StepFlag.LOST for flag in flags)


FOCUSED = MIXED._replace(focus_share=0.6)


def branching_steps(program, counts, focus, seed=2):
    """Outcomes and traces of a chain from r > 4, where s does not exist, in a session without s."""
    observed = {"obs": np.array(6.0)}
    with Simulator([str(program)]) as simulator:
        table = AddressTable()
        first, seeds = 0, itertools.count(1)
        found = simulator.carry_out(RunPlan(observed=observed, details=True), (next(seeds),), table)[0]
        while found.name != ["r"]:
            simulator.restart()
            table = AddressTable()
            found = simulator.carry_out(RunPlan(observed=observed, details=True), (next(seeds),), table)[0]
        now, outcomes, drawn = found.rows, [], []
        for count in counts:
            steps, traces = simulator.take_steps(Steps(now, observed, moves(FOCUSED, focus), seed, first, count), table)
            outcomes += steps
            drawn += [(one.name, one.value) for one in traces]
            now, first = traces[-1].rows if traces else now, first + count
    return outcomes, drawn


def test_a_new_name_is_focused_from_its_first_entry_on(cpp_examples):
    program = cpp_examples / "branching"
    whole = branching_steps(program, [300], ("s",))
    assert any("s" in names for names, _ in whole[1])
    assert branching_steps(program, [15] * 20, ("s",)) == whole
    assert branching_steps(program, [1] * 20 + [280], ("s",)) == whole
    assert branching_steps(program, [300], ()) != whole


def test_an_empty_name_focuses_nothing(drifting):
    table = AddressTable()
    rows = start(drifting, table)  # has entries without a name
    found = [
        drifting.take_steps(Steps(rows, OBSERVED, moves(FOCUSED, focus), 99, 0, 100), table)[0]
        for focus in ((), ("",), ("width",), ("", "width"))
    ]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[1] != found[2]


def posterior(simulator, **options):
    return rmh(simulator, CONDITIONED, runs=400, burn_in=20, init_runs=20, seed=4, **options)


def assert_equal(one, other):
    for name in ("start", "hits", "waited", "result"):
        np.testing.assert_array_equal(one.values[name], other.values[name])
    np.testing.assert_array_equal(one.log_likelihood, other.log_likelihood)
    for key in ("acceptance", "lost_share", "simulator_runs"):
        assert one.info[key] == other.info[key]


class Dying(Simulator):
    """A simulator that is killed before some of its messages."""

    dies_at = ()
    messages = 0

    def take_steps(self, steps, addresses):
        self.messages += 1
        if self.messages in self.dies_at:
            os.kill(self.pid, signal.SIGKILL)
        return super().take_steps(steps, addresses)


def test_a_killed_simulator_is_replaced_and_the_chain_is_the_same(cpp_examples, drifting):
    with Dying([str(cpp_examples / "drifting")]) as simulator:
        simulator.dies_at = {3, 6}
        found = posterior(simulator)
    assert found.info["failures"] == 2
    assert_equal(found, posterior(drifting))


class Choosy(Simulator):
    """Takes few steps at a time; records its requests."""

    max_steps = 1

    def take_steps(self, steps, addresses):
        self.asked.append((steps.first, steps.number))
        if steps.number > self.max_steps:
            raise ProtocolError("too much at once")
        return super().take_steps(steps, addresses)


@pytest.mark.parametrize("max_steps", [1, 3])
def test_a_message_that_fails_is_repeated_step_by_step(cpp_examples, drifting, max_steps):
    with Choosy([str(cpp_examples / "drifting")]) as simulator:
        simulator.asked, simulator.max_steps = [], max_steps
        runner = ModelRunner(simulator, Observations(CONDITIONED), seed=1, retries=0)
        assert_same_chain(runner, ModelRunner(drifting, Observations(CONDITIONED), seed=1), steps=15)
        refused = [(i, *asked) for i, asked in enumerate(simulator.asked) if asked[1] > max_steps]
        assert len(refused) == runner.failures > 0
        at, first, number = refused[0]
        assert simulator.asked[at + 1 : at + 1 + number] == [(first + i, 1) for i in range(number)]


def assert_same_chain(*runners, steps):
    found = []
    for runner in runners:
        chain = Chain(runner, np.random.default_rng(5), MIXED)
        chain.state = chain.structures.state(next(iter(runner.priors((3,), details=True))))
        chain.start_remote_steps()
        values = []
        for _ in range(steps):
            chain.step()
            values.append(list(chain.state.value))
        found.append((values, chain.counts))
    assert all(one == found[0] for one in found)
    assert len({tuple(values) for values in found[0][0]}) > 1


def test_a_single_step_that_fails_raises(cpp_examples):
    with Choosy([str(cpp_examples / "drifting")]) as simulator:
        simulator.asked, simulator.max_steps = [], 0
        runner = ModelRunner(simulator, Observations(CONDITIONED), seed=1, retries=2)
        chain = Chain(runner, np.random.default_rng(5), MIXED)
        chain.state = chain.structures.state(next(iter(runner.priors((3,), details=True))))
        chain.start_remote_steps()
        with pytest.raises(ProtocolError, match="too much"):
            chain.step()
        assert simulator.asked == [(0, 1)] * 3


class Interrupted(Exception):
    pass


class Interrupting(Simulator):
    """Raises an exception that no engine handles, like a kill."""

    left = 0

    def take_steps(self, steps, addresses):
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        return super().take_steps(steps, addresses)


def test_an_interrupted_chain_resumes_with_the_same_draws(cpp_examples, drifting, tmp_path):
    def checkpoint():
        return Checkpoint(tmp_path / "p.h5.part", {"seed": 4}, interval_s=0.0)

    with Interrupting([str(cpp_examples / "drifting")]) as simulator:
        for left in (5, 3):
            simulator.left = left
            with pytest.raises(Interrupted):
                posterior(simulator, checkpoint=checkpoint())
        resumed = posterior(simulator, checkpoint=checkpoint())
    assert_equal(resumed, posterior(drifting))


# ---------------------------------------------------------------------- refused requests and answers


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (moves(MIXED._replace(focus_share=1.5)), "a share that is not in"),
        (moves(MIXED._replace(fresh_share=-0.1)), "a share that is not in"),
        (moves(MIXED._replace(redraw_share=math.nan)), "a share that is not in"),
        (moves(beta=-1.0), "an inverse temperature that is not finite"),
        (moves(beta=math.inf), "an inverse temperature that is not finite"),
    ],
)
def test_invalid_settings_are_refused_with_a_reason_and_the_simulator_continues(drifting, settings, why):
    table = AddressTable()
    rows = start(drifting, table)
    with pytest.raises(ProtocolError, match=f"refused a run in run(.|\\n)*{why}"):
        drifting.take_steps(Steps(rows, OBSERVED, settings, 1, 0, 5), table)
    steps, _ = drifting.take_steps(Steps(rows, OBSERVED, moves(), 1, 0, 5), table)
    assert len(steps) == 5


def test_a_trace_that_cannot_be_replayed_is_explained(drifting):
    table = AddressTable()
    rows = start(drifting, table)
    changed = np.array(rows.details)
    changed["log_prob"][1] += 0.5
    other = type(rows)(rows.entries, changed, rows.keys)
    steps, [found] = drifting.take_steps(Steps(other, OBSERVED, moves(), 1, 0, 5), table)
    assert not steps
    assert found.mismatch
    runner = ModelRunner(drifting, Observations(CONDITIONED), seed=1)
    chain = Chain(runner, np.random.default_rng(5), MIXED)
    chain.state = chain.structures.state(next(iter(runner.priors((3,), details=True))))
    chain.state.rows = type(rows)(chain.state.rows.entries, changed, chain.state.rows.keys)
    chain.start_remote_steps()
    with pytest.raises(InferenceError, match="replay broke off"):
        chain.step()


RUN, TAKEN, BROKEN = StepFlag.RUN, StepFlag.RUN | StepFlag.ACCEPTED, StepFlag.RUN | StepFlag.BROKEN


@pytest.mark.parametrize(
    ("steps", "traces", "good"),
    [
        ([(0, TAKEN), (0, RUN), (-1, TAKEN)], 2, True),
        ([(0, TAKEN), (0, BROKEN)], 2, True),  # the last step may come early
        ([], 1, True),  # the initial trace was not replayed
        ([(0, TAKEN), (0, RUN)], 1, False),  # fewer than requested
        ([(0, RUN)] * 4, 0, False),  # more
        ([(0, TAKEN)] * 3, 2, False),
        ([(0, RUN)] * 3, 1, False),
        ([(0, BROKEN), (0, RUN)], 1, False),
        ([], 0, False),
    ],
)
def test_answers_must_have_the_announced_steps_and_traces(drifting, steps, traces, good):
    table = AddressTable()
    session = Conversation(HandshakeResult("", "m", 1, 7, 1), "m")
    _, plan = session.request_steps(Steps(start(drifting, table), {}, moves(), 1, 0, 3), table)
    data = generated_traces(7, Traces=[trace(5)] * traces, Steps=[(at, int(flags)) for at, flags in steps])
    answer = Decoder().decode(data)
    if good:
        found, led = session.steps(answer, plan, 3)
        assert (found, len(led)) == (steps, traces)
    else:
        with pytest.raises(ProtocolError, match=r"expected 3 steps"):
            session.steps(answer, plan, 3)


@pytest.mark.parametrize(
    "steps",
    [
        [(0, BROKEN), (0, RUN), (0, RUN)],
        [(0, StepFlag.ACCEPTED), (0, RUN), (0, RUN)],
        [(0, TAKEN | StepFlag.LOST), (0, RUN), (0, RUN)],
        [(0, TAKEN | StepFlag.NOTHING), (0, RUN), (0, RUN)],
        [(0, RUN), (0, RUN), (0, TAKEN | StepFlag.BROKEN)],
        [(0, RUN), (0, RUN), (0, StepFlag.BROKEN)],
        [(0, StepFlag.NOTHING), (0, StepFlag.NOTHING), (0, TAKEN | 64)],
    ],
)
def test_flags_of_a_step_that_contradict_each_other_are_refused(drifting, steps):
    table = AddressTable()
    session = Conversation(HandshakeResult("", "m", 1, 7, 1), "m")
    _, plan = session.request_steps(Steps(start(drifting, table), {}, moves(), 1, 0, 3), table)
    data = generated_traces(7, Traces=[trace(5)], Steps=[(at, int(flags)) for at, flags in steps])
    with pytest.raises(ProtocolError, match=r"StepFlag.* for step [13] of 3"):
        session.steps(Decoder().decode(data), plan, 3)


def test_a_broken_step_without_a_reason_is_refused(cpp_examples):
    class Wrong(Simulator):
        def take_steps(self, steps, addresses):
            found = self.carry_out(RunPlan(observed=OBSERVED, details=True), (4,), addresses)
            return [(0, int(BROKEN))], found

    with Wrong([str(cpp_examples / "drifting")]) as simulator, pytest.raises(ProtocolError, match="reason why"):
        posterior(simulator)


def test_steps_of_missing_entries_are_refused(cpp_examples):
    class Wrong(Simulator):
        def take_steps(self, steps, addresses):
            return [(1000, int(RUN))], []

    with Wrong([str(cpp_examples / "drifting")]) as simulator, pytest.raises(ProtocolError, match="entry 1000"):
        posterior(simulator)


def test_steps_written_by_flatc_are_read():
    found = Decoder().decode(generated_traces(**SMALL, Steps=[(-1, 3), (2**31 - 1, 2**32 - 1)])).traces
    assert found.frame.steps == [(-1, 3), (2**31 - 1, 2**32 - 1)]


def test_altered_requests_neither_end_nor_affect_the_simulator(cpp_examples):
    """Bytes of a request are changed: the simulator refuses or answers it, and continues."""
    rng = random.Random(6)
    with Simulator([str(cpp_examples / "drifting")]) as simulator:
        kinds = Counter()
        for _ in range(300):
            table = AddressTable()
            rows = start(simulator, table)
            message, _ = simulator._session.request_steps(
                Steps(rows, OBSERVED, moves(focus=("width",)), 1, 0, 9), table
            )
            data = bytearray(message)
            for _ in range(rng.randint(1, 2)):
                struct.pack_into("<I", data, rng.randrange(len(data) - 3), rng.choice((0, 1, 9, 2**31, 2**32 - 1)))
            answer = simulator._decoder.decode(simulator._connection.request(bytes(data), 60.0))
            kinds[type(answer).__name__] += 1
            simulator._session.invalidate()  # the two sides may disagree
        assert min(kinds["RunResult"], kinds["Reset"]) > 20
        assert kinds.keys() <= {"RunResult", "Reset", "Sample"}  # a Run of PPX 1.0 is answered with Sample
        table = AddressTable()
        steps, _ = simulator.take_steps(Steps(start(simulator, table), OBSERVED, moves(), 1, 0, 5), table)
        assert len(steps) == 5
