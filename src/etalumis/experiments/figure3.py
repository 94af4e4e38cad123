# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figure 3 of the paper: a trace, with addresses, priors and samples above, and the network's proposals below."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.gridspec import GridSpec
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from etalumis.diagnostics.quantities import TAU_DECAY
from etalumis.errors import DatasetError
from etalumis.experiments.entry_densities import Densities, Entry, densities_at, entries_along, shown
from etalumis.experiments.machine import Machine
from etalumis.experiments.tables import markdown_table
from etalumis.figures import style
from etalumis.figures.captions import channel_name, index_text
from etalumis.figures.numbers import Rows
from etalumis.network import checkpoint
from etalumis.traces.observation import Observation
from etalumis.traces.observation import load as load_observation
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.typing import Array

STEM = "figure3_proposals"
TITLE = "Addresses, priors and samples of a trace, and the network's proposals (Figure 3 of the paper)"
COLUMNS = 7
PAPER = "The paper draws the same as a scheme, with an observation of 20 x 35 x 35 voxels and a 3DCNN-LSTM."
_PRIOR, _PROPOSAL = "0.75", style.VERMILION
_SHOWN_ADDRESS = 90
"""Characters of the innermost call of an address in the caption; the table has all calls."""


def draw(network_folder: Path, observation_path: Path, traces: Path, channel_labels: list[str] | None) -> style.Drawing:
    """Draw the proposals of a network along the trace from which an observation was made.

    Raises
    ------
    DatasetError
        If the trace of the observation is not among `traces`, or has no entry that the network proposes.
    """
    network = checkpoint.load(network_folder)
    event = load_observation(observation_path)
    index, trace = _trace_of(event, traces)
    values = [event.observed[layout.name].value for layout in network.layers.observations]
    observation = values[0] if len(values) == 1 else np.concatenate([value.ravel() for value in values])
    entries = entries_along(network, observation, trace)
    if not entries:
        raise DatasetError(f"{traces}: trace {index} has no entry that the network of {network_folder} proposes")
    numbers = shown(len(entries), COLUMNS)
    densities = [densities_at(network, observation, trace, number) for number in numbers]
    units = units_of(tag.name for tag in network.layers.tags)
    with style.style():
        figure = _figure(observation, entries, numbers, densities, network.config.lstm_hidden, channel_labels, units)
    record = checkpoint.read_manifest(network_folder)["training"]
    given = f"the observation (noise seed {event.seed}){tags_in_words(network.config.tags)}"
    caption = _caption(entries, numbers, index, record, given, channel_labels, units)
    return style.Drawing(STEM, figure, TITLE, caption, _rows(entries))


def tags_in_words(tags: Mapping[str, Sequence[str]]) -> str:
    """Return which tags of the trace which entries see besides the observation, to be added to it; "" without tags."""
    return "".join(f", the tag {tag} of the trace (only for {', '.join(names)})" for tag, names in tags.items())


def units_of(tags: Iterable[str]) -> dict[str, str]:
    """Return the units of named entries, which only those of the tau decay have; it is known by its tags."""
    if not {quantity.source for quantity in TAU_DECAY} <= {*tags}:
        return {}
    return {quantity.key: quantity.unit for quantity in TAU_DECAY if quantity.unit}


def _trace_of(event: Observation, path: Path) -> tuple[int, Any]:
    """Return the number of the trace with the seed of an observation, and the trace."""
    dataset = TraceDataset(path)
    found = np.flatnonzero(dataset.column("seed") == event.trace_seed)
    if len(found) != 1:
        raise DatasetError(
            f"{path}: expected the trace of the observation, {event.source}, found {len(found)} with its seed; name "
            "the file from which `etalumis traces observation` made it"
        )
    return int(found[0]), dataset.trace(int(found[0]))


