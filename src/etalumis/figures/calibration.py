# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figures of a calibration: ranks of the truth, coverage of intervals, true against inferred categories."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.stats import binom

from etalumis.calibration.cases import Case
from etalumis.calibration.coverage import NOMINAL
from etalumis.calibration.summary import ranks_of
from etalumis.calibration.uniformity import Uniformity, uniformity
from etalumis.counting import counted
from etalumis.diagnostics.quantities import TAU_DECAY
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.figures import captions, markup, style
from etalumis.typing import FloatArray

RANKS_STEM, COVERAGE_STEM, CATEGORIES_STEM = "calibration_ranks", "calibration_coverage", "calibration_categories"
STEMS = (RANKS_STEM, COVERAGE_STEM, CATEGORIES_STEM)
HISTOGRAM_BINS = 10
MAX_CODES = 10
"""Categories in the table of the figure; the others are counted together."""
_PASSED, _FAILED = style.GREEN, style.VERMILION
_TITLES = {quantity.key: quantity.label for quantity in TAU_DECAY}


def draw_all(
    result: Mapping[str, Any],
    cases: Sequence[Case],
    usable: Sequence[Case],
    labels: Sequence[str] | None = None,
) -> list[style.Drawing]:
    """Draw the figures of a calibration.

    Parameters
    ----------
    result : mapping
        Output of `etalumis.calibration.summarise`.
    cases, usable : sequence of Case
        All cases, and those whose posteriors are usable.
    labels : sequence of str, optional
        Decay products by channel number.
    """
    drawn = [draw_ranks(result, cases, usable), draw_coverage(result)]
    categorical = [key for key, quantity in result["quantities"].items() if quantity["categorical"]]
    return drawn + ([draw_categories(result, categorical, labels)] if categorical else [])


def _title(key: str) -> str:
    return _TITLES.get(key, key.replace("$", r"\$"))


def _name(result: Mapping[str, Any]) -> str:
    return ENGINE_NAMES.get(result["engine"], str(result["engine"]))


def _verdict_lines(result: Mapping[str, Any], *subjects: str) -> list[str]:
    chosen = [check for check in result["checks"] if check["subject"] in ("usable", *subjects)]
    return [f"- {'ok' if check['passed'] else 'NOT ok'}: {check['sentence']}" for check in chosen]


def _footer(result: Mapping[str, Any], *subjects: str) -> str:
    """Return the text below a figure: usable posteriors, and the verdicts that failed."""
    checks = [check for check in result["checks"] if check["subject"] in ("usable", *subjects)]
    lines = [checks[0]["sentence"].partition(" The verdicts below")[0]]
    failed = [check["sentence"] for check in checks[1:] if not check["passed"]]
    lines += failed or ["All checks of this figure are passed."]
    return "\n".join(textwrap.fill(line, captions.FOOTER_CHARACTERS, subsequent_indent="    ") for line in lines)


def _both_sets(result: Mapping[str, Any]) -> str:
    """Return what it means to leave out posteriors that are not usable, as sentences; empty if all are usable."""
    total, usable = result["observations"], result["usable"]
    if usable == total:
        return "All posteriors are usable."
    return (
        f"Blue: the {usable:,} usable posteriors. They answer whether a posterior that passes its own checks is right. "
        f"Grey: all {total:,}. They answer whether a posterior of this engine with this number of runs is "
        f"right, checked or not; the {total - usable:,} others have too few effective draws, so that their intervals "
        "are usually too narrow. Whether a posterior is usable depends on its draws only, not on the truth, so leaving "
        "the others out does not bias the ranks."
    )


