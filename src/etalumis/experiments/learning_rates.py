# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Final loss by learning rate and minibatch, as in the search of the paper (section 6.3)."""

from collections.abc import Sequence

from etalumis.experiments.learning import named_gain, verdict
from etalumis.experiments.training_record import TrainingRecord, machine_sentence, require_same, seed_sentence
from etalumis.figures import style
from etalumis.figures.numbers import Rows

STEM = "learning_rates"
TITLE = "Loss by learning rate and minibatch (section 6.3 of the paper)"
PAPER = (
    "The paper: a grid of learning rates from 1e-7 to 0.1 for each global minibatch of 64, 2k, 32k and 128k traces, "
    "compared by the loss after one epoch. It trained with 5.7e-4 at 128k."
)
_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def draw(records: Sequence[TrainingRecord]) -> style.Drawing:
    """Draw the final validation losses of trainings that differ by learning rate and minibatch.

    Raises
    ------
    NetworkError
        If the trainings differ in anything else.
    """
    require_same(records, "settings", _common)
    require_same(records, "seed", lambda record: record.seed)
    records = sorted(records, key=lambda record: (record.minibatch, _rate(record)))
    prior = records[0].history[-1].prior_loss
    minibatches = sorted({record.minibatch for record in records})
    with style.style(style.TALK):
        figure = style.new_figure(6.5, 3.9)
        axes = figure.subplots()
        for place, minibatch in enumerate(minibatches):
            of_it = [record for record in records if record.minibatch == minibatch]
            losses = [record.history[-1].valid_loss for record in of_it]
            axes.plot(
                [_rate(record) for record in of_it], losses, label=f"{minibatch:,} traces",
                color=_COLOURS[place % len(_COLOURS)], marker=_MARKERS[place % len(_MARKERS)],
            )  # fmt: skip
        axes.axhline(prior, color=style.BLACK, linestyle=(0, (1, 1.5)), label="prior as proposal")
        axes.set(xscale="log", xlabel="initial learning rate", ylabel="final validation loss [nats per trace]")
        # a training that diverged must not hide the differences of the others
        best = min(record.history[-1].valid_loss for record in records)
        axes.set_ylim(top=min(axes.get_ylim()[1], prior + 0.5 * (prior - best)) if best < prior else None)
        style.legend_on_lines(axes, title="minibatch")
    return style.Drawing(STEM, figure, TITLE, _caption(records, minibatches), _rows(records))


def _rate(record: TrainingRecord) -> float:
    return float(record.training["hyperparameters"]["learning_rate"])


def _common(record: TrainingRecord) -> str:
    keys = record.training["hyperparameters"]
    return (
        f"optimizer {keys['optimizer']}, schedule {keys['schedule']}, {record.training['traces']:,} traces, "
        f"observation embedding {record.architecture['embedding']}, {record.training['arithmetic']}"
    )


def _rows(records: Sequence[TrainingRecord]) -> Rows:
    return [
        {
            "minibatch": record.minibatch,
            "learning_rate": _rate(record),
            "traces": record.history[-1].traces,
            "iterations": record.history[-1].iteration,
            "valid_loss": record.history[-1].valid_loss,
            "train_loss": record.history[-1].train_loss,
            "prior_loss": record.history[-1].prior_loss,
            "named_gain": named_gain(record),
        }
        for record in records
    ]


def _caption(records: Sequence[TrainingRecord], minibatches: Sequence[int]) -> str:
    lowest = []
    for minibatch in minibatches:
        best = min(
            (record for record in records if record.minibatch == minibatch), key=lambda r: r.history[-1].valid_loss
        )
        last = best.history[-1]
        lowest.append(
            f"- {minibatch:,} traces: {last.valid_loss:.3f} nats per trace with {_rate(best):g}, in {last.iteration:,} "
            "iterations"
        )
    return (
        f"Validation loss at the end of {len(records)} trainings, each on as many traces with the same seed; the prior "
        f"as proposal has {records[0].history[-1].prior_loss:.3f} (dotted). Lowest loss by minibatch:\n\n"
        + "\n".join(lowest)
        + f"\n\n{verdict(records)} Each setting has one training, so the scatter between seeds is not known.\n\n"
        f"In all of them: {_common(records[0])}. {seed_sentence(records)} {machine_sentence(records)}\n\n{PAPER}"
    )
