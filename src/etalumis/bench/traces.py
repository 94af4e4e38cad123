# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis bench traces`: the cost of traces of Sherpa's tau decays, relative to Sherpa alone."""

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from etalumis.address import AddressTable
from etalumis.bench.cores import pinned
from etalumis.bench.delegated import BATCH, Delegated
from etalumis.bench.measure import BenchReport, Contender, Slice, Slices, Target, machine, take_turns
from etalumis.bench.programs import Measurer, bare_sherpa, examples_folder, line_of
from etalumis.config import SimulatorConfig
from etalumis.ppx import Simulator
from etalumis.simulator.built import BuiltSimulator
from etalumis.traces.format import Provenance
from etalumis.traces.recording.generate import generate

PROGRAMS = ("address_cost",)
TARGETS = {
    "sherpa_ratio": Target(0.8),
    "calorimeter_ratio": Target(5.0, at_least=False),
    "address_cost_ratio": Target(1.3, at_least=False),
}
RATIOS = {
    "sherpa_ratio": ("sherpa_delegated_traces_per_s", "sherpa_events_per_s"),
    "sherpa_bare_ratio": ("sherpa_delegated_traces_per_s", "sherpa_bare_events_per_s"),
    "sherpa_one_core_bare_ratio": ("sherpa_delegated_one_core_traces_per_s", "sherpa_bare_events_per_s"),
    "calorimeter_ratio": ("sherpa_bare_events_per_s", "calorimeter_events_per_s"),
    "deposit_ratio": ("sherpa_bare_events_per_s", "deposit_events_per_s"),
    "full_ratio": ("full_traces_per_s_per_core", "sherpa_bare_events_per_s"),
}
PHYSICS = (
    "sherpa_events_per_s",
    "sherpa_bare_events_per_s",
    "sherpa_delegated_traces_per_s",
    "sherpa_delegated_one_core_traces_per_s",
)
"""Contenders whose time is proportional to the number of draws."""

PINNING = {
    "sherpa_events_per_s": "Sherpa on one core",
    "sherpa_bare_events_per_s": "Sherpa on one core",
    "sherpa_delegated_traces_per_s": "client on one core, simulator on another",
    "sherpa_delegated_one_core_traces_per_s": "client and simulator on one core",
    "deposit_events_per_s": "the calorimeter on one core",
    "calorimeter_events_per_s": "the calorimeter on one core",
    "full_traces_per_s_per_core": "client and simulator on one core",
}
"""Which process runs on which core; all contenders on one core use the same one."""


def bench(seconds: float, simulator: Path, config: SimulatorConfig, examples: Path | None = None) -> BenchReport:
    """Measure the generation of traces for about `seconds`.

    Parameters
    ----------
    seconds
        Total time for all contenders, without the initialisation of Sherpa.
    simulator
        Folder created by `etalumis simulator build`.
    config
        Section `simulator` of the configuration it was built with.
    examples
        Folder of the C++ examples, if they are built.

    Raises
    ------
    SimulatorError
        If a program cannot be built or started, or fails, or if the folder was built with another configuration.
    """
    built = BuiltSimulator(simulator, config)
    addresses = str(examples_folder(examples, PROGRAMS) / "address_cost")
    settings = str(simulator / "sherpa_tau.conf")
    program = [str(simulator / "bin" / "sherpa_tau"), "--config", settings]
    measuring = [str(bare_sherpa(config.prefix or "")), "--config", settings]
    about = machine()
    with pinned() as cores, ExitStack() as stack:
        bare = stack.enter_context(Measurer(measuring))
        physics = stack.enter_context(Simulator([*program, "--no-calorimeter"], timeout_s=config.timeout_s))
        full = stack.enter_context(Simulator(program, timeout_s=config.timeout_s))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etalumis-bench-")))
        known = AddressTable()
        contenders: dict[str, Contender] = {
            "sherpa_events_per_s": _MeasuredProgram(bare, "backtrace"),
            "sherpa_bare_events_per_s": _MeasuredProgram(bare, "bare"),
            "sherpa_delegated_traces_per_s": Delegated(physics, known, cores[-1:]),
            "sherpa_delegated_one_core_traces_per_s": Delegated(physics, known, cores[:1]),
            "deposit_events_per_s": _MeasuredProgram(bare, "deposit"),
            "calorimeter_events_per_s": _MeasuredProgram(bare, "calorimeter"),
            "full_traces_per_s_per_core": _Full(full, folder, built),
        }
        began = time.perf_counter()
        slices = take_turns(contenders, list(RATIOS.values()), seconds)
        took = time.perf_counter() - began
        costs = line_of([addresses])
        draws = _mean_draws(slices)
        return BenchReport(
            title="Traces of Sherpa's tau decays",
            rates={name: _rates(name, turns, draws) for name, turns in slices.items()},
            ratios=RATIOS,
            targets=TARGETS,
            figures={"address_cost_ratio": max(costs["ratio"])},
            pinning=PINNING,
            measured={
                **about,
                "cores_used": list(cores),
                "rounds": len(slices["sherpa_events_per_s"]),
                "seconds": took,
                "runs_asked_for_at_a_time": BATCH,
                "draws_per_event": draws,
                "draws_per_event_of": {name: _draws_of(slices[name]) for name in PHYSICS},
                "events": {name: sum(turn.done for turn in turns) for name, turns in slices.items()},
                "address_cost": costs,
            },
        )


def _rates(name: str, turns: Sequence[Slice], draws: float) -> list[float]:
    """Return the events per second of every slice.

    The number of draws per event varies by more than three times its mean (rejection loops), and so does the time per
    event: slices of some hundred events would differ by 10 % and more because of their decays. Draws per second are
    measured instead, and divided by the mean number of draws per event, the same one for all contenders. Sherpa alone
    makes slightly more draws per event, because it raises the maxima of its rejection loops as it runs; this does not
    count against it.
    """
    return [turn.draws / draws / turn.seconds if name in PHYSICS else turn.rate for turn in turns]


def _mean_draws(slices: Slices) -> float:
    """Return the mean number of draws per trace."""
    return _draws_of([*slices["sherpa_delegated_traces_per_s"], *slices["sherpa_delegated_one_core_traces_per_s"]])


def _draws_of(turns: Sequence[Slice]) -> float:
    return sum(turn.draws for turn in turns) / sum(turn.done for turn in turns)


class _MeasuredProgram:
    """The program that measures Sherpa alone and the calorimeter; counts events."""

    def __init__(self, program: Measurer, kind: str) -> None:
        self._program, self._kind = program, kind

    def __call__(self, seconds: float) -> Slice:
        found: dict[str, Any] = self._program.measure(self._kind, seconds)
        return Slice(int(found["events"]), int(found["draws"]), float(found["seconds"]))


class _Full:
    """The work of `etalumis traces generate`: a file of complete traces with 24,500 expected energies each."""

    def __init__(self, simulator: Simulator, folder: Path, built: BuiltSimulator) -> None:
        self._simulator, self._path = simulator, folder / "traces.h5"
        self._provenance = Provenance(
            model=simulator.name,
            config_digest=built.config_digest,
            simulator_build_id=built.build_id,
            split="train",
            noise=built.noise,
            settings=json.dumps(built.settings),
        )
        self._count, self._first = 100, 0

    def __call__(self, seconds: float) -> Slice:
        began = time.perf_counter()
        generate(self._simulator, self._path, self._provenance, self._first, self._count)
        done = Slice(self._count, 0, time.perf_counter() - began)
        self._path.unlink()
        self._first += self._count
        self._count = max(int(done.rate * seconds), 100)  # for the next slice
        return done
