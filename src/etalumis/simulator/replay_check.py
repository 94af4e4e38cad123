# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Check that inference can control a simulator: equal values must give equal runs, regardless of earlier runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from etalumis.address import AddressTable
from etalumis.batches import Restartable
from etalumis.errors import SimulatorError
from etalumis.execution import Model, PriorController, Site, run
from etalumis.names import look_alikes, require_one_value_per_name, require_storable
from etalumis.seeds import generator
from etalumis.simulator.storage_limits import storage_limits
from etalumis.simulator.trace_difference import trace_difference
from etalumis.trace import CONTROLLED, Trace


class RestartableModel(Model, Restartable, Protocol):
    """A model in a process of its own, such as a `ppx.Simulator`."""


@dataclass
class CouplingReport:
    """Summary of the prior runs of a simulator.

    Attributes
    ----------
    runs, draws
        Numbers of runs and of draws, including rejected repetitions.
    addresses
        Address -> (name or "", in a rejection scope, controlled, number of draws), in order of first appearance.
    observes
        Name of each observe statement -> "kind (shape)".
    tags
        Names of the tags.
    look_alikes
        Groups of different names that look the same.
    storage_limits
        Why a trace file cannot store its runs; empty if it can.
    unnamed_functions
        Addresses with a frame whose function is not exported.
    """

    runs: int = 0
    draws: int = 0
    addresses: dict[str, tuple[str, bool, bool, int]] = field(default_factory=dict)
    observes: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    look_alikes: list[tuple[str, ...]] = field(default_factory=list)
    storage_limits: list[str] = field(default_factory=list)
    unnamed_functions: list[str] = field(default_factory=list)


def check_replay(simulator: RestartableModel, program: str, runs: int = 20, seed: int = 1) -> CouplingReport:
    """Run a simulator from its prior, replay every run in a fresh process in another order, and summarise the runs.

    The fresh process replays the last run first and twice, then the others in reverse order. A count of the runs, or a
    random number generator of the simulator's own, is then in another state at every replay than it was at the
    original run, or at one of the two replays of the last run. Runs with rejection loops are replayed once more with
    their accepted draws alone, as the RMH engine does it. Hidden state is only found if it shows in one of the runs.

    Parameters
    ----------
    simulator
        The simulator, started with a command.
    program
        File name of the program. In addresses it stands for functions that are not exported.
    runs
        Number of prior runs.
    seed
        Seed of the prior runs.

    Raises
    ------
    SimulatorError
        If a replayed run differs; the message names the run, what differs, and the usual causes.
    DatasetError
        If the name of a tag, a draw or an observe statement cannot be stored, or if two values have one name.
    """
    table = AddressTable()
    traces = [run(simulator, PriorController(generator(seed, "check", number)), table) for number in range(runs)]
    simulator.restart()
    for number in (runs - 1, *reversed(range(runs))):
        _require_equal(simulator, number, traces[number], range(len(traces[number])), table)
    for number, trace in enumerate(traces):
        if len(trace.accepted) < len(trace):
            _require_equal(simulator, number, trace, trace.accepted, table)
    _require_names(traces)
    return _summary(traces, program)


def _require_equal(
    simulator: RestartableModel, number: int, trace: Trace, positions: Sequence[int], table: AddressTable
) -> None:
    """Replay the entries of a trace at `positions` and compare: all of them, or the accepted ones as first passes."""
    values = [trace.value[position] for position in positions]
    # what a run draws beyond the recorded values does not matter: it differs by its number of draws
    replayed = run(simulator, _ReplayValues(values, np.random.default_rng(0)), table)
    difference = trace_difference(trace, replayed, positions)
    if difference is None:
        return
    how = "the same values" if len(positions) == len(trace) else "the values of its accepted draws alone"
    raise SimulatorError(
        f"{simulator.name}: run {number} came out differently when it was given {how} in a fresh process, in another "
        f"order of runs:\n  {difference}\nInference replays runs, so a simulator must do the same when given the same: "
        "look for random numbers drawn elsewhere (the clock, the system's generator, a random number generator of the "
        "model's own, threads), for state kept between runs (counters, caches, global variables, files) or between the "
        "passes of a rejection loop, and for statements below functions that are not exported."
    )


def _require_names(traces: Sequence[Trace]) -> None:
    for trace in traces:
        for what, names in (
            ("a draw", filter(None, trace.name)),
            ("an observe statement", (observed.name for observed in trace.observes)),
            ("a tag", trace.tags),
        ):
            for name in names:
                require_storable(name, what)
        draws = {trace.name[i]: trace.value[i] for i in trace.accepted if trace.name[i]}
        require_one_value_per_name(draws, trace.result, trace.tags)


class _ReplayValues(PriorController):
    """Return recorded values, then draw from the prior: the difference is found afterwards."""

    def __init__(self, values: Sequence[float], rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._values = values

    def sample(self, site: Site) -> float:
        """Return the recorded value."""
        return self._values[site.position] if site.position < len(self._values) else super().sample(site)


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
            report.observes[observed.name] = f"{observed.likelihood.kind} {observed.likelihood.shape}"
        report.tags += [tag for tag in trace.tags if tag not in report.tags]
    labels = (label for label, *_ in report.addresses.values())
    report.look_alikes = look_alikes((*labels, *report.observes, *report.tags))
    report.storage_limits = storage_limits(traces)
    report.unnamed_functions = [address for address in report.addresses if _has_frame_of(program, address)]
    return report


def _has_frame_of(program: str, address: str) -> bool:
    """Return whether a frame of an address is shown by the program's name, because its function is not exported."""
    return any(frame.strip("[ ").startswith(f"{program}+0x") for frame in address.split(";"))
