# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The client with the C++ front end: the example simulators, and a faulty one."""

import math
import time
from pathlib import Path

import numpy as np
import pytest

from etalumis import execution
from etalumis.address import AddressTable
from etalumis.distributions import BY_CODE
from etalumis.errors import ProtocolError, SimulatorError
from etalumis.models import examples
from etalumis.ppx import Simulator

NINES = {"obs0": 8.0, "obs1": 9.0}


class Prior:
    """Draws from the prior and conditions on given values; raises `error` at an entry, if given."""

    def __init__(self, seed=0, observations=None, error=None, position=-1):
        self.rng = np.random.default_rng(seed)
        self.observations = observations or {}
        self.error, self.position = error, position

    def sample(self, site):
        if site.position == self.position:
            raise self.error
        return site.distribution.sample(self.rng)

    def observe(self, name, distribution, given):
        value = self.observations.get(name)
        return given if value is None else np.full(distribution.shape, value)


class Recorded:
    """Replays the values of another trace."""

    def __init__(self, values):
        self.values = values

    def sample(self, site):
        return self.values[site.position]

    def observe(self, name, distribution, given):
        return given


def run(peer, controller=None, addresses=None):
    return execution.run(peer, controller or Prior(), addresses)


def test_all_distributions_and_names(cpp_examples):
    with Simulator([str(cpp_examples / "all_distributions")]) as peer:
        assert peer.name == "all_distributions"
        trace = run(peer)
    assert [d.code for d in trace.distribution] == list(BY_CODE)
    assert [name.lower() for name in trace.name] == [d.kind.lower() for d in trace.distribution]
    assert trace.flags == [1] * 10 + [0, 1, 1]
    assert trace.distribution[2].probs == (0.2, 0.3, 0.5)
    assert trace.tags["all"].tolist() == trace.value  # doubles are not rounded
    assert trace.tags["result"].tolist() == trace.value
    (observed,) = trace.observes
    assert (observed.name, observed.distribution.shape) == ("obs", (2,))
    assert all(
        trace.addresses.name(a).startswith("[") and "forward()+0x" in trace.addresses.name(a) for a in trace.address
    )


@pytest.mark.parametrize(
    ("options", "name", "observations"),
    [
        (["gaussian"], "gaussian_unknown_mean", NINES),
        (["marsaglia"], "marsaglia", NINES),
        (["marsaglia", "--replaced"], "marsaglia_replaced", NINES),
        (["branching"], "branching", {"obs": 6.0}),
        (["linear_gaussian"], "linear_gaussian", {"obs0": 1.5, "obs1": 2.5}),
    ],
)
def test_same_draws_give_the_trace_of_the_python_model(cpp_examples, options, name, observations):
    """With the same seed, both models make the same draws: their traces differ only in the addresses."""
    model = examples.model(name)
    tables = AddressTable(), AddressTable()
    pairs = set()
    with Simulator([str(cpp_examples / options[0]), *options[1:]]) as peer:
        for seed in range(300):
            here = run(model, Prior(seed, observations), tables[0])
            there = run(peer, Prior(seed, observations), tables[1])
            assert here.value == there.value
            assert (here.scope, here.repetition, here.flags) == (there.scope, there.repetition, there.flags)
            assert here.result == pytest.approx(there.result, rel=1e-12)
            assert here.log_likelihood == pytest.approx(there.log_likelihood, rel=1e-12)
            assert {k: float(v) for k, v in here.tags.items()} == pytest.approx(
                {k: float(v) for k, v in there.tags.items()}, rel=1e-12
            )
            pairs.update(zip(here.address, there.address, strict=True))
    # The addresses correspond one to one: instances and scopes have the same numbers.
    assert len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs})


def test_replay_and_restart_give_the_same_trace(cpp_examples):
    table = AddressTable()
    with Simulator([str(cpp_examples / "hundred")]) as peer:
        first = run(peer, Prior(7), table)
        peer.restart()  # another process: other absolute addresses
        second = run(peer, Recorded(first.value), table)
    assert len(first) == 100
    assert (first.address, first.value, first.result, first.type) == (
        second.address,
        second.value,
        second.result,
        second.type,
    )
    assert math.fsum(first.value) == pytest.approx(first.result)


def test_evidence(cpp_examples):
    with Simulator([str(cpp_examples / "gaussian")]) as peer:
        weights = np.exp([run(peer, Prior(seed, NINES)).log_likelihood for seed in range(3000)])
    error = weights.std(ddof=1) / math.sqrt(len(weights))
    assert abs(weights.mean() - math.exp(-8.239404)) < 4.5 * error


FAULTS = {
    "exit": (SimulatorError, "exited with code 3"),
    "kill": (SimulatorError, "was killed by SIGKILL"),
    "throw": (SimulatorError, r"exited with code 1(.|\n)*misbehaving on purpose"),
    "hang": (SimulatorError, r"did not answer within 0\.5 s"),
    "garbage": (ProtocolError, "malformed PPX message"),
}


@pytest.mark.parametrize("mode", FAULTS)
def test_a_fault_in_a_later_run(cpp_examples, tmp_path, mode):
    kind, what = FAULTS[mode]
    words = [str(cpp_examples / "misbehave"), "--mode", mode, "--at-run", "1", "--at-draw", "4"]
    with Simulator(words, timeout_s=0.5, scratch=tmp_path) as peer:
        good = run(peer)
        pid = peer.pid
        began = time.monotonic()
        with pytest.raises(kind, match=what) as caught:
            run(peer)
        assert time.monotonic() - began < 10
        if kind is SimulatorError:
            assert "in run 2 after 4 draws, last address [" in str(caught.value)
            assert not Path(f"/proc/{pid}").exists()
            peer.restart()
        assert run(peer).value == good.value
    assert not list(tmp_path.iterdir())


def test_errors_of_the_controller_leave_the_simulator_usable(cpp_examples):
    with Simulator([str(cpp_examples / "hundred")]) as peer:
        pid = peer.pid
        whole = run(peer, Prior(3))
        for position in (0, 50, 99):
            with pytest.raises(ZeroDivisionError):
                run(peer, Prior(3, error=ZeroDivisionError(), position=position))
            assert run(peer, Prior(3)).value == whole.value
        assert peer.pid == pid


def test_restarts_leave_nothing_behind(cpp_examples, tmp_path):
    def held():
        threads = len(list(Path("/proc/self/task").iterdir()))
        return len(list(Path("/proc/self/fd").iterdir())), threads, len(list(tmp_path.iterdir()))

    with Simulator([str(cpp_examples / "gaussian")], scratch=tmp_path) as peer:
        before = held()
        for _ in range(10):
            peer.restart()
            run(peer)
        assert held() == before
    assert not list(tmp_path.iterdir())


def test_usage_errors_of_the_simulator_are_shown(cpp_examples):
    with pytest.raises(SimulatorError, match=r"before the handshake(.|\n)*--nonsense"):
        Simulator([str(cpp_examples / "gaussian"), "--nonsense"])
