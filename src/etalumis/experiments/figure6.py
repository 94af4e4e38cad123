# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 6 of the paper: weak scaling, measured where this machine has the cores, and simulated beyond."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from etalumis.config import ExperimentsConfig
from etalumis.experiments.rank_timings import RankTimings
from etalumis.experiments.simulated_scaling import (
    RANKS_PER_NODE,
    Network,
    Scaling,
    WorkModel,
    samplers,
    simulate,
    weak_scaling,
)
from etalumis.experiments.tables import markdown_table
from etalumis.experiments.training_record import machine_sentence
from etalumis.figures import style
from etalumis.layers import LayerTable
from etalumis.seeds import generator
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.trace_kinds import read_kinds

STEM = "figure6_scaling"
TITLE = "Weak scaling, measured and simulated (Figure 6 of the paper)"
PAPER_NODES = 1024
PAPER = (("Edison", 0.79, 22_000, style.PURPLE), ("Cori", 0.5, 28_000, style.BLACK))
"""System, efficiency and mean throughput in traces/s at 1,024 nodes (section 6.3).

The text names efficiencies for Edison, then Cori, and throughputs for Cori, then Edison.
"""
_BYTES = 4
_COLOURS = {
    "shuffled": style.ORANGE, "sorted_chunks": style.BLUE, "buckets": style.SKY, "balanced": style.GREEN,
}  # fmt: skip
_LABELS = {
    "shuffled": "shuffled traces",
    "sorted_chunks": "sorted chunks (the paper)",
    "buckets": "buckets by length",
    "balanced": "ranks balanced by cost",
}


def draw(
    timings: Sequence[RankTimings],
    sizes: Sequence[RankTimings],
    dataset: Path,
    layers: Path,
    section: ExperimentsConfig,
    seed: int,
) -> style.Drawing:
    """Draw efficiency and throughput against the number of nodes.

    Parameters
    ----------
    timings
        Trainings by number of ranks.
    sizes
        Trainings on one rank with other minibatch sizes; with the first of `timings`, they give the cost model.
    dataset, layers
        Sorted training traces, whose types and lengths the simulated minibatches have, and their layer table.
    section
        Configuration, for latency and bandwidth of the network.
    seed
        Seed of the simulation.
    """
    base = timings[0]
    model = WorkModel.fit([timing.phases for timing in (base, *sizes)])
    kinds = read_kinds(TraceDataset(dataset, LayerTable.load(layers)))
    hyperparameters = base.record.training["hyperparameters"]
    batch_size, sampler = int(hyperparameters["batch_size"]), str(hyperparameters["sampler"])
    drawn = samplers(kinds, batch_size, model, generator(seed, "experiments/minibatches", 0))
    network = Network(1e-6 * section.network_latency_us, 1e9 * section.network_gb_per_s)
    nbytes = float(_BYTES * int(base.record.manifest["parameters"]))
    nodes = [2**power for power in range(PAPER_NODES.bit_length())]
    rows: list[dict[str, object]] = []
    found: dict[tuple[str, bool], list[float]] = {}
    for name in _LABELS:
        for noise in (False, True):
            stream = partial(generator, seed, f"experiments/{name}/{noise}")
            runs = weak_scaling(drawn[name], model, network, nbytes, nodes, stream, noise=noise)
            found[name, noise] = [efficiency for _, efficiency in runs]
            rows += _rows(name, nodes, [run for run, _ in runs], found[name, noise], noise=noise)
    rows += _measured_rows(timings, sampler)
    checks = [_check(timings[0], timing, drawn[sampler], model, seed) for timing in timings]
    with style.style(style.TALK):
        figure = _figure(nodes, found, timings)
    caption = _caption(timings, sizes, checks, found, network, nbytes, model, seed)
    return style.Drawing(STEM, figure, TITLE, caption, rows)


def _rows(
    name: str, nodes: list[int], runs: list[Scaling], efficiency: list[float], *, noise: bool
) -> list[dict[str, object]]:
    return [
        {
            "kind": "simulated",
            "minibatches": name,
            "measured_noise": noise,
            "nodes": count,
            "ranks": RANKS_PER_NODE * count,
            "traces_per_s": run.traces_per_s,
            "peak_traces_per_s": run.peak_traces_per_s,
            "efficiency": share,
        }
        for count, run, share in zip(nodes, runs, efficiency, strict=True)
    ]


def _measured_rows(timings: Sequence[RankTimings], sampler: str) -> list[dict[str, object]]:
    single = timings[0].traces_per_s / timings[0].ranks
    return [
        {
            "kind": "measured",
            "minibatches": sampler,
            "measured_noise": True,
            "nodes": "",
            "ranks": timing.ranks,
            "traces_per_s": timing.traces_per_s,
            "peak_traces_per_s": float((timing.phases.traces.sum(axis=1) / timing.step_s).max()),
            "efficiency": timing.traces_per_s / (timing.ranks * single),
        }
        for timing in timings
    ]


