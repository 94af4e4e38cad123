# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verdicts that compare: a posterior with the truth, and engines with each other."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from etalumis.diagnostics import advice
from etalumis.diagnostics.rounding import RELATIVE_ROUNDING
from etalumis.diagnostics.verdict import ENGINE_NAMES, MIN_EFFECTIVE_DRAWS, Thresholds, Verdict

MIN_PROBABILITY = 0.05
"""Of the true channel. A discrete truth with this probability is inside the central 95 % too."""
SIGMAS = 3.0
"""Monte Carlo standard errors by which two estimates of one mean may differ."""


def check_truth(engine: str, report: dict[str, Any]) -> list[Verdict]:
    """Check whether the truth lies inside the central 95 % of each quantity (5 % of them should not, by construction).

    The mass at the truth counts half on each side; a channel needs a probability of 5 %.
    """
    known = {key: summary for key, summary in report["quantities"].items() if "truth" in summary}
    if not known:
        return []
    unknown = {key: size for key in known if not (size := _effective_draws(report, key)) >= MIN_EFFECTIVE_DRAWS}
    outside = [key for key, summary in known.items() if key not in unknown and not _covers(summary)]
    name, remark = ENGINE_NAMES.get(engine, engine), _not_judged(unknown)
    if len(unknown) == len(known):
        text = f"{name}: too few effective draws to compare with the truth ({_smallest(unknown)})."
    elif outside:
        channel = " (a channel: below 5 % probability)" if any(known[key]["categorical"] for key in outside) else ""
        text = f"{name}: the truth is outside the central 95 %{channel} for {', '.join(outside)}.{remark}"
    else:
        judged = [key for key in known if key not in unknown]
        which = f"{'the other' if unknown else 'all'} {len(judged)} quantities" if len(judged) > 1 else judged[0]
        text = f"{name}: the truth is inside the central 95 % of {which}.{remark}"
    return [Verdict("truth", engine, not outside and not unknown, text)]


def _covers(summary: dict[str, Any]) -> bool:
    truth = summary["truth"]
    if summary["categorical"]:
        return bool(truth["probability"] >= MIN_PROBABILITY)
    return bool(0.025 <= truth["mass_below"] <= 0.975)


def _effective_draws(report: dict[str, Any], key: str) -> float:
    """Return the effective draws of a quantity; all draws of chains if it is constant, nan if it is not known."""
    summary = report["quantities"][key]
    if not report["markov"] and report["weights"]["ess"] == 0:
        return 0.0
    return float(report["draws"] if report["markov"] and summary["constant"] else summary["ess"])


def _size(size: float) -> str:
    return "no ESS" if math.isnan(size) else f"ESS {size:.1f}"


def _not_judged(unknown: dict[str, float]) -> str:
    """Return, as a sentence, which quantities have too few effective draws."""
    if not unknown:
        return ""
    return f" Not judged: {', '.join(f'{key} ({_size(size)})' for key, size in unknown.items())}."


def _smallest(unknown: dict[str, float]) -> str:
    size = min((size for size in unknown.values() if not math.isnan(size)), default=math.nan)
    return _size(size) if math.isnan(size) else f"{_size(size)} < {MIN_EFFECTIVE_DRAWS:g}"


def confirmed_constants(engine: str, engines: dict[str, Any]) -> set[str]:
    """Return the constant quantities of an engine that an engine with independent draws finds constant too."""
    own = {key: summary for key, summary in engines[engine]["quantities"].items() if summary["constant"]}
    others = [report for name, report in engines.items() if name != engine and not report["markov"]]
    return {
        key
        for report in others
        for key, summary in own.items()
        if _same_constant(summary, report["quantities"].get(key))
        and _effective_draws(report, key) >= MIN_EFFECTIVE_DRAWS
    }


def _same_constant(a: dict[str, Any], b: dict[str, Any] | None) -> bool:
    if b is None or not b["constant"]:
        return False
    if a["categorical"]:
        return bool(a["probabilities"].keys() == b["probabilities"].keys())
    return math.isclose(a["mean"], b["mean"], rel_tol=RELATIVE_ROUNDING)


