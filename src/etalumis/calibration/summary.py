# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the ranks of a calibration say, in numbers and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from etalumis.calibration.cases import Case
from etalumis.calibration.categories import confusion, probability_bins
from etalumis.calibration.coverage import NOMINAL, coverage
from etalumis.calibration.uniformity import describe, uniformity
from etalumis.calibration.usability import DEFAULT_MAX_RHAT, DEFAULT_MIN_ESS, problem
from etalumis.counting import counted
from etalumis.diagnostics.verdict import ENGINE_NAMES, Thresholds, Verdict
from etalumis.typing import FloatArray

FALSE_ALARMS = 0.05
"""Probability that an engine that is right fails any of the checks of one kind, over all quantities together."""
DEFAULT_THRESHOLDS = Thresholds(ess=DEFAULT_MIN_ESS, rhat=DEFAULT_MAX_RHAT)


def usable_cases(cases: Sequence[Case], thresholds: Thresholds = DEFAULT_THRESHOLDS) -> list[Case]:
    """Return the cases whose posteriors are usable."""
    return [case for case in cases if not case_problem(case, thresholds)]


def case_problem(case: Case, thresholds: Thresholds) -> str:
    """Return why the posterior of a case is not usable; empty if it is."""
    return "error of the engine" if case.failure else problem(case.found, case.markov, thresholds)


def quantity_keys(cases: Sequence[Case], chosen: Sequence[str] = ()) -> list[str]:
    """Return the quantities of the cases, in their order; those of `chosen` only, if there are any."""
    keys = dict.fromkeys(key for case in cases for key in case.ranks)
    return [key for key in keys if not chosen or key in chosen]


def ranks_of(cases: Sequence[Case], key: str) -> FloatArray:
    """Return the ranks of a quantity, array (case,); nan for cases without a posterior of it."""
    return np.array([case.ranks[key] for case in cases if key in case.ranks], dtype=float)


def is_categorical(cases: Sequence[Case], key: str) -> bool:
    """Return whether a quantity has no order."""
    return any(key in case.categories for case in cases)


def summarise(
    engine: str,
    cases: Sequence[Case],
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    quantities: Sequence[str] = (),
) -> dict[str, Any]:
    """Summarise a calibration.

    Parameters
    ----------
    engine : str
        Name of the engine.
    thresholds : Thresholds
        `ess`, `khat` and `rhat` decide which posteriors are usable.
    quantities : sequence of str
        Quantities to judge; all if empty. The confidence bands hold for all of them together.

    Returns
    -------
    dict
        ``observations``, ``usable``, ``problems`` (number of observations by problem), ``seconds``, ``thresholds``,
        ``band`` (probability of the confidence band of one quantity), ``quantities`` (by key: ``usable`` and ``all``,
        each with the uniformity and the coverages; for categories ``confusion`` and ``probabilities``) and ``checks``
        (verdicts in words).
    """
    usable = usable_cases(cases, thresholds)
    keys = quantity_keys(cases, quantities)
    level = 1.0 - FALSE_ALARMS / max(len(keys), 1)
    result: dict[str, Any] = {
        "engine": engine,
        "observations": len(cases),
        "usable": len(usable),
        "problems": dict(Counter(p for case in cases if (p := case_problem(case, thresholds)))),
        "seconds": sum(case.seconds for case in cases),
        "thresholds": {name: getattr(thresholds, name) for name in ("ess", "khat", "rhat")},
        "band": level,
        "quantities": {key: _quantity(cases, usable, key, level) for key in keys},
    }
    result["checks"] = [verdict.as_dict() for verdict in _verdicts(result)]
    return result


def _quantity(cases: Sequence[Case], usable: Sequence[Case], key: str, level: float) -> dict[str, Any]:
    categorical = is_categorical(cases, key)
    summary: dict[str, Any] = {"categorical": categorical}
    for name, chosen in (("usable", usable), ("all", cases)):
        summary[name] = _ranks(ranks_of(chosen, key), level, categorical)
    if categorical:
        records = [case.categories[key] for case in usable if key in case.categories]
        found = confusion(records)
        summary["confusion"] = {**found._asdict(), "counts": found.counts.tolist()}
        summary["probabilities"] = [one._asdict() for one in probability_bins(records)]
    return summary


