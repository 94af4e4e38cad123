# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verdicts in short: which engines to rely on, and whether these agree with each other and with the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from etalumis.diagnostics.verdict import ENGINE_NAMES

OWN_CHECKS = ("convergence", "weights")
"""Subjects of the check that an engine's chains or weights have to pass before its posterior is looked at."""


def own_checks(diagnostics: Mapping[str, Any]) -> dict[str, bool]:
    """Return, by engine, whether its chains or weights passed their own check; False without one.

    Parameters
    ----------
    diagnostics : mapping
        Output of `etalumis.diagnostics.diagnose`.
    """
    passed = {c["engine"]: bool(c["passed"]) for c in diagnostics["checks"] if c["subject"] in OWN_CHECKS}
    return {engine: passed.get(engine, False) for engine in diagnostics["engines"]}


def short_verdicts(diagnostics: Mapping[str, Any]) -> dict[str, str]:
    """Return, by engine, the outcome of its own check with the numbers that decide, in one line."""
    return {
        engine: f"{ENGINE_NAMES.get(engine, engine)}: {_short(diagnostics['engines'][engine], passed)}"
        for engine, passed in own_checks(diagnostics).items()
    }


def _short(report: Mapping[str, Any], passed: bool) -> str:
    if report["markov"]:
        return f"{'converged' if passed else 'not converged'}, {worst_of_chains(report)}"
    weights = report["weights"]
    if weights["ess"] == 0:
        return "no posterior, all weights are zero"
    return f"{'reliable' if passed else 'not reliable'}, ESS {weights['ess']:,.0f}, {_khat(weights['khat'])}"


def _khat(value: float) -> str:
    if math.isnan(value):
        return "too few weights for a k-hat"
    return "no tail of large weights" if value == -math.inf else f"k-hat {value:.2f}"


def worst_of_chains(report: Mapping[str, Any]) -> str:
    """Return the largest R-hat and the smallest ESS of an engine's chains, each with its quantity."""
    rhat, ess = (
        {key: s[field] for key, s in report["quantities"].items() if not math.isnan(s[field])}
        for field in ("rhat", "ess")
    )
    largest = max(rhat, key=lambda key: rhat[key]) if rhat else None
    smallest = min(ess, key=lambda key: ess[key]) if ess else None
    return (
        f"R-hat {f'{rhat[largest]:.3f} ({largest})' if largest else '-'}, "
        f"ESS {f'{ess[smallest]:,.0f} ({smallest})' if smallest else '-'}"
    )


def headline(diagnostics: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know first, as sentences: whom to rely on, and what speaks against these."""
    passed = own_checks(diagnostics)
    good = [engine for engine in passed if passed[engine]]
    sentences = [_whom(good, [engine for engine in passed if not passed[engine]])]
    pairs = [c for c in diagnostics["checks"] if c["subject"] == "agreement" and set(c["engine"].split("-")) <= {*good}]
    if pairs and all(pair["passed"] for pair in pairs):
        sentences.append("They agree with each other.")
    sentences += [_first_sentence(pair["sentence"]) for pair in pairs if not pair["passed"]]
    predictions = [c for c in diagnostics["checks"] if c["subject"] == "prediction" and c["engine"] in good]
    sentences += [_first_sentence(check["sentence"]) for check in predictions if not check["passed"]]
    truths = [c for c in diagnostics["checks"] if c["subject"] == "truth" and c["engine"] in good]
    if truths and all(check["passed"] for check in truths):
        sentences.append(f"The truth is inside the central 95 % of {names_of([c['engine'] for c in truths])}.")
    sentences += [_first_sentence(check["sentence"]) for check in truths if not check["passed"]]
    return sentences


def _whom(good: Sequence[str], bad: Sequence[str]) -> str:
    if not good:
        doubted = f"{names_of(bad)} {'does' if len(bad) == 1 else 'do'}"
        return f"No posterior to rely on: {doubted} not pass {'its' if len(bad) == 1 else 'their'} own checks."
    text = f"Rely on {names_of(good)}, which passed {'its' if len(good) == 1 else 'their'} own checks"
    return f"{text}; not on {names_of(bad, 'or')}." if bad else f"{text}."


def names_of(engines: Sequence[str], before_last: str = "and") -> str:
    """Return the names of engines as a list in words: RMH, IC and SMC."""
    names = [ENGINE_NAMES.get(engine, engine) for engine in engines]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {before_last} {names[-1]}"


def _first_sentence(text: str) -> str:
    """Return the text up to the first full stop that ends a sentence, not one within a number."""
    return f"{text.removesuffix('.').partition('. ')[0]}."
