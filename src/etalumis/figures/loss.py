# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 7 of the paper: training and validation loss, and the loss of the prior as proposal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from etalumis.counting import counted
from etalumis.diagnostics.history import History, judge
from etalumis.figures import style
from etalumis.figures.numbers import Rows

STEM = "figure7_loss"
TITLE = "Training and validation loss (Figure 7 of the paper)"
PAPER = "The paper: a minibatch of 131,072 traces on 1,024 nodes of Edison, with 15 M training traces."


def draw(history: History) -> style.Drawing:
    """Draw the losses against the number of traces seen.

    Parameters
    ----------
    history : History
        Losses in nats per trace; the validation loss is nan between validations.
    """
    with style.style(style.TALK):
        figure = style.new_figure(6.5, 3.9)
        axes = figure.subplots()
        _losses(axes, history)
        if np.isfinite(history.ramp_end):
            _shade_ramp(axes, history.ramp_end)
        if history.iteration.size > 1:
            _second_axis(axes, history)
    return style.Drawing(STEM, figure, TITLE, caption(history), rows(history))


def rows(history: History) -> Rows:
    """Return the losses that are drawn, in nats per trace; nan between validations."""
    return [
        {
            "iteration": int(iteration),
            "traces_seen": int(seen),
            "train_loss": train,
            "valid_loss": valid,
            "prior_loss": history.prior_loss,
        }
        for iteration, seen, train, valid in zip(
            history.iteration.tolist(),
            history.traces_seen.tolist(),
            history.train_loss.tolist(),
            history.valid_loss.tolist(),
            strict=True,
        )
    ]


def _losses(axes: Any, history: History) -> None:
    seen = history.traces_seen
    known = np.isfinite(history.valid_loss)
    whole = full_records(history)
    axes.plot(seen[whole], history.train_loss[whole], color=style.SKY, label="training")
    axes.plot(
        seen[known], history.valid_loss[known], color=style.VERMILION, marker="o", markersize=3.5, label="validation"
    )
    axes.axhline(history.prior_loss, color=style.BLACK, linestyle=(0, (1, 1.5)), label="prior as proposal")
    # the last marker lies inside the axes
    end = 1.015 * max(float(seen.max(initial=0.0)), 1.0)
    axes.set(xlabel="traces seen", ylabel="loss [nats per trace]", xlim=(0, end))
    axes.set_ylim(*loss_range(history))
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(loc="upper right")


def full_records(history: History) -> NDArray[np.bool_]:
    """Return which training losses to draw: not a last one over a few traces, whose scatter looks like a jump.

    A training ends between two validations; the last mean is then over less than half of the usual number of traces.
    """
    keep = np.ones(history.traces_seen.size, dtype=bool)
    steps = np.diff(history.traces_seen)
    if steps.size > 2 and steps[-1] < 0.5 * np.median(steps):
        keep[-1] = False
    return keep


def _shade_ramp(axes: Any, end: float) -> None:
    """Shade where training sees less noise than validation: there, its loss is lower for that reason."""
    axes.axvspan(0, end, color="0.92", linewidth=0, zorder=0)
    axes.annotate(
        "training sees\nless noise here", (0.5 * end, 0.03), xycoords=("data", "axes fraction"), ha="center",
        va="bottom", fontsize=8.5, color="0.35",
    )  # fmt: skip


def loss_range(history: History) -> tuple[float, float]:
    """Return the range of the loss axis: all losses but spikes, and the prior's, with room above for the legend."""
    values = np.concatenate([history.train_loss, history.valid_loss, [history.prior_loss]])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low = float(values.min())
    high = float(np.nanmax([history.prior_loss, np.quantile(values, 0.98)]))
    room = 0.06 * (high - low) or 0.5
    return low - room, high + 7 * room


def _second_axis(axes: Any, history: History) -> None:
    """Add an axis of iterations above, as in the paper's figure."""
    per_iteration = float(history.traces_seen[-1]) / max(float(history.iteration[-1]), 1.0)
    upper = axes.secondary_xaxis(
        "top", functions=(lambda seen: seen / per_iteration, lambda number: number * per_iteration)
    )
    upper.set_xlabel("iteration")
    upper.xaxis.set_major_formatter(_thousands)


def _thousands(value: float, _position: int) -> str:
    return f"{value:,.0f}"


def caption(history: History) -> str:
    """Return the caption, with the numbers of the training."""
    verdict = judge(history)
    rate = history.traces_per_s[np.isfinite(history.traces_per_s)]
    speed = f" The median rate was {np.median(rate):,.1f} traces/s." if rate.size else ""
    if not history.iteration.size:
        return f"{verdict.sentence} No iteration was recorded."
    ramp = (
        f" In the shaded part, up to {history.ramp_end:,.0f} traces, training sees images with less noise than "
        "validation (training.noise_start): its lower loss there is not overfitting."
        if np.isfinite(history.ramp_end)
        else ""
    )
    return (
        f"{verdict.sentence}\n\nLoss -log q(x | y), in nats per trace, with x in physical units, over "
        f"{int(history.iteration[-1]):,} iterations and {int(history.traces_seen[-1]):,} traces seen. Dotted: the loss "
        f"of the prior as proposal, {history.prior_loss:.3f} nats.{ramp}{speed}\n\n{_made(history)}{PAPER}"
    )


def _made(history: History) -> str:
    """Return seed and machine of the training, as far as they are known."""
    seed = "" if history.seed is None else f"Seed {history.seed}. "
    machine = f"Machine: {counted(history.ranks, 'rank')} on {history.processor}. " if history.processor else ""
    return seed + machine
