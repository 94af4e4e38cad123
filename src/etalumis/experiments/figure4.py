# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 4 of the paper: time by phase for several numbers of ranks, as it was and without imbalance (section 6.2)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from etalumis.experiments.rank_timings import RankTimings
from etalumis.experiments.tables import markdown_table
from etalumis.experiments.training_record import machine_sentence, seed_sentence, settings_sentence
from etalumis.figures import style
from etalumis.training.phases import WORK, Phases
from etalumis.typing import FloatArray

STEM = "figure4_phases"
TITLE = "Time by phase, actual and best without imbalance (Figure 4 of the paper)"
PAPER = (
    "The paper: 1, 2 and 64 sockets, with a single process on each; imbalance grows with their number (section 6.2)."
)
SYNC = ("sync_wait", "sync_move")
_SHOWN = {
    "read": ("read", style.PURPLE),
    "forward": ("forward", style.SKY),
    "backward": ("backward", style.BLUE),
    "update": ("update", style.GREEN),
    "sync_move": ("sum gradients", style.ORANGE),
}


def actual_s(phases: Phases) -> dict[str, float]:
    """Return the seconds per iteration of each phase of work on the rank that worked longest in the iteration.

    The paper (section 6.2) adds the times of this rank over the iterations. Moving data is added as the mean
    over ranks.
    """
    slowest = np.argmax(phases.work, axis=1)
    rows = np.arange(len(slowest))
    found = {name: float(phases.seconds[name][rows, slowest].mean()) for name in WORK}
    return found | {"sync_move": float(phases.seconds["sync_move"].mean())}


def best_s(phases: Phases) -> dict[str, float]:
    """Return the seconds per iteration of each phase, as the mean over ranks: the time without imbalance."""
    return {name: float(phases.seconds[name].mean()) for name in (*WORK, "sync_move")}


def imbalance(phases: Phases) -> float:
    """Return the share of the working time that an even distribution of the work would save."""
    actual: FloatArray = phases.work.max(axis=1)
    return float(1.0 - phases.work.mean() / actual.mean())


def draw(timings: Sequence[RankTimings]) -> style.Drawing:
    """Draw the times per iteration of trainings that differ by their numbers of ranks."""
    rows: list[dict[str, object]] = []
    with style.style(style.TALK):
        figure = style.new_figure(6.5, 3.9)
        axes = figure.subplots()
        for place, timing in enumerate(timings):
            for shift, (kind, seconds) in enumerate(
                (("actual", actual_s(timing.phases)), ("best", best_s(timing.phases)))
            ):
                x = 2.6 * place + shift
                _bar(axes, x, seconds, first=place == shift == 0)
                axes.annotate(kind, (x, 0), (0, -4), textcoords="offset points", ha="center", va="top", fontsize=9)
                rows += [
                    {"ranks": timing.ranks, "time": kind, "phase": name, "ms_per_iteration": 1e3 * value}
                    for name, value in seconds.items()
                ]
        axes.set_xticks([2.6 * place + 0.5 for place in range(len(timings))])
        axes.set_xticklabels([f"{timing.ranks} rank{'s' if timing.ranks > 1 else ''}" for timing in timings])
        axes.tick_params(axis="x", pad=18, length=0)
        axes.set(ylabel="time per iteration [ms]", xlim=(-0.8, 2.6 * len(timings) + 0.9))
        axes.legend(loc="upper right", reverse=True)
    return style.Drawing(STEM, figure, TITLE, _caption(timings), rows)


def _bar(axes: Any, x: float, seconds: dict[str, float], *, first: bool) -> None:
    bottom = 0.0
    for name, (label, colour) in _SHOWN.items():
        height = 1e3 * seconds[name]
        axes.bar(x, height, bottom=bottom, width=0.85, color=colour, label=label if first else None)
        bottom += height
    axes.plot([x - 0.46, x + 0.46], [bottom, bottom], color=style.BLACK, linewidth=1)


def _caption(timings: Sequence[RankTimings]) -> str:
    rows = []
    for timing in timings:
        actual, best = (1e3 * sum(found.values()) for found in (actual_s(timing.phases), best_s(timing.phases)))
        share = 100 * actual_s(timing.phases)["read"] / sum(actual_s(timing.phases).values())
        imbalanced = f"{100 * imbalance(timing.phases):.1f} %"
        rows.append((timing.ranks, f"{actual:.1f}", f"{best:.1f}", imbalanced, f"{share:.1f} %"))
    iterations = min(len(timing.phases.iteration) for timing in timings)
    record = timings[-1].record
    return (
        f"Mean time per iteration over {iterations} iterations, without the first {timings[0].left_out} of a training. "
        "Actual: the phases of the rank that works longest in each iteration (read, forward, backward, update); best: "
        "the mean over ranks. Summing the gradients is the mean over ranks in both; waiting for other ranks, which is "
        "the difference of the two, is not drawn.\n\n"
        f"{markdown_table(('ranks', 'actual [ms]', 'best [ms]', 'imbalance', 'read'), rows)}\n\n"
        f"{record.training['hyperparameters']['batch_size']} traces per rank and iteration, one thread per rank. "
        f"{settings_sentence(record)} {seed_sentence([record])} "
        f"{machine_sentence([timing.record for timing in timings])} "
        "Ranks beyond the number of cores would share them and measure nothing.\n\n"
        f"{PAPER}"
    )