def _check(
    base: RankTimings, timing: RankTimings, make: Any, model: WorkModel, seed: int
) -> tuple[int, float, float, float]:
    """Return ranks, measured and simulated throughput, and how much longer a rank works than in `base`."""
    sync_s = float(timing.phases.seconds["sync_move"].mean())
    rng = generator(seed, "experiments/check", timing.ranks)
    simulated = simulate(make, model, timing.ranks, sync_s, rng, noise=True, steps=1000).traces_per_s
    slower = float(timing.phases.work.mean() / base.phases.work.mean())
    return timing.ranks, timing.traces_per_s, simulated, slower


def _figure(nodes: list[int], found: dict[tuple[str, bool], list[float]], timings: Sequence[RankTimings]) -> Any:
    figure = style.new_figure(6.5, 4.8)
    axes = figure.subplots()
    for (name, noise), efficiency in found.items():
        axes.plot(
            nodes, efficiency, color=_COLOURS[name], linestyle=(0, (1, 1.2)) if noise else "solid",
            label=None if noise else _LABELS[name],
        )  # fmt: skip
    single = timings[0].traces_per_s / timings[0].ranks
    measured = [(t.ranks / RANKS_PER_NODE, t.traces_per_s / (t.ranks * single)) for t in timings]
    axes.plot(*zip(*measured, strict=True), color=style.VERMILION, marker="s", linestyle="none", label="measured here")
    axes.plot([], [], color="0.4", linestyle=(0, (1, 1.2)), label="with measured residuals")
    for system, share, rate, colour in PAPER:
        axes.plot(
            [PAPER_NODES], [share], color=colour, marker="*", markersize=11, linestyle="none", label=f"paper, {system}"
        )
        axes.annotate(
            f"{system}: {share:g}, {rate:,}/s", (PAPER_NODES, share), (-9, 0), textcoords="offset points",
            ha="right", va="center", fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
        )  # fmt: skip
    axes.axhline(1, color="0.6", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, *nodes[::2]], ["½", *(f"{count:,}" for count in nodes[::2])])
    axes.set(
        xlabel=f"nodes ({RANKS_PER_NODE} ranks each)",
        ylabel="efficiency",
        ylim=(0, 1.06 * max(1.05, *(share for _, share in measured))),
        xlim=(0.4, 1400),
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)
    return figure


def _caption(
    timings: Sequence[RankTimings],
    sizes: Sequence[RankTimings],
    checks: list[tuple[int, float, float, float]],
    found: dict[tuple[str, bool], list[float]],
    network: Network,
    nbytes: float,
    model: WorkModel,
    seed: int,
) -> str:
    batch_size, sampler = (timings[0].record.training["hyperparameters"][key] for key in ("batch_size", "sampler"))
    fitted = sorted(t.record.training["hyperparameters"]["batch_size"] for t in (timings[0], *sizes))
    costs = model.costs
    per_step = (costs.fixed, costs.per_trace, costs.per_token, costs.per_row)
    fixed, per_trace, per_token, per_row = (1e3 * seconds for seconds in per_step)
    compared = [
        (ranks, f"{measured:.1f}", f"{simulated:.1f}", f"{slower:.2f}") for ranks, measured, simulated, slower in checks
    ]
    ends = [(_LABELS[name], f"{found[name, False][-1]:.2f}", f"{found[name, True][-1]:.2f}") for name in _LABELS]
    return (
        "Simulated, except for the squares, which are measured on this machine at "
        f"{', '.join(str(t.ranks) for t in timings)} ranks (sampler: {sampler}); ranks beyond the number of cores "
        "would share them and measure nothing. An iteration takes as long as its slowest rank and then the sum of the "
        f"gradients. Work on a minibatch: {fixed:.1f} ms + {per_trace:.3f} ms per trace + {per_token:.4f} ms per token "
        f"+ {per_row:.4f} ms per touched row, fitted to minibatches of {', '.join(map(str, fitted))} traces on one "
        f"rank. Simulated: minibatches of {batch_size} traces from the types and lengths of the training traces. "
        "Solid: imbalance of this work alone; dotted: each minibatch also has a "
        "measured residual, among them those from other load on the machine (standard deviation "
        f"{100 * model.residuals.std():.0f} %, largest {model.residuals.max():.1f} times the model). Network: all "
        f"{nbytes / 1e6:.1f} MB of gradients of this run's network, halving and doubling, {1e6 * network.latency_s:g} "
        f"us and {network.bytes_per_s / 1e9:g} GB/s per node. Seed {seed}.\n\n"
        f"{markdown_table(('minibatches at 1,024 nodes', 'efficiency', 'with measured residuals'), ends)}\n\n"
        "Check against the measurement, with the measured time of summing gradients; last column: how much longer a "
        "rank works than alone, which the simulation does not know:\n\n"
        f"{markdown_table(('ranks', 'measured [traces/s]', 'simulated [traces/s]', 'work of a rank'), compared)}\n\n"
        f"{machine_sentence([timing.record for timing in timings])}\n\n"
        "The paper (stars): 64 traces per rank and 2 ranks per node; efficiency 0.79 on Edison and 0.5 on Cori, on "
        "average 22,000 and 28,000 traces/s at 1,024 nodes. Its network has 171,732,688 parameters and takes about "
        "two seconds for such a minibatch, so its ratio of computation to communication is another."
    )