def _figure(
    observation: Array,
    entries: list[Entry],
    numbers: list[int],
    densities: list[Densities],
    hidden: int,
    labels: list[str] | None,
    units: Mapping[str, str],
) -> Any:
    figure = style.new_figure(style.FULL_WIDTH_IN, 3.9)
    figure.set_layout_engine("none")
    columns = len(numbers)
    grid = GridSpec(
        3, columns + 1, figure, height_ratios=[1, 0.62, 1], width_ratios=[1.25, *[1] * columns],
        left=0.012, right=0.99, top=0.84, bottom=0.105, hspace=0.12, wspace=0.22,
    )  # fmt: skip
    for place, (number, density) in enumerate(zip(numbers, densities, strict=True), 1):
        entry = entries[number]
        above, below = figure.add_subplot(grid[0, place]), figure.add_subplot(grid[2, place])
        _panel(above, density, entry.value, density.prior, _PRIOR)
        _panel(below, density, entry.value, density.proposal, _PROPOSAL)
        _outline(below, density)
        above.set_title(f"$A_{{{number + 1}}}$\n{_label(entry)}{_bracketed(entry, units)}", fontsize=7, pad=9)
        above.annotate(
            _mathtext(_sample(entry, labels, units)), (0.5, 1.015), xycoords="axes fraction", ha="center", fontsize=6
        )
        above.set_xticklabels([])
        below.tick_params(labelsize=5.5)
        for axes in (above, below):
            axes.xaxis.set_major_locator(MaxNLocator(2))
    _network_row(figure, grid, columns, hidden, gap=_gap(numbers))
    _side(figure, grid, observation)
    return figure


def _panel(axes: Any, density: Densities, value: float, heights: Array, colour: str) -> None:
    if density.discrete:
        axes.bar(density.values, heights, width=0.85, color=colour)
        axes.plot([value], [0], marker="^", color=style.BLACK, markersize=4, clip_on=False, zorder=5)
    else:
        axes.fill_between(density.values, heights, color=colour, alpha=0.85, linewidth=0)
        axes.axvline(value, color=style.BLACK, linestyle=(0, (3, 1.5)), linewidth=0.9)
        axes.set_xlim(density.values[0], density.values[-1])
    axes.set_ylim(0, 1.12 * float(heights.max()))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _outline(axes: Any, density: Densities) -> None:
    """Draw the prior behind the proposal, to the same scale."""
    if density.discrete:
        axes.step(density.values, density.prior, where="mid", color="0.4", linewidth=0.6)
    else:
        axes.plot(density.values, density.prior, color="0.4", linewidth=0.7)


def _label(entry: Entry) -> str:
    return entry.name or f"{entry.distribution.kind} {entry.address.rpartition('__')[2]}"


def _bracketed(entry: Entry, units: Mapping[str, str]) -> str:
    return f" [{units[entry.name]}]" if entry.name in units else ""


def _sample(entry: Entry, labels: list[str] | None, units: Mapping[str, str]) -> str:
    if entry.distribution.kind != "Categorical":
        return f"$x$ = {entry.value:.3g} {units.get(entry.name, '')}".rstrip()
    return channel_name(int(entry.value), labels) if entry.name == "channel" else f"$x$ = {int(entry.value)}"


def _mathtext(text: str) -> str:
    return text if "$" in text else index_text(text)


def _gap(numbers: list[int]) -> int | None:
    """Return after how many columns entries are left out."""
    return next((n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1), None)


def _network_row(figure: Any, grid: GridSpec, columns: int, hidden: int, gap: int | None) -> None:
    """Draw the LSTM as one box for each column; its state goes from left to right, its output down to the proposals."""
    axes = figure.add_subplot(grid[1, :])
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    left = axes.get_position()
    centres = [_centre(figure, grid, n, left) for n in range(columns + 1)]
    width = 0.62 * (centres[2] - centres[1]) if columns > 1 else 0.1
    _box(axes, centres[0], width * 1.35, "3DCNN", style.SKY)
    for n, x in enumerate(centres[1:], 1):
        _box(axes, x, width, f"LSTM\n{hidden}", style.YELLOW)
        before = centres[n - 1] + 0.5 * width * (1.35 if n == 1 else 1)
        _arrow(axes, (before, 0.5), (x - 0.5 * width, 0.5))
        _arrow(axes, (x, 0.24), (x, -0.1))
        # the sample of an entry is embedded for the next one
        _arrow(axes, (x, 1.08), (x, 0.76), "0.55")
        if n - 1 == gap:
            axes.text(0.5 * (centres[n - 1] + x), 0.62, r"$\cdots$", ha="center", fontsize=9)


def _centre(figure: Any, grid: GridSpec, column: int, frame: Any) -> float:
    place = grid[1, column].get_position(figure)
    return float((0.5 * (place.x0 + place.x1) - frame.x0) / frame.width)


