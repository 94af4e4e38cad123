# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 2 of the paper: loss curves of the architectures of the hyperparameter search."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from etalumis.counting import counted
from etalumis.experiments.learning import named_gain, verdict
from etalumis.experiments.training_record import (
    TrainingRecord,
    machine_sentence,
    require_same,
    seed_sentence,
    settings_sentence,
)
from etalumis.figures import style
from etalumis.figures.numbers import Rows

STEM = "figure2_architectures"
TITLE = "Loss of the architectures of the search (Figure 2 of the paper)"
PAPER = (
    "The paper: a grid of LSTM stacks 1 to 4, hidden units 128, 256, 512 and mixture components 5, 10, 25, 50. It "
    "chose one stack, 512 hidden units and 10 components (ringed here if it is in the grid)."
)
CHOICE = (1, 512, 10)
"""Stacks, hidden units and components that the paper chose (section 4.3)."""
_COLOURS = (style.ORANGE, style.GREEN, style.BLUE, style.PURPLE, style.SKY, style.VERMILION)
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (2.5, 1.5)), (0, (1, 1.2)))
_MARKERS = ("o", "s", "^", "D")
_SPREAD = 0.12
"""Shift between the points of different hidden units at one number of components, so that all are visible."""

Setting = tuple[int, int, int]


def draw(records: Sequence[TrainingRecord]) -> style.Drawing:
    """Draw the validation losses of trainings that differ by their LSTM and mixture components.

    Raises
    ------
    NetworkError
        If the trainings differ in anything else that the figure shows.
    """
    require_same(records, "settings", settings_sentence)
    require_same(records, "seed", lambda record: record.seed)
    require_same(records, "number of traces", lambda record: record.history[-1].traces)
    by_setting = {_setting(record): record for record in records}
    stacks, hidden, components = (sorted({setting[axis] for setting in by_setting}) for axis in range(3))
    prior = records[0].history[-1].prior_loss
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN if len(stacks) > 1 else style.COLUMN_WIDTH_IN, 4.2)
        panels = figure.subplots(2, len(stacks), sharey="row", squeeze=False)
        for column, layers in enumerate(stacks):
            curves, finals = panels[:, column]
            for setting, record in by_setting.items():
                if setting[0] == layers:
                    colour = _COLOURS[hidden.index(setting[1]) % len(_COLOURS)]
                    place = components.index(setting[2])
                    _curve(curves, record, colour, place)
                    shift = _SPREAD * (hidden.index(setting[1]) - 0.5 * (len(hidden) - 1))
                    _final(finals, record, setting, place + shift, colour, place)
            for axes in (curves, finals):
                axes.axhline(prior, color="0.5", linestyle=(0, (1, 1.5)), linewidth=0.9)
            curves.set(title=f"{layers} LSTM stack{'s' if layers > 1 else ''}", xlabel="traces seen")
            curves.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            curves.xaxis.set_major_locator(MaxNLocator(3))
            finals.set(xlabel="mixture components", xlim=(-0.5, len(components) - 0.5))
            finals.set_xticks(range(len(components)), list(map(str, components)))
        panels[0, 0].set_ylabel("validation loss [nats per trace]")
        panels[1, 0].set_ylabel("final validation loss")
        low, high = _final_range(by_setting, prior)
        panels[1, 0].set_ylim(low, high)
        _legend(figure, hidden, components)
    return style.Drawing(STEM, figure, TITLE, _caption(by_setting), _rows(by_setting))


def _setting(record: TrainingRecord) -> Setting:
    network = record.architecture
    return network["lstm_layers"], network["lstm_hidden"], network["mixture_components"]


def _curve(axes: Any, record: TrainingRecord, colour: str, place: int) -> None:
    dashes = _DASHES[place % len(_DASHES)]
    axes.plot(record.column("traces"), record.column("valid_loss"), color=colour, linestyle=dashes, linewidth=0.9)


def _final(axes: Any, record: TrainingRecord, setting: Setting, x: float, colour: str, place: int) -> None:
    loss, marker = record.history[-1].valid_loss, _MARKERS[place % len(_MARKERS)]
    axes.plot([x], [loss], color=colour, marker=marker, markersize=4, linestyle="none")
    if setting == CHOICE:
        axes.plot([x], [loss], marker="o", markersize=9, markerfacecolor="none", color=style.BLACK, linestyle="none")


def _final_range(by_setting: dict[Setting, TrainingRecord], prior: float) -> tuple[float, float]:
    """Return a range of the final losses; the prior is inside only if it is near, so that differences are visible."""
    losses = np.array([record.history[-1].valid_loss for record in by_setting.values()])
    low, high = float(losses.min()), float(losses.max())
    room = 0.1 * ((high - low) or 0.5)
    if low - 4 * room < prior < high + 4 * room:
        low, high = min(low, prior), max(high, prior)
    return low - room, high + room


def _legend(figure: Any, hidden: list[int], components: list[int]) -> None:
    axes = figure.axes[0]
    lines = [
        *(
            axes.plot([], [], color=_COLOURS[n % len(_COLOURS)], label=f"{h} hidden units")[0]
            for n, h in enumerate(hidden)
        ),
        *(
            axes.plot([], [], color="0.3", linestyle=_DASHES[n % len(_DASHES)], linewidth=0.9,
                      marker=_MARKERS[n % len(_MARKERS)], markersize=3.5, label=f"{c} components")[0]
            for n, c in enumerate(components)
        ),
        axes.plot([], [], color="0.5", linestyle=(0, (1, 1.5)), label="prior as proposal")[0],
    ]  # fmt: skip
    figure.legend(handles=lines, loc="outside lower center", ncols=min(4, len(lines)))


def _rows(by_setting: dict[Setting, TrainingRecord]) -> Rows:
    return [
        {
            "lstm_layers": layers,
            "lstm_hidden": hidden,
            "mixture_components": components,
            "parameters": record.manifest["parameters"],
            "iteration": row.iteration,
            "traces": row.traces,
            "elapsed_s": round(row.elapsed_s, 3),
            "train_loss": row.train_loss,
            "valid_loss": row.valid_loss,
            "prior_loss": row.prior_loss,
            "named_gain_at_end": named_gain(record),
        }
        for (layers, hidden, components), record in by_setting.items()
        for row in record.history
    ]


def _caption(by_setting: dict[Setting, TrainingRecord]) -> str:
    records = list(by_setting.values())
    best = min(by_setting, key=lambda setting: by_setting[setting].history[-1].valid_loss)
    losses = [record.history[-1].valid_loss for record in records]
    last = records[0].history[-1]
    return (
        f"Validation loss of {len(records)} architectures, each trained once on {last.traces:,} traces with the "
        "same seed. Above: along the training; below: at its end. Lowest: "
        f"{counted(best[0], 'stack')}, {best[1]} hidden units, {best[2]} components, with {min(losses):.3f} nats per "
        f"trace; highest {max(losses):.3f}; the prior as "
        f"proposal has {last.prior_loss:.3f} (dotted). {verdict(records)} Each setting has one training, so the "
        f"scatter between seeds is not known.\n\n{settings_sentence(records[0])} {seed_sentence(records)} "
        f"{machine_sentence(records)}\n\n{PAPER}"
    )