def check_agreement(
    pair: str, distances: dict[str, Any], engines: dict[str, Any], thresholds: Thresholds, trusted: Collection[str]
) -> Verdict:
    """Check whether two engines give the same posterior within the thresholds.

    Parameters
    ----------
    pair : str
        Names of the engines, joined by a hyphen.
    distances : dict
        By quantity, from `etalumis.diagnostics.run.compare`.
    engines : dict
        Reports by engine.
    thresholds : Thresholds
    trusted : collection of str
        Engines that passed their own check.
    """
    sides = pair.split("-")
    names = " and ".join(ENGINE_NAMES.get(engine, engine) for engine in sides)
    sizes = {key: {engine: _effective_draws(engines[engine], key) for engine in sides} for key in distances}
    unknown = {
        key: min(few, default=math.nan)
        for key, both in sizes.items()
        if (few := [size for size in both.values() if not size >= MIN_EFFECTIVE_DRAWS])
    }
    if unknown and len(unknown) == len(distances):
        text = f"{names}: too few effective draws to compare them ({_smallest(unknown)})."
        return Verdict("agreement", pair, False, text)
    empty = [key for key, distance in distances.items() if key not in unknown and math.isnan(_measure(distance)[0])]
    judged = [key for key in distances if key not in unknown and key not in empty]
    limits = {key: _limit(distances[key], [engines[e]["quantities"][key] for e in sides], thresholds) for key in judged}
    apart = [key for key in judged if abs(_measure(distances[key])[0]) > limits[key]]
    remark = (f" Cannot be compared: {', '.join(empty)}." if empty else "") + _not_judged(unknown)
    if apart:
        differences = ", ".join(_difference(key, distances[key], sides, engines, limits[key]) for key in apart)
        cause = advice.disagreement({key: distances[key]["unvisited"] for key in apart}, sizes, engines, trusted)
        return Verdict("agreement", pair, False, f"{names} differ: {differences}.{cause}{remark}")
    if not judged:
        return Verdict("agreement", pair, False, f"{names} cannot be compared.{remark}")
    passed = not empty and not unknown
    return Verdict("agreement", pair, passed, f"{names} agree in all quantities that can be compared.{remark}")


def _measure(distance: dict[str, Any]) -> tuple[float, str]:
    """Return the distance that decides, and its unit."""
    if "total_variation" in distance:
        return distance["total_variation"], "total variation"
    return distance["mean_difference"], "sd"


def _limit(distance: dict[str, Any], summaries: Sequence[dict[str, Any]], thresholds: Thresholds) -> float:
    """Return the threshold of a distance and what Monte Carlo errors add to it.

    Means may differ by three standard errors more. The total variation of two estimates of equal probabilities is
    sum_k |e_k| / 2 with normal errors e_k, and E|e_k| = sqrt(2 / pi) sd(e_k).
    """
    if "total_variation" not in distance:
        errors = [s["mcse"] / s["sd"] for s in summaries if s["sd"] > 0 and math.isfinite(s["mcse"])]
        return thresholds.mean_difference + SIGMAS * math.hypot(*errors)
    categories = {code for s in summaries for code in s["mcse"]}
    of_category = [[s["mcse"].get(code, 0.0) for s in summaries] for code in categories]
    chance = math.fsum(math.hypot(*(e for e in errors if math.isfinite(e))) for errors in of_category)
    return thresholds.total_variation + 0.5 * math.sqrt(2.0 / math.pi) * chance


def _difference(key: str, distance: dict[str, Any], sides: list[str], engines: dict[str, Any], limit: float) -> str:
    value, unit = _measure(distance)
    if math.isinf(value):
        first, second = (engines[engine]["quantities"][key]["mean"] for engine in sides)
        return f"{key} ({first:g} and {second:g} in every draw)"
    return f"{key} by {abs(value):.2f} {unit} (> {limit:.2g}, Monte Carlo errors included)"
