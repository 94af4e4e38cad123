# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Captions of the figures of posteriors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etalumis.counting import counted
from etalumis.diagnostics.headline import headline, names_of, own_checks, worst_of_chains
from etalumis.diagnostics.quantities import TAU_DECAY
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.figures import markup
from etalumis.figures.series import filled_engine

MIN_LISTED_PROBABILITY = 1e-3  # channels less probable than this in every engine are listed together
FOOTER_CHARACTERS = 145  # per line of the text below a full-width figure
PAPER_FIGURE8 = (
    "The paper: RMH (filled) with 7.68 M runs, 115 hours on a node of Edison; IC (outline) with 2 M runs, "
    "30 minutes on 24 nodes."
)
TAU_DECAY_KEYS = {quantity.key for quantity in TAU_DECAY}


def channel_name(code: int, labels: Sequence[str] | None) -> str:
    """Return the decay products of a channel if the simulator names them, else its number."""
    return labels[code].strip() if labels and 0 <= code < len(labels) else f"channel {code}"


def index_text(name: str) -> str:
    """Return a name in mathtext, with what follows an underscore as an index (``K_S``) and bars over letters."""
    words = []
    for word in name.split(" "):
        stem, mark, index = word.partition("_")
        if mark:
            barred = len(stem) > 1 and stem[-1] == "\N{COMBINING MACRON}"
            stem = rf"{stem[:-2]}\bar{{{stem[-2]}}}" if barred else stem
            word = rf"$\mathrm{{{stem}}}_{{{index}}}$"
        words.append(word)
    return " ".join(words)


def number(value: Any, digits: str = ".3g") -> str:
    """Format a number; "-" if it is missing or nan. Text is returned as it is."""
    if value is None or isinstance(value, str) or math.isnan(value):
        return "-" if not isinstance(value, str) else value
    return format(value, digits)


def probability_with_error(probability: float, error: float | None) -> str:
    """Format a probability with its Monte Carlo error: 0.0810 ± 0.0093; < 0.0001 if both are smaller."""
    if probability < 5e-5 and not (error or 0.0) >= 5e-5:
        return "< 0.0001"
    return f"{probability:.4f} ± {number(error, '.2g')}"


def _is_tau_decay(diagnostics: Mapping[str, Any]) -> bool:
    return all(report["quantities"].keys() == TAU_DECAY_KEYS for report in diagnostics["engines"].values())


def title(diagnostics: Mapping[str, Any]) -> str:
    """Return the title of the figure of posteriors, which is the paper's Figure 8 for the tau decay."""
    engines = names_of(list(diagnostics["engines"]))
    truth = " with the truth" if diagnostics["truth"] else ""
    return f"Posteriors of {engines}{truth}" + (" (Figure 8 of the paper)" if _is_tau_decay(diagnostics) else "")


def figure8(diagnostics: Mapping[str, Any], channel_labels: Sequence[str] | None, *, with_prior: bool = False) -> str:
    """Return the caption of the figure of posteriors: the verdicts, what is shown, tables of the numbers."""
    shown = [_legend(diagnostics)]
    if with_prior:
        shown.append("Light grey: the prior.")
    if diagnostics["truth"]:
        shown.append("Dashed: the true values.")
    if _is_tau_decay(diagnostics):
        shown.append(
            "Contours: 68 % and 95 % of the posterior mass. The momentum axes show the whole prior. The two highest "
            "energies are those of any decay products, including neutrinos, which leave nothing in the calorimeter."
        )
    return "\n".join(
        [
            " ".join(headline(diagnostics)),
            "",
            " ".join(shown),
            "",
            *(f"- {sentence}" for sentence in verdicts(diagnostics)),
            "",
            *(f"- {line}" for line in engine_lines(diagnostics)),
            "",
            *quantity_table(diagnostics),
            "",
            *channel_table(diagnostics, channel_labels),
            "",
            " ".join([*_made(diagnostics), *([PAPER_FIGURE8] if _is_tau_decay(diagnostics) else [])]),
        ]
    )


