# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whether inference may steer a simulator: the same values must give the same run, in every process."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution
from etalumis.errors import SimulatorError
from etalumis.execution import Site, run
from etalumis.names import require_storable
from etalumis.ppx import Simulator
from etalumis.seeds import generator
from etalumis.trace import CONTROLLED, Trace


@dataclass
class CouplingReport:
    """What prior runs of a simulator showed.

    Attributes
    ----------
    runs, draws
        Numbers of both, rejected repetitions included.
    addresses
        Address -> (name or "", in a rejection scope, controlled, number of draws), in the order of their appearance.
    observes
        Name -> "kind (shape)".
    tags
        Names.
    nameless
        Addresses with a frame whose function is not exported.
    """

    runs: int = 0
    draws: int = 0
    addresses: dict[str, tuple[str, bool, bool, int]] = field(default_factory=dict)
    observes: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)


def check_replay(simulator: Simulator, program: str, runs: int = 20, seed: int = 1) -> CouplingReport:
    """Run a simulator from its prior, replay every run in a fresh process, and report what was seen.

    Parameters
    ----------
    simulator
        Started with a command.
    program
        File name of the program: frames without a function's name carry it.

    Raises
    ------
    SimulatorError
        Where a replayed run differs; names run, entry, expected and found.
    DatasetError
        If the name of a tag, a draw or an observe statement cannot be stored.
    """
    table = AddressTable()
    first = [run(simulator, _DrawAll(generator(seed, "check", number)), table) for number in range(runs)]
    simulator.restart()
    for number, trace in enumerate(first):
        replayed = _ReplayValues(trace.value, generator(seed, "check/replay", number))
        difference = _difference(trace, run(simulator, replayed, table))
        if difference is not None:
            raise SimulatorError(
                f"{simulator.name}: run {number} came out differently when it was given the same values in a fresh "
                f"process: {difference}. Inference replays runs, so a simulator must do the same when given the same: "
                "look for random numbers drawn elsewhere (the clock, the system's generator, threads), for state kept "
                "between runs, and for statements below functions that are not exported."
            )
    _require_storable_names(first)
    return _summary(first, program)


def _require_storable_names(traces: Sequence[Trace]) -> None:
    for trace in traces:
        for what, names in (
            ("a draw", filter(None, trace.name)),
            ("an observe statement", (observed.name for observed in trace.observes)),
            ("a tag", trace.tags),
        ):
            for name in names:
                require_storable(name, what)


class _DrawAll:
    """Draws everything from the prior."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def sample(self, site: Site) -> float:
        """Return a draw from the prior."""
        return site.distribution.sample(self.rng)

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> np.ndarray | None:
        """Return the model's own value, if it has one."""
        return given


class _ReplayValues(_DrawAll):
    """Gives recorded values back, and draws where there are no more: the difference is found afterwards."""

    def __init__(self, values: Sequence[float], rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._values = values

    def sample(self, site: Site) -> float:
        """Return the recorded value."""
        return self._values[site.position] if site.position < len(self._values) else super().sample(site)


def _difference(expected: Trace, found: Trace) -> str | None:
    name = expected.addresses.name
    for position, (mine, theirs) in enumerate(zip(expected.address, found.address, strict=False)):
        laws = expected.distribution[position], found.distribution[position]
        if mine != theirs or laws[0] != laws[1]:
            shown = [f"{law} at {name(address)}" for law, address in zip(laws, (mine, theirs), strict=True)]
            return f"entry {position}: expected {shown[0]}, found {shown[1]}"
    if len(expected) != len(found):
        return f"expected {len(expected)} draws, found {len(found)}"
    if [o.name for o in expected.observes] != [o.name for o in found.observes]:
        return "its observe statements have other names"
    for mine_observed, found_observed in zip(expected.observes, found.observes, strict=True):
        pairs = zip(mine_observed.stated.arrays, found_observed.stated.arrays, strict=False)
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
            return f"the likelihood of {mine_observed.name!r} has other parameters"
    return None


def _summary(traces: Sequence[Trace], program: str) -> CouplingReport:
    report = CouplingReport(runs=len(traces), draws=sum(len(trace) for trace in traces))
    counts: Counter[str] = Counter()
    for trace in traces:
        for position, number in enumerate(trace.address):
            address = trace.addresses.name(number)
            counts[address] += 1
            controlled = bool(trace.flags[position] & CONTROLLED)
            report.addresses[address] = (trace.name[position], trace.scope[position] > 0, controlled, counts[address])
        for observed in trace.observes:
            report.observes[observed.name] = f"{observed.stated.kind} {observed.stated.shape}"
        report.tags += [tag for tag in trace.tags if tag not in report.tags]
    frame = f"{program}+0x"
    report.nameless = [a for a in report.addresses if any(f.strip("[ ").startswith(frame) for f in a.split(";"))]
    return report