def draw_ranks(result: Mapping[str, Any], cases: Sequence[Case], usable: Sequence[Case]) -> style.Drawing:
    """Draw the histogram of the ranks of each quantity, and the difference of its ECDF from the uniform one."""
    keys = list(result["quantities"])
    rows = max(1, -(-len(keys) // 2))
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 1.6 * rows + 0.9)
        grid = figure.subplots(rows, 4, squeeze=False).reshape(-1, 2)
        for key, (left, right) in zip(keys, grid, strict=False):
            summary = result["quantities"][key]["usable"]
            chosen = ranks_of(usable, key)
            _histogram(left, chosen)
            _ecdf(right, uniformity(chosen, result["band"]), uniformity(ranks_of(cases, key), result["band"]))
            left.set_title(_title(key))
            _judge(right, "uniform" if summary["inside_band"] else "not uniform", summary)
        for pair in grid[len(keys) :]:
            for axes in pair:
                axes.set_axis_off()
        for axes in grid.reshape(rows, 4)[-1]:
            axes.set_xlabel("rank of the truth")
        handles = [
            Patch(facecolor=style.BLUE, alpha=0.75, label="usable posteriors"),
            Line2D([], [], color="0.45", linestyle=":", label="all posteriors"),
            Patch(facecolor="0.8", label="expected if the posteriors are right"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        figure.supxlabel(_footer(result, "ranks"), fontsize=6.5, color="0.25", x=0.01, ha="left")
    band = f"{100 * (1 - (1 - result['band']) * max(len(keys), 1)):.0f} %"
    text = (
        "Left: histogram of the ranks of the truth among the posterior draws, with the 95 % range of each bin. Right: "
        "the empirical distribution function minus the uniform one, with its simultaneous confidence band (Säilynoja, "
        f"Bürkner, Vehtari 2022): if the engine is right, all curves stay inside with {band} probability. A hill in "
        "the middle of the histogram: the posterior is too wide; hills at both ends: too narrow; one side: biased. "
        "Ranks of categories are by decreasing probability. Ties are ordered at random."
    )
    title = f"{_name(result)}: ranks of the truth in {counted(result['observations'], 'posterior')}"
    return style.Drawing(RANKS_STEM, figure, title, _caption(result, text, _verdict_lines(result, "ranks")))


def _caption(result: Mapping[str, Any], text: str, verdicts: Sequence[str]) -> str:
    return "\n".join([text, "", _both_sets(result), "", *verdicts])


def _judge(axes: Axes, verdict: str, summary: Mapping[str, Any]) -> None:
    if not summary["enough"]:
        axes.set_title("too few ranks", color="0.35")
        return
    axes.set_title(verdict, color=_PASSED if summary["inside_band"] else _FAILED)


def _histogram(axes: Axes, ranks: FloatArray) -> None:
    known = ranks[~np.isnan(ranks)]
    if not len(known):
        style.empty_panel(axes, "no rank")
        return
    low, high = binom.ppf([0.025, 0.975], len(known), 1.0 / HISTOGRAM_BINS)
    counts, edges = np.histogram(known, HISTOGRAM_BINS, (0.0, 1.0))
    axes.stairs(counts, edges, fill=True, color=style.BLUE, alpha=0.75)
    axes.axhspan(low, high, color="0.6", alpha=0.4, linewidth=0, zorder=3)
    axes.axhline(len(known) / HISTOGRAM_BINS, color="0.3", linewidth=0.6, zorder=3)
    axes.set(xlim=(0, 1), ylabel="cases")
    axes.set_ylim(0, 1.1 * max(counts.max(), high))


def _ecdf(axes: Axes, usable: Uniformity, everything: Uniformity) -> None:
    if not len(usable.points):
        style.empty_panel(axes, "too few ranks")
        return
    points = usable.points
    axes.fill_between(points, usable.low - points, usable.high - points, step="mid", color="0.85", linewidth=0)
    axes.axhline(0.0, color="0.6", linewidth=0.6)
    if everything.ranks > usable.ranks:
        axes.plot(everything.points, everything.ecdf - everything.points, color="0.45", linestyle=":")
    axes.plot(points, usable.ecdf - points, color=style.BLUE)
    axes.set(xlim=(0, 1), ylabel="ECDF $-$ uniform")


def draw_coverage(result: Mapping[str, Any]) -> style.Drawing:
    """Draw how often the intervals contain the truth, for each quantity."""
    keys = list(result["quantities"])
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 2.9)
        axes = figure.subplots()
        for place, key in enumerate(keys):
            _coverage_column(axes, place, result["quantities"][key])
        for nominal in NOMINAL:
            axes.axhline(nominal, color="0.4", linewidth=0.7, linestyle=(0, (4, 2)), zorder=0)
        axes.set_xticks(range(len(keys)), [_title(key) for key in keys])
        axes.set(xlim=(-0.6, len(keys) - 0.4), ylim=(-0.03, 1.05), ylabel="share of intervals with the truth")
        axes.set_yticks([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
        axes.legend(handles=_coverage_handles(), loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=4)
        figure.supxlabel(_footer(result, "coverage"), fontsize=6.5, color="0.25", x=0.01, ha="left")
    text = (
        "Share of the central 50 % and 90 % intervals (for categories: of the sets of the most probable values) that "
        "contain the truth. Dashed: nominal. Grey bars: what binomial fluctuations of the usable cases allow, for all "
        "quantities together. Error bars: one binomial standard error. Posteriors without any draw of weight count as "
        "not containing the truth."
    )
    title = f"{_name(result)}: coverage of 50 % and 90 % intervals"
    caption = _caption(result, text, [*_verdict_lines(result, "coverage"), "", *_coverage_table(result)])
    return style.Drawing(COVERAGE_STEM, figure, title, caption)


def _coverage_column(axes: Axes, place: int, quantity: Mapping[str, Any]) -> None:
    for one in quantity["usable"]["coverage"].values():
        if one["cases"]:
            low, high = one["low"] / one["cases"], one["high"] / one["cases"]
            axes.bar(place, high - low, bottom=low, width=0.5, color="0.88", zorder=-1)
            colour = style.BLUE if one["compatible"] else _FAILED
            axes.errorbar(place - 0.08, one["share"], one["error"], color=colour, marker="o", markersize=4, capsize=2)
    for one in quantity["all"]["coverage"].values():
        if one["cases"]:
            axes.plot(
                place + 0.12, one["share"], color="0.45", marker="o", markersize=4, markerfacecolor="none",
                linestyle="none",
            )  # fmt: skip


def _coverage_handles() -> list[Any]:
    def dot(label: str, **options: Any) -> Line2D:
        return Line2D([], [], marker="o", markersize=4, linestyle="none", label=label, **options)

    return [
        dot("usable: as expected", color=style.BLUE),
        dot("usable: not as expected", color=_FAILED),
        dot("all", color="0.45", markerfacecolor="none"),
        Patch(facecolor="0.88", label="expected range"),
    ]


def _coverage_table(result: Mapping[str, Any]) -> list[str]:
    rows = ["| quantity | posteriors | cases | 50 % | 90 % | mean rank |", "| --- | --- | --- | --- | --- | --- |"]
    for key, quantity in result["quantities"].items():
        for which in ("usable", "all"):
            ranks = quantity[which]
            intervals = list(ranks["coverage"].values())
            cells = [f"{100 * one['share']:.1f} ± {100 * one['error']:.1f} %" for one in intervals]
            mean = f"{captions.number(ranks['mean'], '.3f')} ± {captions.number(ranks['mean_error'], '.3f')}"
            rows.append(markup.row([key, which, f"{intervals[0]['cases']:,}", *cells, mean]))
    return rows


def draw_categories(
    result: Mapping[str, Any], keys: Sequence[str], labels: Sequence[str] | None = None
) -> style.Drawing:
    """Draw true against most probable category, and predicted probabilities against frequencies."""
    with style.style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 3.4 * len(keys) + 0.4)
        grid = figure.subplots(len(keys), 2, squeeze=False, width_ratios=(1.25, 1.0))
        for key, (left, right) in zip(keys, grid, strict=True):
            quantity = result["quantities"][key]
            _confusion(left, key, quantity["confusion"], labels if key == "channel" else None)
            _reliability(right, quantity["probabilities"])
        figure.supxlabel(_footer(result, "categories"), fontsize=6.5, color="0.25", x=0.01, ha="left")
    text = (
        "Left: number of usable cases by true category (row) and most probable category of the posterior (column). "
        "Right: frequency with which a category is the true one against its posterior probability; dots on the "
        "diagonal: the probabilities mean what they say. Error bars: one binomial standard deviation."
    )
    title = f"{_name(result)}: true and inferred categories"
    return style.Drawing(CATEGORIES_STEM, figure, title, _caption(result, text, _verdict_lines(result, "categories")))


def _confusion(axes: Axes, key: str, found: Mapping[str, Any], labels: Sequence[str] | None) -> None:
    counts = np.asarray(found["counts"])
    if not counts.size:
        style.empty_panel(axes, "no usable posterior")
        return
    names = [_code_name(code, labels) for code in found["codes"]]
    if len(names) > MAX_CODES:
        counts, names = _merged(counts), [*names[: MAX_CODES - 1], "other"]
    axes.imshow(np.log1p(counts), cmap="Blues", aspect="auto", vmax=1.4 * np.log1p(counts.max()))
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=6.5)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.spines[["top", "right"]].set_visible(True)
    axes.set(xlabel=f"most probable {key}", ylabel=f"true {key}")
    axes.set_title(f"most probable is true: {found['hits']} of {counts.sum()}; promised {found['expected']:.1f} ± "
                   f"{found['error']:.1f}")  # fmt: skip


def _code_name(code: int, labels: Sequence[str] | None) -> str:
    return captions.index_text(captions.channel_name(code, labels)) if labels else str(code)


def _merged(counts: FloatArray) -> FloatArray:
    """Return the table with all categories from number MAX_CODES - 1 on joined into one."""
    starts = np.arange(MAX_CODES)
    return np.asarray(np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1))


def _reliability(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.7, linestyle=(0, (4, 2)))
    if not bins:
        style.empty_panel(axes, "no usable posterior")
    for one in bins:
        axes.errorbar(
            one["predicted"], one["observed"], one["error"], color=style.BLUE, marker="o", markersize=4, capsize=2
        )
        axes.annotate(
            f"{one['predictions']:,}", (one["predicted"], one["observed"]), (4, -8), textcoords="offset points",
            fontsize=6, color="0.35",
        )  # fmt: skip
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="posterior probability", ylabel="frequency of being true")
    axes.set_title("numbers: predictions per bin", color="0.35")
