# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 7 of the paper: training and validation loss, and the loss of the prior as proposal."""

from __future__ import annotations

from typing import Any

import numpy as np

from etalumis.diagnostics.history import History, judge
from etalumis.figures import style

STEM = "figure7_loss"
TITLE = "Training and validation loss (Figure 7 of the paper)"


def draw(history: History) -> style.Drawing:
    """Draw the losses against the number of traces seen.

    Parameters
    ----------
    history : History
        Losses in nats per trace; the validation loss is nan between validations.
    """
    with style.style():
        figure = style.new_figure(style.COLUMN_WIDTH_IN * 1.3, 3.0)
        axes = figure.subplots()
        _losses(axes, history)
        if history.iteration.size > 1:
            _second_axis(axes, history)
    return style.Drawing(STEM, figure, TITLE, caption(history))


def _losses(axes: Any, history: History) -> None:
    seen = history.traces_seen
    known = np.isfinite(history.valid_loss)
    axes.plot(seen, history.train_loss, color=style.SKY, label="training")
    axes.plot(
        seen[known], history.valid_loss[known], color=style.VERMILION, marker="o", markersize=2.5, label="validation"
    )
    axes.axhline(history.prior_loss, color=style.BLACK, linestyle=(0, (1, 1.5)), label="prior as proposal")
    axes.set(xlabel="traces seen", ylabel="loss [nats per trace]", xlim=(0, max(float(seen.max(initial=0.0)), 1.0)))
    axes.set_ylim(*loss_range(history))
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(loc="upper right")


def loss_range(history: History) -> tuple[float, float]:
    """Return the range of the loss axis: all losses but spikes, and the prior's, with room above for the legend."""
    values = np.concatenate([history.train_loss, history.valid_loss, [history.prior_loss]])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low = float(values.min())
    high = float(np.nanmax([history.prior_loss, np.quantile(values, 0.98)]))
    room = 0.06 * (high - low) or 0.5
    return low - room, high + 5 * room


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
    return (
        f"Loss -log q(x | y), in nats per trace, with x in physical units, over {int(history.iteration[-1]):,} "
        f"iterations and {int(history.traces_seen[-1]):,} traces seen. Dotted: the loss of the prior as proposal, "
        f"{history.prior_loss:.3f} nats. Training may start with less noise than validation "
        f"(training.noise_start).{speed} {verdict.sentence}"
        if history.iteration.size
        else f"No iteration was recorded. {verdict.sentence}"
    )
