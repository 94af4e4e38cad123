# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""All verdicts in words; those on the chains or the weights of one engine are made here."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from etalumis.diagnostics import advice, comparisons
from etalumis.diagnostics.prediction import check_prediction
from etalumis.diagnostics.verdict import ENGINE_NAMES, Thresholds, Verdict

LOG_LIKELIHOOD = "log likelihood"


def check(diagnostics: dict[str, Any], thresholds: Thresholds) -> list[Verdict]:
    """Return all verdicts on the output of `etalumis.diagnostics.run.diagnose`."""
    engines: dict[str, Any] = diagnostics["engines"]
    own: dict[str, Verdict] = {}
    verdicts: list[Verdict] = []
    for engine, report in engines.items():
        if report["markov"]:
            confirmed = comparisons.confirmed_constants(engine, engines)
            own[engine] = check_chains(engine, report, thresholds, confirmed, alone=len(engines) == 1)
        else:
            own[engine] = check_weights(engine, report, thresholds)
        verdicts += [own[engine], *check_prediction(engine, report, thresholds)]
        verdicts += comparisons.check_truth(engine, report)
    trusted = {engine for engine, verdict in own.items() if verdict.passed}
    for pair, quantities in diagnostics["agreement"].items():
        verdicts.append(comparisons.check_agreement(pair, quantities, engines, thresholds, trusted))
    return verdicts


def check_chains(
    engine: str, report: dict[str, Any], thresholds: Thresholds, confirmed: Collection[str] = (), *, alone: bool = False
) -> Verdict:
    """Check whether the chains have converged to one distribution, and whether they are long enough.

    A constant quantity has no R-hat and no ESS. It fails the check unless an engine with independent draws finds the
    same constant (`confirmed`), or the chains often got states from the hottest replica, or from a network.
    """
    quantities = report["quantities"] | {LOG_LIKELIHOOD: report["chains"]["log_likelihood"]}
    moving = {key: summary for key, summary in quantities.items() if not summary["constant"]}
    constant = [key for key in report["quantities"] if key not in moving]
    doubtful = [] if advice.leaves_modes(report["info"]) else [key for key in constant if key not in confirmed]
    problems, slow = _problems(moving, report["chains"]["count"], thresholds)
    name = ENGINE_NAMES.get(engine, engine)
    remarks = _constants(constant, doubtful) + _swaps(report["info"])
    if problems:
        advised = advice.slow_chains(engine, report, slow, thresholds.ess) if slow else ""
        return Verdict("convergence", engine, False, f"{name}: not converged: {'; '.join(problems)}.{advised}{remarks}")
    worst_rhat, worst_ess = _extreme(moving, "rhat", max), _extreme(moving, "ess", min)
    if not moving:
        return Verdict("convergence", engine, not doubtful, f"{name}: no quantity changed.{remarks}")
    if worst_rhat is None or worst_ess is None:
        return Verdict("convergence", engine, False, f"{name}: too few draws to judge convergence.{remarks}")
    sentence = (
        f"{name}: converged by these measures: largest R-hat {worst_rhat[1]:.3f} ({worst_rhat[0]}), "
        f"smallest ESS {worst_ess[1]:,.0f} ({worst_ess[0]}).{remarks}"
    )
    if alone and engine == "rmh" and report["chains"]["mixing"]["temperatures"] == 1:
        sentence += " Without tempering, a mode that no chain visited goes unnoticed: compare with another engine."
    return Verdict("convergence", engine, not doubtful, sentence)


