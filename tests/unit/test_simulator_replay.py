# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Replay of Sherpa traces, bit for bit: in C++, and through PPX as the engines do it."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution
from etalumis.execution import Site, run
from etalumis.ppx import Simulator
from etalumis.seeds import generator
from etalumis.simulator.checkout import cache_folder
from etalumis.simulator.cmake import build_sherpa_targets, sherpa_build_folder
from etalumis.simulator.fetch import fetch_sherpa
from etalumis.trace import Trace

TRACES = 20


class Prior:
    """Returns the given values first, then draws from the prior."""

    def __init__(self, seed: int, given: list[tuple[int, float]] | None = None) -> None:
        self.rng = generator(seed, "test", 0)
        self.given = given or []
        self.place = 0

    def sample(self, site: Site) -> float:
        """Return the next given value, or a draw from the prior."""
        self.place += 1
        if self.place > len(self.given):
            return site.distribution.sample(self.rng)
        address, value = self.given[self.place - 1]
        assert site.address == address
        return value

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> None:
        """Score nothing: the tests compare the expected observation."""


def outcome(trace: Trace) -> list[np.ndarray]:
    """Return the expected observation and the tags."""
    return [trace.observes[0].distribution.arrays[0], *(trace.tags[name] for name in sorted(trace.tags))]


def assert_equal(found: Trace, expected: Trace) -> None:
    for a, b in zip(outcome(found), outcome(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("program", ["replay", "channel", "calorimeter"])
def test_replay_in_cpp(program: str, sherpa_simulator: Path) -> None:
    build = sherpa_build_folder(cache_folder())
    target = f"sherpa_tau_{program}_test"
    build_sherpa_targets(fetch_sherpa(cache_folder()), build, [target])
    tests = build / "sherpa_tau" / "tests"
    arguments = {"replay": ["test.conf", "500", "1"], "channel": ["test.conf"], "calorimeter": []}[program]
    done = subprocess.run([tests / target, *arguments], cwd=tests, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_replay_through_ppx_in_reverse_order(sherpa_simulator: Path) -> None:
    addresses = AddressTable()
    command = [str(sherpa_simulator / "bin" / "sherpa_tau"), "--config", str(sherpa_simulator / "sherpa_tau.conf")]
    with Simulator(command) as simulator:
        traces = [run(simulator, Prior(seed), addresses) for seed in range(TRACES)]
        assert max(max(trace.repetition) for trace in traces) > 0, "no repetition was rejected, so the test is void"
        for trace in reversed(traces):
            everything = list(zip(trace.address, trace.value, strict=True))
            assert_equal(run(simulator, Prior(99, everything), addresses), trace)

            accepted = [everything[place] for place in trace.accepted]
            collapsed = run(simulator, Prior(99, accepted), addresses)
            assert_equal(collapsed, trace)
            assert len(collapsed.value) == len(accepted)
            assert collapsed.type == trace.type


class Interrupted(Exception):
    """Raised by a controller of these tests to end a run."""


class Impatient(Prior):
    """Ends a run at one of its draws."""

    def __init__(self, seed: int, draws: int) -> None:
        super().__init__(seed)
        self.draws = draws

    def sample(self, site: Site) -> float:
        """Draw a value, or raise."""
        if self.place == self.draws:
            raise Interrupted
        return super().sample(site)


def test_an_abandoned_run_does_not_affect_the_next(sherpa_simulator: Path) -> None:
    addresses = AddressTable()
    command = [str(sherpa_simulator / "bin" / "sherpa_tau"), "--config", str(sherpa_simulator / "sherpa_tau.conf")]
    with Simulator(command) as simulator:
        for seed in range(4):
            trace = run(simulator, Prior(seed), addresses)
            # the photon splitter draws among the last, and has been seen to keep state
            for draws in (0, 1, len(trace.value) // 2, len(trace.value) - 5, len(trace.value) - 1):
                with pytest.raises(Interrupted):
                    run(simulator, Impatient(seed, draws), addresses)
            again = run(simulator, Prior(seed), addresses)
            assert again.value == trace.value
            assert_equal(again, trace)


def test_names_and_control_of_the_entries(sherpa_simulator: Path) -> None:
    addresses = AddressTable()
    command = [str(sherpa_simulator / "bin" / "sherpa_tau"), "--config", str(sherpa_simulator / "sherpa_tau.conf")]
    with Simulator(command) as simulator:
        trace = run(simulator, Prior(1), addresses)
    controlled = set(trace.controlled)
    assert [name for name in trace.name if name] == ["channel", "px", "py", "pz"]
    assert trace.name[-3:] == ["px", "py", "pz"], "the momentum comes last"
    for place, address in enumerate(map(addresses.name, trace.address)):
        nuisance = any(word in address for word in ("PHOTONS::", "GenerateLifeTime", "GenerateMass", "std::shuffle"))
        if place in set(trace.accepted):
            assert (place in controlled) == (not nuisance), address
        in_loop = "PHASIC::Decay_Channel::GenerateKinematics" in address
        assert (trace.scope[place] > 0) == in_loop, address
        # an absolute address has twelve digits, an offset in a function or a library has at most seven
        assert max(len(digits) for digits in re.findall(r"\+0x([0-9a-f]+)", address)) <= 7, address