def _made(diagnostics: Mapping[str, Any]) -> list[str]:
    """Return the seeds of the engines and the machines that they ran on, as far as they are known, as sentences."""
    infos = [report["info"] for report in diagnostics["engines"].values()]
    parts = [part for info in infos for part in (info, *info.get("parts", ()))]
    seeds, processors = (sorted({part[key] for part in parts if key in part}) for key in ("seed", "processor"))
    return [
        *([f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."] if seeds else []),
        *([f"Machine: {', '.join(processors)}."] if processors else []),
    ]


def _legend(diagnostics: Mapping[str, Any]) -> str:
    """Return how each engine is drawn, as sentences."""
    reports = diagnostics["engines"]
    filled = filled_engine(diagnostics)
    outlined = [engine for engine in reports if engine != filled]
    text = [f"Filled: {names_of([filled])}."] if filled else []
    if outlined:
        text.append(
            f"Outline: {names_of(outlined)}; independent draws have "
            "Pareto-smoothed weights, while the numbers below are those of the weights themselves."
        )
    doubtful = [engine for engine, passed in own_checks(diagnostics).items() if not passed]
    if doubtful:
        text.append(f"Hatched, or thin and dotted: {names_of(doubtful)}, not to be read as a result.")
        if len(doubtful) < len(reports):
            text.append("The panels end above the highest bars of the others, so theirs may be cut off.")
    return " ".join(text)


def verdicts(diagnostics: Mapping[str, Any], subjects: Iterable[str] | None = None) -> list[str]:
    """Return the sentences of all verdicts, or of those on the given subjects."""
    return [c["sentence"] for c in diagnostics["checks"] if subjects is None or c["subject"] in subjects]


def engine_lines(diagnostics: Mapping[str, Any]) -> list[str]:
    """Return one line per engine: R-hat and ESS of the chains, or ESS, k-hat and log evidence of the weights."""
    lines: list[str] = []
    for engine, report in diagnostics["engines"].items():
        name = ENGINE_NAMES.get(engine, engine)
        if report["markov"]:
            drawn = f"{counted(report['draws'], 'draw')} in {counted(report['chains']['count'], 'chain')}"
            lines.append(f"{name}: {drawn}, {worst_of_chains(report)}{_cost(report)}")
        else:
            weights = report["weights"]
            khat = (
                "no tail of large weights"
                if weights["khat"] == -math.inf
                else f"k-hat {number(weights['khat'], '.2f')}"
            )
            lines.append(
                f"{name}: {counted(weights['draws'], 'draw')}, ESS {number(weights['ess'], ',.1f')}, "
                f"{khat}, log evidence {number(weights['log_evidence'], '.3f')} "
                f"± {number(weights['log_evidence_mcse'], '.3f')}{_cost(report)}"
            )
    return lines


def _cost(report: Mapping[str, Any]) -> str:
    """Return the effective draws per core-second, if the posterior says how long it took."""
    rate = report["cost"]["ess_per_core_s"]
    return "" if math.isnan(rate) else f", {rate:.2g} effective draws per core-second"


def with_error(mean: float, error: float) -> str:
    """Format a mean with its error, to two significant digits of the error: 45.187 ± 0.042."""
    if not (math.isfinite(mean) and math.isfinite(error) and error > 0):
        return number(mean, ".6g")
    decimals = 1 - math.floor(math.log10(error))
    if not 0 <= decimals <= 9:
        return f"{mean:.6g} ± {error:.2g}"
    return f"{mean:,.{decimals}f} ± {error:,.{decimals}f}"


def quantity_table(diagnostics: Mapping[str, Any]) -> list[str]:
    """Return a Markdown table: engine, quantity, truth, mean ± Monte Carlo error, sd, R-hat, ESS."""
    rows = [
        "| engine | quantity | truth | mean ± MC error | sd | R-hat | R-hat (classic) | ESS | ESS (tail) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for engine, report in diagnostics["engines"].items():
        for key, s in report["quantities"].items():
            truth = number(s["truth"]["value"], ".6g") if "truth" in s else "-"
            unit = f" {s['unit']}" if s["unit"] else ""
            mean = "-" if s["categorical"] else with_error(s["mean"], s["mcse"]) + unit
            sd = "-" if s["categorical"] else number(s["sd"])
            tail = [number(s.get("rhat"), ".3f"), number(s.get("rhat_classic"), ".3f")]
            sizes = [number(s.get("ess"), ",.0f"), number(s.get("ess_tail"), ",.0f")]
            cells = [ENGINE_NAMES.get(engine, engine), key, truth, mean, sd, *tail, *sizes]
            rows.append(markup.row(cells))
    return rows


def chain_table(report: Mapping[str, Any]) -> list[str]:
    """Return a Markdown table of the chains of an engine: quantity, R-hat, ESS, draws per effective draw.

    Parameters
    ----------
    report : mapping
        Entry of the engine in the diagnostics.
    """
    rows = ["| quantity | R-hat | ESS | draws per effective draw |", "| --- | --- | --- | --- |"]
    for key, s in report["quantities"].items():
        ess = s.get("ess")
        each = report["draws"] / ess if ess else math.nan
        rows.append(markup.row([key, number(s.get("rhat"), ".3f"), number(ess, ",.0f"), number(each, ",.1f")]))
    return rows


def channel_table(diagnostics: Mapping[str, Any], labels: Sequence[str] | None) -> list[str]:
    """Return a Markdown table of channel probabilities by engine, rare channels together; empty without channels."""
    tables = {
        engine: report["quantities"][key]
        for engine, report in diagnostics["engines"].items()
        for key in report["quantities"]
        if report["quantities"][key]["categorical"]
    }
    largest: dict[str, float] = {}
    for table in tables.values():
        for code, probability in table["probabilities"].items():
            largest[code] = max(probability, largest.get(code, 0.0))
    codes = sorted(
        (code for code in largest if largest[code] >= MIN_LISTED_PROBABILITY), key=lambda code: -largest[code]
    )
    if not codes:
        return []
    rows = [
        "| channel | products | " + " | ".join(ENGINE_NAMES.get(engine, engine) for engine in tables) + " |",
        "| --- | --- |" + " --- |" * len(tables),
    ]
    for code in codes:
        cells = [
            probability_with_error(table["probabilities"].get(code, 0.0), table["mcse"].get(code))
            for table in tables.values()
        ]
        rows.append(markup.row([code, channel_name(int(code), labels), *cells]))
    rest = [sum(p for code, p in table["probabilities"].items() if code not in codes) for table in tables.values()]
    if any(rest):
        rows.append(markup.row(["other", "", *("< 0.0001" if p < 5e-5 else f"{p:.4f}" for p in rest)]))
    return rows
