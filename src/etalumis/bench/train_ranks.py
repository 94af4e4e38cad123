# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trainings on one and on two ranks, and the ways to sum gradients: `python -m etalumis.bench.train_ranks`.

The module is the program of two ranks that sum gradients; rank 0 prints one line of JSON.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from etalumis.bench.cores import pinned
from etalumis.bench.programs import line_of
from etalumis.config import Config, load, to_yaml
from etalumis.errors import NetworkError
from etalumis.experiments.gradient_sums import time_sums
from etalumis.experiments.rank_timings import between
from etalumis.experiments.simulated_scaling import Network, WorkModel, samplers, weak_scaling
from etalumis.layers import LayerTable
from etalumis.network.checkpoint import read_manifest
from etalumis.seeds import generator
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.cost_measurement import MEASURED_ITERATIONS
from etalumis.training.phases import FILE, PHASES, Phases, read_phases
from etalumis.training.trace_kinds import read_kinds

_ROUNDS = 3
_MIN_ITERATIONS = 10
_NODES = 1024
"""Nodes whose efficiency is simulated, as in figure 6 of the paper."""


def ranks_together(
    seconds: float, config: Config, layers: Path, train: Path, valid: Path, batch_size: int, step_s: float
) -> dict[str, float]:
    """Return the figures of two ranks: trainings that alternate with those of one rank, and sums of gradients.

    Parameters
    ----------
    seconds
        Time of all trainings, without their starts; a short time leaves one round.
    config, layers, train, valid, batch_size
        See `bench.train.bench`.
    step_s
        Approximate time of a step on one rank.

    Raises
    ------
    NetworkError
        If a training fails.
    """
    skipped = MEASURED_ITERATIONS + config.training.prefetch + 2
    with tempfile.TemporaryDirectory(prefix="etalumis-bench-") as folder:

        def train_on(ranks: int, iterations: int, name: str, gradient_sum: str = "overlapped") -> Phases:
            output = Path(folder) / name
            output.mkdir()
            changes = {
                "tasks": ranks, "threads_per_task": 1, "sampler": "balanced", "batch_size": batch_size,
                "max_minutes": None, "max_traces": batch_size * ranks * (skipped + iterations),
                "valid_every": 10**8, "average_decay": None, "patience": None, "gradient_sum": gradient_sum,
            }  # fmt: skip
            training = config.training.model_copy(update=changes)
            file = output / "config.yaml"
            file.write_text(to_yaml(config.model_copy(update={"training": training})), encoding="utf-8")
            words = ["network", "train", "--config", file, "--layers", layers, "--train", train, "--valid", valid]
            _run(ranks, ["etalumis", *words, "--output", output / "network"])
            return read_phases(output / "network" / FILE)

        fitting = int(seconds / (3 * step_s))  # iterations for which there is time in each of three trainings
        rounds = min(_ROUNDS, max(1, fitting // (skipped + _MIN_ITERATIONS)))
        iterations = max(_MIN_ITERATIONS, fitting // rounds - skipped)
        one, two, overlapped, blocking, faster, uneven = [], [], [], [], [], []
        for number in range(rounds):
            with pinned():
                one.append(_rate(train_on(1, iterations, f"one-{number}"), skipped))
            both = train_on(2, iterations, f"two-{number}")
            two.append(_rate(both, skipped))
            overlapped.append(_move_s(both, skipped))
            after = train_on(2, iterations, f"blocking-{number}", "blocking")
            blocking.append(_move_s(after, skipped))
            faster.append(_rate(both, skipped) / _rate(after, skipped))
            uneven += [between(each, 2, MEASURED_ITERATIONS) for each in (both, after)]
        file = Path(folder) / "one-0" / "config.yaml"
        arguments = [str(each) for each in (file, layers, train)]
        parameters = read_manifest(Path(folder) / "two-0" / "network")["parameters"]
        simulated = _simulated_efficiency(config, layers, train, batch_size, WorkModel.fit(uneven), parameters)
        sums = line_of(_command(2, [__name__, *arguments]), timeout_s=600.0)
    spent = {name: float(both.seconds[name][skipped:].sum()) for name in PHASES}
    total = sum(spent.values())
    return {
        "demo_traces_per_s": statistics.median(two),
        "one_rank_traces_per_s": statistics.median(one),
        "two_rank_efficiency": statistics.median(b / (2 * a) for a, b in zip(one, two, strict=True)),
        "data_wait_share": spent["read"] / total,
        "sync_wait_share": spent["sync_wait"] / total,
        "sync_move_share": spent["sync_move"] / total,
        "overlap_share": statistics.median(1.0 - a / b for a, b in zip(overlapped, blocking, strict=True)),
        "overlapped_over_blocking": statistics.median(faster),
        "simulated_efficiency_1024": simulated,
        **sums,
    }


def _simulated_efficiency(
    config: Config, layers: Path, train: Path, batch_size: int, model: WorkModel, parameters: int
) -> float:
    """Return the efficiency of 1,024 nodes with balanced ranks, simulated as for figure 6, without residuals.

    The costs are those of the first iterations on two ranks, whose minibatches are uneven on purpose.
    """
    kinds = read_kinds(TraceDataset(train, LayerTable.load(layers)))
    draw = samplers(kinds, batch_size, model, generator(1, "bench/minibatches", 0))["balanced"]
    section = config.experiments
    through = Network(1e-6 * section.network_latency_us, 1e9 * section.network_gb_per_s)
    stream = partial(generator, 1, "bench/simulation")
    ((_, efficiency),) = weak_scaling(draw, model, through, 4.0 * parameters, [_NODES], stream, noise=False)
    return efficiency


def _iteration_s(phases: Phases) -> np.ndarray:
    """Return the time of each iteration (iteration,), the mean over the ranks, which go in step."""
    return np.asarray(np.sum([phases.seconds[name] for name in PHASES], axis=0).mean(axis=1))


def _rate(phases: Phases, skipped: int) -> float:
    return float(phases.traces[skipped:].sum() / _iteration_s(phases)[skipped:].sum())


def _move_s(phases: Phases, skipped: int) -> float:
    """Return the mean time in which an iteration waits for sums, other ranks apart."""
    return float(phases.seconds["sync_move"][skipped:].mean())


def _command(ranks: int, words: list[Any]) -> list[str]:
    return [sys.executable, "-m", "etalumis.mpiexec", "-n", str(ranks), sys.executable, "-m", *map(str, words)]


def _run(ranks: int, words: list[Any]) -> None:
    done = subprocess.run(_command(ranks, words), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"bench train: a training on {ranks} ranks failed:\n{done.stderr.strip()[-2000:]}")


def _main(config: str, layers: str, train: str) -> None:
    found = time_sums(load(Path(config)), Path(layers), Path(train), MPI.COMM_WORLD)
    if MPI.COMM_WORLD.rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
