# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis bench ppx`: the cost of the protocol, for a C++ model with a hundred draws."""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq

from etalumis.address import AddressTable
from etalumis.bench.cores import pin_process, pinned
from etalumis.bench.delegated import BATCH, Delegated
from etalumis.bench.measure import BenchReport, Contender, Slice, Target, machine, repeat, take_turns
from etalumis.bench.programs import examples_folder, line_of
from etalumis.delegation import RunPlan
from etalumis.errors import ProtocolError
from etalumis.execution import BaseTable, PriorController, run
from etalumis.inference import rmh
from etalumis.ppx import Simulator
from etalumis.ppx.connection import Connection
from etalumis.ppx.decode import Decoder
from etalumis.ppx.encode import encode
from etalumis.ppx.messages import (
    Handshake,
    Observe,
    ObserveResult,
    Run,
    RunResult,
    Sample,
    SampleResult,
    Tag,
    TagResult,
)
from etalumis.ppx.pool import Pool
from etalumis.ppx.process import SimulatorProcess

PROGRAMS = ("hundred", "ping")
TARGETS = {"interactive_ratio": Target(0.5), "delegated_ratio": Target(0.7), "rmh_ratio": Target(0.2)}
RATIOS = {
    "interactive_ratio": ("interactive_samples_per_s", "raw_round_trips_per_s"),
    "delegated_ratio": ("delegated_traces_per_s", "local_traces_per_s"),
    "delegated_pool_ratio": ("delegated_pool_traces_per_s", "local_traces_per_s"),
    "delegated_one_core_ratio": ("delegated_one_core_traces_per_s", "local_traces_per_s"),
    "rmh_ratio": ("rmh_steps_per_s", "delegated_one_core_traces_per_s"),
}
WORKERS = 64
"""Number of workers whose start is measured."""
DRAWS = 100
"""Draws per run of the model."""
_OBSERVED = {"sum": 52.0}
_TIMEOUT_S = 30.0

PINNING = {
    "raw_round_trips_per_s": "client and echo on one core",
    "interactive_samples_per_s": "client and simulator on one core",
    "local_traces_per_s": "the model on one core",
    "delegated_traces_per_s": "client on one core, simulator on another",
    "delegated_pool_traces_per_s": "client on one core, two workers sharing another",
    "delegated_one_core_traces_per_s": "client and simulator on one core",
    "rmh_steps_per_s": "client and simulator on one core",
}
"""Which process runs on which core; all contenders on one core use the same one."""


class Sizes(NamedTuple):
    """Mean sizes, in bytes, of the messages of a draw."""

    sample: int
    sample_result: int


def bench(seconds: float, examples: Path | None = None) -> BenchReport:
    """Measure the protocol for about `seconds`; `examples` is the folder of the C++ examples, if they are built.

    Raises
    ------
    SimulatorError
        If a program cannot be built or started, or fails.
    """
    folder = examples_folder(examples, PROGRAMS)
    hundred = str(folder / "hundred")
    about = machine()
    start = workers_start([hundred])
    with pinned() as cores, ExitStack() as stack:
        sizes = message_sizes(hundred)
        ping = SimulatorProcess([str(folder / "ping"), "{endpoint}", str(sizes.sample)])
        stack.callback(ping.stop)
        interactive = stack.enter_context(Simulator([hundred], delegate=False))
        delegating = stack.enter_context(Simulator([hundred]))
        stepping = stack.enter_context(
            Simulator([hundred])
        )  # a chain has its own address table and thus its own session
        addresses = AddressTable()
        pool = stack.enter_context(Pool([hundred], workers=2))
        contenders: dict[str, Contender] = {
            "raw_round_trips_per_s": _Raw(ping, sizes, stack),
            "interactive_samples_per_s": _Interactive(interactive),
            "local_traces_per_s": lambda duration_s: _local(hundred, duration_s),
            "delegated_traces_per_s": Delegated(delegating, addresses, cores[-1:]),
            "delegated_pool_traces_per_s": _Streamed(pool, cores[-1:]),
            "delegated_one_core_traces_per_s": Delegated(delegating, addresses, cores[:1]),
            "rmh_steps_per_s": _Chain(stepping),
        }
        began = time.perf_counter()
        slices = take_turns(contenders, list(RATIOS.values()), seconds)
        return BenchReport(
            title="PPX: a C++ model of 100 draws",
            rates={name: [turn.rate for turn in turns] for name, turns in slices.items()},
            ratios=RATIOS,
            targets=TARGETS,
            pinning=PINNING,
            figures=start,
            measured={
                **about,
                "cores_used": list(cores),
                "rounds": len(slices["local_traces_per_s"]),
                "seconds": time.perf_counter() - began,
                "slice_s": statistics.median(turn.seconds for turn in slices["raw_round_trips_per_s"]),
                "sample_bytes": sizes.sample,
                "sample_result_bytes": sizes.sample_result,
                "runs_asked_for_at_a_time": BATCH,
                "workers_started": WORKERS,
            },
        )


