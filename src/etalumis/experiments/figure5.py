# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 5 of the paper: loss of several trainings that differ by their seeds, and its mean and scatter."""

from collections.abc import Sequence

import numpy as np

from etalumis.experiments.learning import has_learned, verdict
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


def draw(records: Sequence[TrainingRecord]) -> style.Drawing:
    """Draw the losses of trainings that differ by their seeds.

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
            # not a band of one deviation: where the seeds form groups, it would leave the range of their losses
            for loss in losses:
                axes.plot(iteration, loss, color=colour, linewidth=0.6)
            axes.plot(iteration, mean, color=colour, marker=marker, markersize=3.5, label=f"{label}, mean")
            for place, (number, traces) in enumerate(zip(iteration, records[0].column("traces"), strict=True)):
                numbers = {"mean": mean, "deviation": deviation, "lowest": losses.min(0), "highest": losses.max(0)}
                rows.append(
                    {"loss": name, "iteration": number, "traces": traces}
                    | {key: float(values[place]) for key, values in numbers.items()}
                    | {f"seed{seed}": float(loss[place]) for seed, loss in zip(_seeds(records), losses, strict=True)}
                )
        axes.axhline(prior, color=style.BLACK, linestyle=(0, (1, 1.5)), label="prior as proposal")
        axes.set(xlabel=f"iteration ({records[0].minibatch:,} traces each)", ylabel="loss [nats per trace]")
        axes.set_xlim(0, 1.015 * float(iteration.max()))
        style.legend_on_lines(axes, loc="upper right")
    return style.Drawing(STEM, figure, TITLE, _caption(records), rows)


def _seeds(records: Sequence[TrainingRecord]) -> list[int]:
    """Return the seed of each training; earlier versions recorded none and had those from 1 on."""
    return [number if record.seed is None else record.seed for number, record in enumerate(records, 1)]


def _caption(records: Sequence[TrainingRecord]) -> str:
    row, seeds = records[0].history[-1], _seeds(records)
    last = [record.history[-1].valid_loss for record in records]
    losses = ", ".join(f"{loss:.3f} (seed {seed})" for loss, seed in zip(last, seeds, strict=True))
    ramp = records[0].training["hyperparameters"]
    noise = (
        f" Training begins with less noise in the images (training.noise_start: {ramp['noise_start']:g}), which rises "
        f"to that of the model over {100 * ramp['noise_ramp_share']:g} % of the traces; validation has all of it."
        if ramp["noise_ramp_share"] > 0 and ramp["noise_start"] < 1
        else ""
    )
    return (
        f"{len(records)} trainings with seeds {', '.join(map(str, seeds))}, for initial parameters, order of the "
        "traces and noise. Thin lines: each training; thick: mean. After "
        f"{row.iteration:,} iterations ({row.traces:,} traces) the validation losses are {losses} nats per trace; the "
        f"prior as proposal has {row.prior_loss:.3f} (dotted). {verdict(records)}{_groups(records, last)}"
        f"{noise}\n\n{settings_sentence(records[0])} {machine_sentence(records)}\n\n{PAPER}"
    )


def _groups(records: Sequence[TrainingRecord], last: Sequence[float]) -> str:
    """Return mean and deviation of the last losses, unless only some trainings have learned."""
    if len({has_learned(record) for record in records}) > 1:
        return " So the losses form two groups; their mean is not the loss of a typical training."
    return f" Mean {np.mean(last):.3f}, standard deviation {np.std(last, ddof=1):.3f}."
