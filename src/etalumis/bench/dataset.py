# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis bench dataset`: size, writing, reading, sorting and memory of trace files."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.bench.cores import pinned
from etalumis.bench.measure import BenchReport, Contender, Slice, Target, machine, repeat, take_turns
from etalumis.bench.programs import examples_folder
from etalumis.bench.resident import BATCH, measured
from etalumis.bench.synthetic import write_synthetic
from etalumis.config import SimulatorConfig
from etalumis.ppx import Simulator
from etalumis.simulator.built import BuiltSimulator
from etalumis.traces.format import Provenance
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.recording.generate import Generated, generate

PROGRAMS = ("hundred",)
PUBLIC_PEER_TRACES_PER_S = 127.0
"""Traces per second that the public peer reads from its own format on one core (measured: 103 to 142)."""
TARGETS = {
    "bytes_per_trace": Target(10_000, at_least=False),
    "write_share": Target(0.1, at_least=False),
    "sequential_over_public_peer": Target(25.0),
    "random_over_sequential": Target(0.3),
    "sort_over_copy": Target(4.0, at_least=False),
    "growth_bytes_per_trace": Target(100.0, at_least=False),
}
RATIOS = {"random_over_sequential": ("random_traces_per_s", "sequential_traces_per_s")}
PINNING = {name: "reader on one core" for name in ("sequential_traces_per_s", "random_traces_per_s")}
SORT_MB = 400
RESIDENT = ("generate", "sort", "read")
"""Steps whose memory must not grow with the number of traces."""
_ROUNDS, _GENERATE_REPEATS = 3, 7
_MIN_TRACES = 64


def bench(
    seconds: float,
    simulator: Path,
    config: SimulatorConfig,
    examples: Path | None = None,
    traces: int = 1_000_000,
    folder: Path | None = None,
) -> BenchReport:
    """Measure trace files; a million synthetic traces take about ten minutes and 8 GB of disk.

    Parameters
    ----------
    seconds
        Total time for the two readers, which alternate.
    simulator, config
        As in `bench.traces`; the simulator generates the real traces, a fiftieth of `traces`.
    examples
        Folder of the C++ examples, if they are built.
    traces
        Number of traces in the large synthetic set; the small one has a tenth.
    folder
        Folder for the files; a temporary folder by default.

    Raises
    ------
    SimulatorError, DatasetError
        If a program cannot be built or started, or a step fails.
    """
    built = BuiltSimulator(simulator, config)
    hundred = str(examples_folder(examples, PROGRAMS) / "hundred")
    about = machine()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etalumis-bench-", dir=folder)))
        cores = stack.enter_context(pinned())
        real = place / "real.h5"
        turns = _written(built, simulator, real, max(traces // 50, _MIN_TRACES))
        writing = Generated(turns[0].traces, min(turn.seconds for turn in turns), min(turn.storage_s for turn in turns))
        sizes = {"small": max(traces // 10, _MIN_TRACES), "large": max(traces, _MIN_TRACES)}
        sets = {name: write_synthetic(real, place / name, count) for name, count in sizes.items()}
        slices = take_turns(_readers(sets["large"]), list(RATIOS.values()), seconds)
        steps = {name: _steps(place, sets[name], count, hundred) for name, count in sizes.items()}
        rss = {name: {step: steps[name][step]["peak_rss_mb"] for step in RESIDENT} for name in sizes}
        growth = {step: 1e6 * (rss["large"][step] - rss["small"][step]) / traces * 10 / 9 for step in RESIDENT}
        rates = {name: [one.rate for one in found] for name, found in slices.items()}
        large = steps["large"]
        return BenchReport(
            title="Trace files",
            rates=rates,
            ratios=RATIOS,
            targets=TARGETS,
            figures={
                "bytes_per_trace": real.stat().st_size / writing.traces,
                "write_share": writing.storage_share,
                "write_us_per_trace": 1e6 * writing.storage_s / writing.traces,
                "generated_traces_per_s": writing.traces / writing.seconds,
                "sequential_over_public_peer": max(rates["sequential_traces_per_s"]) / PUBLIC_PEER_TRACES_PER_S,
                "sort_over_copy": large["sort"]["seconds"] / large["copy"]["seconds"],
                "sorted_traces_per_s": sizes["large"] / large["sort"]["seconds"],
                "copied_traces_per_s": sizes["large"] / large["copy"]["seconds"],
                "growth_bytes_per_trace": max(growth.values()),
                "peak_rss_mb_100k": max(rss["small"].values()),
                "peak_rss_mb_1m": max(rss["large"].values()),
            },
            pinning=PINNING,
            measured={
                **about,
                "cores_used": list(cores),
                "rounds": len(slices["sequential_traces_per_s"]),
                "write_shares": [turn.storage_share for turn in turns],
                "traces_of": {"real": writing.traces, **sizes},
                "steps": steps,
                "growth_bytes_per_trace_of": growth,
                "sort_memory_mb": SORT_MB,
                "batch": BATCH,
            },
        )


def _written(built: BuiltSimulator, simulator: Path, path: Path, count: int) -> list[Generated]:
    """Generate real traces several times, with client and simulator on one core."""
    command = [str(simulator / "bin" / "sherpa_tau"), "--config", str(simulator / "sherpa_tau.conf")]
    with Simulator(command) as started:
        provenance = Provenance(
            model=started.name, config_digest=built.config_digest, simulator_build_id=built.build_id, run_seed=1,
            split="train", noise=built.noise, settings=json.dumps(built.settings),
        )  # fmt: skip
        found = []
        for _ in range(_GENERATE_REPEATS):
            path.unlink(missing_ok=True)
            found.append(generate(started, path, provenance, 0, count))
    return found


def _readers(paths: Sequence[Path]) -> dict[str, Contender]:
    dataset = TraceDataset(paths)
    return {
        "sequential_traces_per_s": _MinibatchReader(dataset, np.arange(len(dataset))),
        "random_traces_per_s": _MinibatchReader(dataset, np.random.default_rng(1).permutation(len(dataset))),
    }


class _MinibatchReader:
    """Reads minibatches in a given order, in epochs with different noise."""

    def __init__(self, dataset: TraceDataset, order: np.ndarray) -> None:
        self._dataset, self._order = dataset, order
        self._at = self._epoch = 0

    def __call__(self, seconds: float) -> Slice:
        return repeat(self._batch, seconds)

    def _batch(self) -> tuple[int, int]:
        if self._at + BATCH > len(self._order):
            self._at, self._epoch = 0, self._epoch + 1
        batch = self._dataset.batch(self._order[self._at : self._at + BATCH], (1, self._epoch))
        self._at += BATCH
        return len(batch), 0


def _steps(place: Path, inputs: Sequence[Path], count: int, program: str) -> dict[str, dict[str, Any]]:
    """Generate, copy, sort and read a set, each in a new process; return the fastest of several rounds."""
    shard = max(1, count // 10)
    found: dict[str, dict[str, Any]] = {}
    rounds = 1 if count > 200_000 else _ROUNDS  # a round with a million traces takes minutes
    for number in range(rounds):
        to = place / f"steps-{count}-{number}"
        todo: tuple[tuple[str, Sequence[str | Path | int]], ...] = (
            ("copy", [to / "copy", *inputs]),
            ("sort", [to / "sorted", shard, SORT_MB, *inputs]),
            ("generate", [to / "generated.h5", count, program]),
            ("read", inputs),
        )
        for step, arguments in todo:
            one = measured(step, arguments)
            if step not in found or one["seconds"] < found[step]["seconds"]:
                found[step] = one
        shutil.rmtree(to)
    return found