def _box(axes: Any, x: float, width: float, text: str, colour: str) -> None:
    shape = FancyBboxPatch(
        (x - 0.5 * width, 0.26), width, 0.48, boxstyle="round,pad=0,rounding_size=0.008",
        facecolor=colour, alpha=0.55, edgecolor="0.3", linewidth=0.6, mutation_aspect=8,
    )  # fmt: skip
    axes.add_patch(shape)
    axes.text(x, 0.5, text, ha="center", va="center", fontsize=6.5)


def _arrow(axes: Any, start: tuple[float, float], stop: tuple[float, float], colour: str = "0.2") -> None:
    arrow = FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=6, color=colour, linewidth=0.7, shrinkA=0,
                            shrinkB=0, clip_on=False)  # fmt: skip
    axes.add_patch(arrow)


def _side(figure: Any, grid: GridSpec, observation: Array) -> None:
    """Write what each row shows, with the observation at the left of the proposals."""
    words = figure.add_subplot(grid[0, 0])
    words.axis("off")
    words.text(0.02, 1.21, "addresses", transform=words.transAxes, fontsize=7, va="bottom")
    words.text(0.02, 1.015, "samples $x_t$", transform=words.transAxes, fontsize=7, va="bottom")
    words.text(0.02, 0.5, "priors\n$p(x_t\\,|\\,x_{<t})$", transform=words.transAxes, fontsize=7, va="center")
    image = figure.add_subplot(grid[2, 0])
    if observation.ndim == 3:
        image.imshow(observation.sum(0), origin="lower", cmap=style.SEQUENTIAL)
        image.set_title("observation $y$", fontsize=7, pad=2)
        image.set(xticks=[], yticks=[])
        image.set_xlabel("proposals\n$q(x_t\\,|\\,x_{<t}, y)$  $\\rightarrow$", fontsize=7)
    else:
        image.axis("off")
        image.text(0.02, 0.5, "proposals\n$q(x_t\\,|\\,x_{<t}, y)$", transform=image.transAxes, fontsize=7)


def _rows(entries: list[Entry]) -> Rows:
    return [
        {
            "entry": number,
            "address": entry.address,
            "name": entry.name,
            "distribution": entry.distribution.kind,
            "value": entry.value,
            "log_prior": entry.log_prior,
            "log_proposal": entry.log_proposal,
        }
        for number, entry in enumerate(entries, 1)
    ]


def _caption(
    entries: list[Entry],
    numbers: list[int],
    index: int,
    record: dict[str, Any],
    given: str,
    labels: list[str] | None,
    units: Mapping[str, str],
) -> str:
    prior, proposal = (sum(getattr(entry, name) for entry in entries) for name in ("log_prior", "log_proposal"))
    left_out = f"; {len(entries) - len(numbers)} of them are left out at the dots" if _gap(numbers) else ""
    rows = [
        (
            f"A{n + 1}",
            _label(entries[n]),
            _sample(entries[n], labels, units).replace("$x$ = ", ""),
            _short(entries[n].address),
        )
        for n in numbers
    ]
    seed = f" with seed {record['seed']} on {record['processor']}" if "seed" in record else ""
    return (
        f"Test trace {index}, from which the observation was made, with {len(entries)} controlled entries{left_out}. "
        "Above: the prior of each address and the sample (dashed, or a triangle). Below: what the network proposes "
        f"there, given {given} and the true values of all earlier entries, with the prior as a line, to the same "
        f"scale. Log density of the values: {prior:.2f} under the priors, {proposal:.2f} under the proposals, a "
        f"gain of {proposal - prior:.2f} nats. The network was trained on {record['traces']:,} traces{seed}; its "
        f"validation loss is {record['valid_loss']:.3f} nats per trace, that of the prior "
        f"{record['prior_loss']:.3f}.\n\n"
        f"{markdown_table(('', 'name', 'sample', 'address'), rows)}\n\n{Machine.of_this().sentence} {PAPER}"
    )


def _short(address: str) -> str:
    last = address.rpartition("; ")[2]
    text = f"{'... ' if last != address else ''}{last[-_SHOWN_ADDRESS:]}"
    return f"`{text.replace('|', '/')}`"
