# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Loss of optimizers and learning-rate schedules, as compared in the paper (section 7.1.2)."""

from collections.abc import Sequence
from typing import Any

from etalumis.experiments.learning import named_gain, verdict
from etalumis.experiments.tables import markdown_table
from etalumis.experiments.training_record import TrainingRecord, machine_sentence, require_same, seed_sentence
from etalumis.figures import style
from etalumis.figures.numbers import Rows

STEM = "optimizers"
TITLE = "Loss of optimizers and schedules (section 7.1.2 of the paper)"
PAPER = (
    "The paper: Adam-LARC converges better than Adam at a minibatch of 128k traces, and equally well at 32k and below. "
    "Of no decay, multi-step decay and polynomial decay of order 1 and 2, order 2 is the most effective."
)
_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE)
_DASHES: dict[str, Any] = {
    "none": (0, (1, 1.2)), "multistep": (0, (2.5, 1.5)), "polynomial1": (0, (5, 1.5)), "polynomial2": "solid",
}  # fmt: skip
_IN_WORDS = {"none": "no decay", "multistep": "multi-step", "polynomial1": "order 1", "polynomial2": "order 2"}


def draw(records: Sequence[TrainingRecord]) -> style.Drawing:
    """Draw the validation losses of trainings that differ by optimizer and schedule.

    Raises
    ------
    NetworkError
        If the trainings differ in anything else.
    """
    require_same(records, "settings", _common)
    require_same(records, "seed", lambda record: record.seed)
    prior = records[0].history[-1].prior_loss
    optimizers = list(dict.fromkeys(_optimizer(record) for record in records))
    schedules = [name for name in _DASHES if any(_schedule(record) == name for record in records)]
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 3.2)
        curves, finals = figure.subplots(1, 2)
        for record in records:
            colour = _COLOURS[optimizers.index(_optimizer(record)) % len(_COLOURS)]
            curves.plot(
                record.column("traces"), record.column("valid_loss"), color=colour, linewidth=1,
                linestyle=_DASHES[_schedule(record)],
            )  # fmt: skip
        for place, optimizer in enumerate(optimizers):
            of_it = {_schedule(record): record for record in records if _optimizer(record) == optimizer}
            present = [name for name in schedules if name in of_it]
            finals.plot(
                [schedules.index(name) for name in present],
                [of_it[name].history[-1].valid_loss for name in present],
                color=_COLOURS[place % len(_COLOURS)], marker="o", markersize=4, linewidth=0.6, label=optimizer,
            )  # fmt: skip
        for name in schedules:
            curves.plot([], [], color="0.3", linewidth=1, linestyle=_DASHES[name], label=_IN_WORDS[name])
        curves.axhline(prior, color="0.5", linestyle=(0, (1, 1.5)), linewidth=0.9, label="prior as proposal")
        style.legend_on_lines(curves, loc="upper right")
        curves.set(xlabel="traces seen", ylabel="validation loss [nats per trace]")
        curves.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        finals.set(xlabel="decay of the learning rate", ylabel="final validation loss")
        finals.set_xticks(range(len(schedules)), [_IN_WORDS[name] for name in schedules])
        finals.set_xlim(-0.4, len(schedules) - 0.6)
        finals.legend()
    return style.Drawing(STEM, figure, TITLE, _caption(records, optimizers, schedules), _rows(records))


def _optimizer(record: TrainingRecord) -> str:
    return str(record.training["hyperparameters"]["optimizer"])


def _schedule(record: TrainingRecord) -> str:
    return str(record.training["hyperparameters"]["schedule"])


def _common(record: TrainingRecord) -> str:
    keys = record.training["hyperparameters"]
    return (
        f"initial learning rate {keys['learning_rate']:g}, {record.minibatch:,} traces per iteration, "
        f"{record.training['traces']:,} traces in all, observation embedding {record.architecture['embedding']}, "
        f"{record.training['arithmetic']}"
    )


def _rows(records: Sequence[TrainingRecord]) -> Rows:
    return [
        {
            "optimizer": _optimizer(record),
            "schedule": _schedule(record),
            "iteration": row.iteration,
            "traces": row.traces,
            "learning_rate": row.learning_rate,
            "train_loss": row.train_loss,
            "valid_loss": row.valid_loss,
            "prior_loss": row.prior_loss,
            "named_gain_at_end": named_gain(record),
        }
        for record in records
        for row in record.history
    ]


def _caption(records: Sequence[TrainingRecord], optimizers: Sequence[str], schedules: Sequence[str]) -> str:
    final = {(_optimizer(record), _schedule(record)): record.history[-1].valid_loss for record in records}
    rows = [
        (name, *(f"{final[name, schedule]:.3f}" if (name, schedule) in final else "" for schedule in schedules))
        for name in optimizers
    ]
    header = ("optimizer", *(_IN_WORDS[schedule] for schedule in schedules))
    return (
        f"Validation loss of {len(records)} trainings with the same seed, by optimizer (colour) and decay of the "
        "learning rate (dashes). Left: along the training; right and below: at its end. The prior as proposal has "
        f"{records[0].history[-1].prior_loss:.3f} nats per trace (dotted, grey).\n\n"
        f"{markdown_table(header, rows)}\n\n{verdict(records)} Each setting has one training, so the scatter between "
        f"seeds is not known.\n\nIn all of them: {_common(records[0])}. {seed_sentence(records)} "
        f"{machine_sentence(records)}\n\n{PAPER}"
    )
