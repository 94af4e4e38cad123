# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tables 1 and 2 of the paper, with this machine beside the paper's."""

import time
from collections.abc import Sequence

import torch

from etalumis.experiments.rank_timings import RankTimings
from etalumis.experiments.tables import markdown_table
from etalumis.experiments.training_record import machine_sentence, seed_sentence
from etalumis.figures.numbers import Rows

PAPER_CPUS = (
    ("E5-2695 v2 @ 2.40GHz", 12, "IVB"),
    ("E5-2698 v3 @ 2.30GHz", 16, "HSW"),
    ("E5-2697A v4 @ 2.60GHz", 16, "BDW"),
    ("Platinum 8170 @ 2.10GHz", 26, "SKL"),
    ("Gold 6252 @ 2.10GHz", 24, "CSL"),
)
"""Model, cores per socket and code (table 1)."""
PAPER_THROUGHPUT = (
    ("IVB (Edison)", 13.9, 25.6, 196, 43),
    ("HSW (Cori)", 32.1, 56.5, 453, 38),
    ("BDW (Diamond)", 30.5, 57.8, 430, 32),
    ("SKL (Diamond)", 49.9, 82.7, 704, 20),
    ("CSL (Diamond)", 51.1, 93.1, 720, 22),
)
"""Platform, traces/s of 1 and 2 sockets, Gflop/s of 1 socket and its percentage of the peak (table 2)."""
_SIZE, _REPEATS, _PEAK_SECONDS = 2048, 3, 0.5


def matrix_gflops(dtype: torch.dtype, seconds: float = _PEAK_SECONDS) -> float:
    """Return the rate of this machine in products of large square matrices on one thread, 10^9 operations/s.

    It is the best of several measurements, each of at least `seconds`, and stands for the peak of one rank.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left = torch.ones(_SIZE, _SIZE, dtype=dtype)
        torch.mm(left, left)
        best = 0.0
        for _ in range(_REPEATS):
            products, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                torch.mm(left, left)
                products += 1
            best = max(best, products * 2 * _SIZE**3 / (time.perf_counter() - start))
        return best / 1e9
    finally:
        torch.set_num_threads(threads)


def table1(timings: Sequence[RankTimings]) -> tuple[str, Rows]:
    """Return the processors of the paper and that of the trainings, in Markdown and as rows."""
    machine = timings[0].record.machine
    rows: list[dict[str, object]] = [
        {"model": f"Intel Xeon {model}", "cores": cores, "code": code, "source": "paper"}
        for model, cores, code in PAPER_CPUS
    ]
    gpu = timings[0].record.gpu
    if gpu is not None:  # the cores of the paper's table are of processors
        rows.append({"model": gpu, "cores": "", "code": "this machine's GPU", "source": "GPU"})
    rows.append({"model": machine.cpu, "cores": machine.cores, "code": "this machine", "source": machine.instructions})
    shown = [(row["model"], row["cores"], row["code"]) for row in rows]
    text = (
        f"{markdown_table(('model', 'cores', 'code'), shown)}\n\nThe paper's cores are those of one of the two sockets "
        f"of a node; this machine's are those that the system offers. {machine_sentence([t.record for t in timings])}"
    )
    return text, rows


def table2(timings: Sequence[RankTimings], peak_gflops: float) -> tuple[str, Rows]:
    """Return the training throughput of the paper's network, here and in the paper, in Markdown and as rows.

    Parameters
    ----------
    timings
        Trainings of the paper's network, by number of ranks.
    peak_gflops
        Rate that stands for the peak of one rank, from `matrix_gflops` with the type of the trainings. It is that of a
        core, so the share of trainings on a GPU is left out.
    """
    rows: list[dict[str, object]] = [
        {
            "platform": platform,
            "ranks": ranks,
            "traces_per_s": rate,
            "gflops_per_rank": gflops,
            "percent_of_peak": share,
        }
        for platform, one, two, gflops, share in PAPER_THROUGHPUT
        for ranks, rate in ((1, one), (2, two))
    ]
    gpu = timings[0].record.gpu
    for timing in timings:
        rows.append({
            "platform": "this machine",
            "ranks": timing.ranks,
            "traces_per_s": round(timing.traces_per_s, 2),
            "gflops_per_rank": round(timing.gflops, 1),
            "percent_of_peak": round(100 * timing.gflops / peak_gflops, 1) if gpu is None else "",
        })  # fmt: skip
    paper = [
        (platform, f"1: {one}, 2: {two}", f"{gflops} ({share} %)")
        for platform, one, two, gflops, share in PAPER_THROUGHPUT
    ]
    records = [timing.record for timing in timings]
    rates = ", ".join(f"{timing.ranks}: {timing.traces_per_s:.1f}" for timing in timings)
    first = timings[0]
    arithmetic = first.record.training["arithmetic"]
    if gpu is None:
        share, place = f" ({100 * first.gflops / peak_gflops:.0f} %)", "one rank on one core"
        peak = (
            f", share of the measured rate of products of {_SIZE} x {_SIZE} matrices in {arithmetic} on one core, "
            f"{peak_gflops:.0f} Gflop/s"
        )
    else:
        share, place, peak = "", "ranks that share the GPUs of a node", "; the peak of the GPU was not measured"
    own = ("this machine", rates, f"{first.gflops:.0f}{share}")
    header = ("platform", "traces/s by number of ranks", "Gflop/s of one rank (of peak)")
    text = (
        f"{markdown_table(header, [*paper, own])}\n\n"
        "The paper: one rank on each socket of 12 to 26 cores, float32; operations from hardware counters, share of "
        f"the theoretical peak. Here: the paper's network with the addresses of this run, {place}, {arithmetic}, "
        f"operations counted from shapes (forward and backward pass){peak}. Reading of the data is included in both. "
        f"{first.record.training['hyperparameters']['batch_size']} traces per rank and iteration, "
        f"{len(first.phases.iteration)} iterations. {seed_sentence(records)} {machine_sentence(records)}"
    )
    return text, rows