def _ranks(ranks: FloatArray, level: float, categorical: bool) -> dict[str, Any]:
    found = uniformity(ranks, level)
    intervals = {}
    for nominal in NOMINAL:
        one = coverage(ranks, nominal, categorical=categorical, level=1.0 - (1.0 - level) / len(NOMINAL))
        derived = {"share": one.share, "error": one.error, "compatible": one.compatible}
        intervals[f"{nominal:g}"] = {**one._asdict(), **derived}
    return {
        "ranks": found.ranks,
        "without_rank": len(ranks) - found.ranks,
        "mean": found.mean,
        "mean_error": found.mean_error,
        "width": found.width,
        "width_error": found.width_error,
        "inside_band": found.inside,
        "enough": found.enough,
        "deviation": "" if found.inside or not found.enough else describe(found, categorical=categorical),
        "coverage": intervals,
    }


def _verdicts(result: Mapping[str, Any]) -> list[Verdict]:
    engine = result["engine"]
    verdicts = [_usable_verdict(result)]
    for key, quantity in result["quantities"].items():
        verdicts.append(_ranks_verdict(engine, key, quantity))
        if quantity["usable"]["enough"]:
            verdicts.append(_coverage_verdict(engine, key, quantity))
        if quantity["usable"]["enough"] and quantity["categorical"]:
            verdicts.append(_category_verdict(engine, key, quantity["confusion"]))
    return verdicts


def _usable_verdict(result: Mapping[str, Any]) -> Verdict:
    engine, usable, total = result["engine"], result["usable"], result["observations"]
    name = ENGINE_NAMES.get(engine, engine)
    sentence = f"{name}: {usable:,} of {counted(total, 'posterior')} are usable"
    if usable == total:
        return Verdict("usable", engine, total > 0, f"{sentence}.")
    found = sorted(result["problems"].items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{count:,} with {problem}" for problem, count in found)
    return Verdict(
        "usable", engine, False,
        f"{sentence}; not usable: {reasons}. The verdicts below are about the usable ones. They are not biased by this "
        "choice, which does not look at the truth, but say nothing about observations of the other kind.",
    )  # fmt: skip


def _ranks_verdict(engine: str, key: str, quantity: Mapping[str, Any]) -> Verdict:
    ranks = quantity["usable"]
    name = f"{ENGINE_NAMES.get(engine, engine)}, {key}"
    if not ranks["enough"]:
        sentence = f"{name}: only {counted(ranks['ranks'], 'rank')}: too few for a verdict."
        return Verdict("ranks", engine, False, sentence)
    if ranks["inside_band"]:
        sentence = f"{name}: the {ranks['ranks']:,} ranks of the truth are uniform (within the confidence band)."
        return Verdict("ranks", engine, True, sentence)
    sentence = f"{name}: the {ranks['ranks']:,} ranks of the truth are not uniform: {ranks['deviation']}."
    return Verdict("ranks", engine, False, sentence)


def _coverage_verdict(engine: str, key: str, quantity: Mapping[str, Any]) -> Verdict:
    ranks = quantity["usable"]
    intervals = ranks["coverage"].values()
    kind = "sets of the most probable values" if quantity["categorical"] else "central intervals"
    shares = ", ".join(
        f"{100 * one['nominal']:.0f} %: {100 * one['share']:.1f} ± {100 * one['error']:.1f} %" for one in intervals
    )
    sides = ["less" if one["covered"] < one["low"] else "more" for one in intervals if not one["compatible"]]
    often = f"{' and '.join(dict.fromkeys(sides))} often than they should" if sides else "as often as they should"
    name = ENGINE_NAMES.get(engine, engine)
    return Verdict("coverage", engine, not sides, f"{name}, {key}: {kind} contain the truth {often} ({shares}).")


def _category_verdict(engine: str, key: str, found: Mapping[str, Any]) -> Verdict:
    total = int(np.sum(found["counts"]))
    deviation = abs(found["hits"] - found["expected"])
    passed = total > 0 and deviation <= 3.0 * found["error"] + 0.5
    sentence = (
        f"{ENGINE_NAMES.get(engine, engine)}, {key}: the most probable value is the true one in {found['hits']:,} of "
        f"{counted(total, 'case')}; its probabilities promise {found['expected']:.1f} ± {found['error']:.1f}."
    )
    return Verdict("categories", engine, passed, sentence)