def workers_start(command: Sequence[str]) -> dict[str, float]:
    """Return the cost of starting `WORKERS` workers of a program: seconds until all have answered, and memory.

    The memory is the sum of the proportional set sizes (PSS) in MB, if the system reports them.
    """
    began = time.perf_counter()
    with Pool(command, workers=WORKERS) as pool:
        found = {"workers_start_s": time.perf_counter() - began}
        rollups = [Path(f"/proc/{pid}/smaps_rollup") for pid in pool.pids]
        if all(path.is_file() for path in rollups):
            found["workers_pss_mb"] = sum(_pss_kb(path) for path in rollups) * 1024 / 1e6
    return found


def _pss_kb(rollup: Path) -> int:
    lines = rollup.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def message_sizes(program: str) -> Sizes:
    """Return the sizes of Sample and SampleResult in a run of the program."""
    process = SimulatorProcess([program])
    connection = Connection(process.endpoint, process.ended)
    try:
        return _sizes(connection)
    finally:
        connection.close()
        process.stop()


def _sizes(connection: Connection) -> Sizes:
    decoder, rng = Decoder(), np.random.Generator(np.random.PCG64(1))
    samples: list[int] = []
    results: list[int] = []
    connection.request(encode(Handshake("etalumis bench")), _TIMEOUT_S)
    reply = encode(Run())
    while True:
        received = connection.request(reply, _TIMEOUT_S)
        message = decoder.decode(received)
        if isinstance(message, Sample):
            reply = encode(SampleResult(np.reshape(message.distribution.sample(rng), message.shape)))
            samples.append(len(received))
            results.append(len(reply))
        elif isinstance(message, Observe):
            reply = encode(ObserveResult())
        elif isinstance(message, Tag):
            reply = encode(TagResult())
        elif isinstance(message, RunResult):
            return Sizes(round(statistics.mean(samples)), round(statistics.mean(results)))
        else:
            raise ProtocolError(f"expected a statement of the model, found {type(message).__name__}")


class _Raw:
    """Round trips of bare ZeroMQ, with constant messages of the same sizes."""

    def __init__(self, ping: SimulatorProcess, sizes: Sizes, stack: ExitStack) -> None:
        context = zmq.Context()
        stack.callback(context.destroy, linger=0)
        self._socket = context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.RCVTIMEO, int(1000 * _TIMEOUT_S))
        self._socket.connect(ping.endpoint)
        self._message = bytes(sizes.sample_result)

    def __call__(self, seconds: float) -> Slice:
        return repeat(self._round_trips, seconds)

    def _round_trips(self) -> tuple[int, int]:
        send, receive, message = self._socket.send, self._socket.recv, self._message
        for _ in range(DRAWS):
            send(message)
            receive()
        return DRAWS, 0


class _Interactive:
    """Prior runs in which every draw is a message; counts draws."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._addresses = AddressTable()
        self._bases = BaseTable(self._addresses)
        self._prior = PriorController(np.random.Generator(np.random.PCG64(1)))

    def __call__(self, seconds: float) -> Slice:
        return repeat(self._run, seconds)

    def _run(self) -> tuple[int, int]:
        draws = len(run(self._simulator, self._prior, self._addresses, self._bases))
        return draws, draws


def _local(program: str, seconds: float) -> Slice:
    found = line_of([program, "--measure", f"{seconds:.6f}"])
    return Slice(int(found["runs"]), int(found["draws"]), float(found["seconds"]))


class _Streamed:
    """Prior runs of two workers that share a core: one works while the traces of the other are read here."""

    def __init__(self, pool: Pool, core: Sequence[int]) -> None:
        self._pool, self._core = pool, core
        self._addresses = AddressTable()
        self._count, self._seed = 1000, 0

    def __call__(self, seconds: float) -> Slice:
        for pid in self._pool.pids:
            assert pid is not None  # none is being replaced
            for core in self._core:
                pin_process(pid, core)
        seeds = range(self._seed, self._seed + self._count)
        self._seed += self._count
        began = time.perf_counter()
        draws = sum(len(trace) for trace in self._pool.stream(RunPlan(), seeds, self._addresses))
        done = Slice(self._count, draws, time.perf_counter() - began)
        self._count = max(int(done.rate * seconds), 1000)  # for the next slice
        return done


class _Chain:
    """Steps of RMH with one chain; the time includes the prior runs for the initial state, the count does not."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._steps, self._seed = 500, 0

    def __call__(self, seconds: float) -> Slice:
        self._seed += 1
        began = time.perf_counter()
        rmh(self._simulator, _OBSERVED, runs=self._steps, seed=self._seed)
        done = Slice(self._steps, 0, time.perf_counter() - began)
        self._steps = max(int(done.rate * seconds), 100)  # for the next slice
        return done
