# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 5 of the paper: mean loss of several trainings that differ by their seeds, and its scatter."""

from collections.abc import Sequence

import numpy as np

from etalumis.experiments.output import Rows
from etalumis.experiments.training_record import TrainingRecord, machine_sentence, require_same, settings_sentence
from etalumis.figures import style

STEM = "figure5_seeds"
TITLE = "Loss of several trainings with different seeds (Figure 5 of the paper)"
PAPER = (
    "The paper: five trainings with a minibatch of 131,072 traces on 1,024 nodes, Adam-LARC, polynomial decay of order "
    "2 from 5.7e-4 to 2e-5 over 12 epochs of 15 M traces, shown as mean and standard deviation."
)
_LOSSES = (
    ("valid_loss", style.VERMILION, "o", "validation"),
    ("train_loss", style.SKY, None, "training"),
)


def draw(records: Sequence[TrainingRecord]) -> tuple[style.Drawing, Rows]:
    """Draw the losses of trainings that differ by their seeds, and return the numbers.

    Raises
    ------
    NetworkError
        If the trainings differ in anything else that the figure shows.
    """
    require_same(records, "iterations of validation", lambda record: tuple(record.column("iteration").tolist()))
    require_same(records, "settings", settings_sentence)
    iteration, prior = records[0].column("iteration"), records[0].history[-1].prior_loss
    rows: list[dict[str, object]] = []
    with style.style(style.TALK):
        figure = style.new_figure(6.5, 3.9)
        axes = figure.subplots()
        for name, colour, marker, label in _LOSSES:
            losses = np.array([record.column(name) for record in records])
            mean, deviation = losses.mean(0), losses.std(0, ddof=1)
            axes.fill_between(iteration, losses.min(0), losses.max(0), color=colour, alpha=0.18, linewidth=0)
            axes.fill_between(iteration, mean - deviation, mean + deviation, color=colour, alpha=0.35, linewidth=0)
            axes.plot(iteration, mean, color=colour, marker=marker, markersize=3.5, label=f"{label}, mean")
            for place, (number, traces) in enumerate(zip(iteration, records[0].column("traces"), strict=True)):
                numbers = {"mean": mean, "deviation": deviation, "lowest": losses.min(0), "highest": losses.max(0)}
                rows.append(
                    {"loss": name, "iteration": number, "traces": traces}
                    | {key: float(values[place]) for key, values in numbers.items()}
                )
        axes.axhline(prior, color=style.BLACK, linestyle=(0, (1, 1.5)), label="prior as proposal")
        axes.set(xlabel=f"iteration ({records[0].minibatch:,} traces each)", ylabel="loss [nats per trace]")
        axes.set_xlim(0, 1.015 * float(iteration.max()))
        style.legend_on_lines(axes, loc="upper right")
    return style.Drawing(STEM, figure, TITLE, _caption(records)), rows


def _caption(records: Sequence[TrainingRecord]) -> str:
    last = np.array([record.history[-1].valid_loss for record in records])
    row = records[0].history[-1]
    ramp = records[0].training["hyperparameters"]
    noise = (
        f" Training begins with less noise in the images (training.noise_start: {ramp['noise_start']:g}), which rises "
        f"to that of the model over {100 * ramp['noise_ramp_share']:g} % of the traces; validation has all of it."
        if ramp["noise_ramp_share"] > 0 and ramp["noise_start"] < 1
        else ""
    )
    return (
        f"{len(records)} trainings with seeds 1 to {len(records)}, for initial parameters, order of the traces and "
        f"noise. Line: mean; dark shade: one standard deviation; light shade: lowest to highest. After "
        f"{row.iteration:,} iterations ({row.traces:,} traces) the validation loss is {last.mean():.3f} nats per "
        f"trace with a standard deviation of {last.std(ddof=1):.3f} between seeds; the prior as proposal has "
        f"{row.prior_loss:.3f} (dotted)."
        f"{noise}\n\n{settings_sentence(records[0])} {machine_sentence(records)}\n\n{PAPER}"
    )