def _problems(moving: dict[str, Any], chains: int, thresholds: Thresholds) -> tuple[list[str], list[str]]:
    """Return what is wrong with the chains, and the quantities with a large R-hat or a small ESS."""
    problems: list[str] = []
    large: list[str] = []
    if chains < 2:
        problems.append("there is only one chain, hence no R-hat: run at least two")
    else:
        large = _beyond(moving, "rhat", lambda rhat: rhat - thresholds.rhat)
    if large:
        problems.append(f"R-hat {moving[large[0]]['rhat']:.3f} > {thresholds.rhat:g} for {', '.join(large)}")
    small = _beyond(moving, "ess", lambda ess: thresholds.ess - ess)
    if small:
        problems.append(f"ESS {moving[small[0]]['ess']:,.0f} < {thresholds.ess:,.0f} for {', '.join(small)}")
    absent = [key for key, summary in moving.items() if summary["absent_fraction"] > 0]
    if absent:
        problems.append(f"not in every draw: {', '.join(absent)} (missing or infinite, so no R-hat and no ESS)")
    return problems, list(dict.fromkeys([*large, *small]))


def _beyond(summaries: dict[str, Any], field: str, excess: Callable[[float], float]) -> list[str]:
    """Return the quantities beyond a limit, the worst first; nan is not beyond it."""
    found = {key: excess(summary[field]) for key, summary in summaries.items()}
    return sorted((key for key, value in found.items() if value > 0), key=lambda key: -found[key])


def _constants(constant: list[str], doubtful: list[str]) -> str:
    """Return, as sentences, what never changed and what that may mean."""
    if not constant:
        return ""
    text = f" Constant in all draws: {', '.join(constant)} (no R-hat, no ESS)."
    if doubtful:
        text += (
            f" Either the model fixes {', '.join(doubtful)}, or the chains did not visit other values: compare with "
            "another engine."
        )
    return text


def _swaps(info: dict[str, Any]) -> str:
    """Return, as a sentence, how well states moved between the temperatures; empty without tempering."""
    facts = advice.swap_facts(info)
    if facts is None:
        return ""
    trips = ", ".join(f"{count:,}" for count in facts["round_trips"])
    return (
        f" Smallest swap acceptance {facts['acceptance']:.2f}; round trips from coldest to hottest, by chain: {trips}."
    )


def check_weights(engine: str, report: dict[str, Any], thresholds: Thresholds) -> Verdict:
    """Check whether the importance weights can be trusted."""
    weights, name = report["weights"], ENGINE_NAMES.get(engine, engine)
    lineages = weights.get("lineages")
    independent = weights["draws"] if lineages is None else lineages
    draws = f"{independent:,} {'draws' if lineages is None else 'lineages'}"
    if weights["ess"] == 0:
        return Verdict("weights", engine, False, f"{name}: no posterior: all {draws} have weight zero.")
    problems: list[str] = []
    limit = thresholds.khat_for(independent)
    if math.isnan(weights["khat"]):
        problems.append("too few non-zero weights for a k-hat")
    elif weights["khat"] > limit:
        problems.append(f"k-hat {weights['khat']:.2f} > {limit:.2f} (the largest weights dominate)")
    if weights["ess"] < thresholds.ess:
        problems.append(f"ESS {weights['ess']:,.0f} < {thresholds.ess:,.0f} of {draws}")
    if problems:
        advised = advice.uneven_weights(engine, weights["ess"], thresholds.ess)
        return Verdict("weights", engine, False, f"{name}: not reliable: {'; '.join(problems)}.{advised}")
    tail = (
        "the largest weights are equal"
        if weights["khat"] == -math.inf
        else f"k-hat {weights['khat']:.2f} <= {limit:.2f}"
    )
    sentence = f"{name}: the weights are reliable: {tail}, ESS {weights['ess']:,.0f} of {draws}."
    return Verdict("weights", engine, True, sentence)


def _extreme(summaries: dict[str, Any], field: str, choose: Callable[..., str]) -> tuple[str, float] | None:
    """Return the quantity with the largest or smallest value of a field; None if all are nan."""
    known = {key: float(summary[field]) for key, summary in summaries.items() if not math.isnan(summary[field])}
    if not known:
        return None
    key = choose(known, key=lambda k: known[k])
    return key, known[key]
