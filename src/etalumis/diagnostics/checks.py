# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Thresholds, and the verdicts that follow from them, in words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

TOO_FEW = 20.0
"""Effective draws below which a mean or a 95 % interval says more about the sampler than about the posterior."""
ENGINE_NAMES = {"rmh": "RMH", "ic": "IC", "importance": "Importance sampling", "prior": "Prior"}


@dataclass(frozen=True)
class Thresholds:
    """What has to hold for a posterior to be believed.

    Attributes
    ----------
    rhat : float
        Rank-normalised R-hat of every quantity at most this (Vehtari et al. 2021).
    ess : float
        Effective sample size of every quantity at least this, for chains and for weights.
    khat : float
        PSIS k-hat at most this; for n draws the stricter min(1 - 1 / log10 n, khat) counts (Vehtari et al. 2024).
    mean_difference : float
        Means of two engines at most this far apart, in standard deviations.
    total_variation : float
        Channel probabilities of two engines at most this far apart.
    """

    rhat: float = 1.01
    ess: float = 400.0
    khat: float = 0.7
    mean_difference: float = 0.2
    total_variation: float = 0.1

    def as_dict(self) -> dict[str, float]:
        """Plain dict for JSON."""
        return asdict(self)

    def khat_for(self, draws: int) -> float:
        """Threshold of k-hat for this number of draws."""
        return min(1.0 - 1.0 / math.log10(draws), self.khat) if draws > 10 else 0.0


@dataclass(frozen=True)
class Verdict:
    """One sentence with its yes or no.

    Attributes
    ----------
    subject : str
        ``convergence``, ``weights``, ``agreement``, ``truth``.
    engine : str
        Engine, or pair of engines.
    passed : bool
        False also where it cannot be said.
    sentence : str
    """

    subject: str
    engine: str
    passed: bool
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return asdict(self)


def check(diagnostics: dict[str, Any], thresholds: Thresholds) -> list[Verdict]:
    """All verdicts about the output of `etalumis.diagnostics.run.diagnose`."""
    verdicts: list[Verdict] = []
    for engine, report in diagnostics["engines"].items():
        judge = check_chains if report["markov"] else check_weights
        verdicts.append(judge(engine, report, thresholds))
        verdicts += check_truth(engine, report)
    for pair, quantities in diagnostics["agreement"].items():
        verdicts.append(check_agreement(pair, quantities, diagnostics["engines"], thresholds))
    return verdicts


def check_chains(engine: str, report: dict[str, Any], thresholds: Thresholds) -> Verdict:
    """Whether the chains have converged onto one distribution, and whether they are long enough."""
    quantities = report["quantities"] | {"log likelihood": report["chains"]["log_likelihood"]}
    constant = [key for key, summary in quantities.items() if summary["constant"]]
    moving = {key: summary for key, summary in quantities.items() if key not in constant}
    problems: list[str] = []
    if report["chains"]["count"] < 2:
        problems.append("there is one chain only, so no R-hat: run at least two")
    else:
        problems += _over(moving, "rhat", "R-hat", thresholds.rhat)
    problems += _under(moving, "ess", "ESS", thresholds.ess)
    absent = [key for key, summary in quantities.items() if summary["absent_fraction"] > 0]
    if absent:
        problems.append(f"not in every draw: {', '.join(absent)}, so no R-hat and no ESS for them")
    remark = f" Never changed: {', '.join(constant)} (no R-hat, no ESS)." if constant else ""
    remark += _swaps(report["info"])
    name = ENGINE_NAMES.get(engine, engine)
    if problems:
        return Verdict("convergence", engine, False, f"{name}: not converged: {'; '.join(problems)}.{remark}")
    worst_rhat, worst_ess = _extreme(moving, "rhat", max), _extreme(moving, "ess", min)
    if worst_rhat is None or worst_ess is None:
        return Verdict("convergence", engine, False, f"{name}: nothing can be said about convergence.{remark}")
    sentence = (
        f"{name}: converged by these measures: largest R-hat {worst_rhat[1]:.3f} ({worst_rhat[0]}), "
        f"smallest ESS {worst_ess[1]:,.0f} ({worst_ess[0]}).{remark}"
    )
    return Verdict("convergence", engine, not constant, sentence)


def _swaps(info: dict[str, Any]) -> str:
    """Return, as a sentence, how well states moved between the temperatures; empty for chains of one temperature."""
    chains = [part for part in info.get("parts", [info]) if part.get("swap_acceptance")]
    if not chains:
        return ""
    lowest = min(min(chain["swap_acceptance"]) for chain in chains)
    trips = ", ".join(f"{chain['round_trips']:,}" for chain in chains)
    return f" Smallest swap acceptance {lowest:.2f}; round trips from coldest to hottest, by chain: {trips}."


def check_weights(engine: str, report: dict[str, Any], thresholds: Thresholds) -> Verdict:
    """Whether the importance weights can be trusted."""
    weights, name = report["weights"], ENGINE_NAMES.get(engine, engine)
    if weights["ess"] == 0:
        return Verdict(
            "weights", engine, False,
            f"{name}: no posterior: all {weights['draws']:,} draws have weight zero.",
        )  # fmt: skip
    problems: list[str] = []
    limit = thresholds.khat_for(weights["draws"])
    if math.isnan(weights["khat"]):
        problems.append("too few non-zero weights for a k-hat")
    elif weights["khat"] > limit:
        problems.append(f"k-hat {weights['khat']:.2f} > {limit:.2f} (the largest weights dominate)")
    if weights["ess"] < thresholds.ess:
        problems.append(f"ESS {weights['ess']:,.0f} < {thresholds.ess:,.0f} of {weights['draws']:,} draws")
    if problems:
        return Verdict("weights", engine, False, f"{name}: not to be relied on: {'; '.join(problems)}.")
    return Verdict(
        "weights", engine, True,
        f"{name}: weights are good: k-hat {weights['khat']:.2f} <= {limit:.2f}, "
        f"ESS {weights['ess']:,.0f} of {weights['draws']:,} draws.",
    )  # fmt: skip


def check_truth(engine: str, report: dict[str, Any]) -> list[Verdict]:
    """Whether the truth lies inside the central 95 % of each quantity (5 % of them should not, by construction)."""
    known = {key: summary for key, summary in report["quantities"].items() if "truth" in summary}
    if not known:
        return []
    unsaid = {key: size for key in known if (size := _effective(report, key)) < TOO_FEW}
    outside = [key for key, summary in known.items() if key not in unsaid and not _covers(summary)]
    name = ENGINE_NAMES.get(engine, engine)
    remark = f" For {_sizes(unsaid)} it cannot be said." if unsaid else ""
    if len(unsaid) == len(known):
        text = f"{name}: whether the truth is inside the central 95 % cannot be said ({_smallest(unsaid)})."
    elif outside:
        names = ", ".join(outside)
        text = f"{name}: the truth is outside the central 95 % (a channel: below 5 % probability) for {names}.{remark}"
    else:
        number = f"the other {len(known) - len(unsaid)}" if unsaid else f"all {len(known)}"
        text = f"{name}: the truth is inside the central 95 % of {number} quantities.{remark}"
    return [Verdict("truth", engine, not outside and not unsaid, text)]


def _effective(report: dict[str, Any], key: str) -> float:
    """Effective draws of a quantity: 0 where no draw has any weight, nan where chains never changed it."""
    if not report["markov"] and report["weights"]["ess"] == 0:
        return 0.0
    return float(report["quantities"][key]["ess"])


def _sizes(few: dict[str, float]) -> str:
    return ", ".join(f"{key} (ESS {size:.1f})" for key, size in few.items())


def _smallest(few: dict[str, float]) -> str:
    return f"ESS {min(few.values()):.1f} < {TOO_FEW:g}"


def _covers(summary: dict[str, Any]) -> bool:
    truth = summary["truth"]
    if summary["categorical"]:
        return bool(truth["probability"] >= 0.05)
    return bool(0.025 <= truth["mass_below"] <= 0.975)


def check_agreement(pair: str, quantities: dict[str, Any], engines: dict[str, Any], thresholds: Thresholds) -> Verdict:
    """Whether two engines give the same posterior within the thresholds."""
    unknown: list[str] = []
    apart: list[str] = []
    sides = pair.split("-")
    names = " and ".join(ENGINE_NAMES.get(engine, engine) for engine in sides)
    sizes = {key: [_effective(engines[engine], key) for engine in sides] for key in quantities}
    unsaid = {key: min(few) for key, both in sizes.items() if (few := [size for size in both if size < TOO_FEW])}
    if unsaid and len(unsaid) == len(quantities):
        text = f"Whether {names} agree cannot be said ({_smallest(unsaid)})."
        return Verdict("agreement", pair, False, text)
    for key, distance in quantities.items():
        if key in unsaid:
            continue
        measure, limit = (
            ("total_variation", thresholds.total_variation)
            if "total_variation" in distance
            else ("mean_difference", thresholds.mean_difference)
        )
        value = distance[measure]
        unit = "total variation" if measure == "total_variation" else "sd"
        if math.isnan(value):
            unknown.append(key)
        elif abs(value) > limit:
            apart.append(f"{key} by {abs(value):.2f} {unit} (> {limit:g})")
    remark = f" Cannot be compared: {', '.join(unknown)}." if unknown else ""
    remark += f" For {_sizes(unsaid)} it cannot be said." if unsaid else ""
    if apart:
        return Verdict("agreement", pair, False, f"{names} differ: {', '.join(apart)}.{remark}")
    if len(unknown) + len(unsaid) == len(quantities):
        return Verdict("agreement", pair, False, f"{names} cannot be compared.{remark}")
    passed = not unknown and not unsaid
    return Verdict("agreement", pair, passed, f"{names} agree in all quantities that can be compared.{remark}")


def _over(summaries: dict[str, Any], field: str, name: str, limit: float) -> list[str]:
    hits = {key: s[field] for key, s in summaries.items() if s[field] > limit}
    if not hits:
        return []
    worst = max(hits.values())
    return [f"{name} {worst:.3g} > {limit:g} for {', '.join(sorted(hits, key=lambda key: -hits[key]))}"]


def _under(summaries: dict[str, Any], field: str, name: str, limit: float) -> list[str]:
    hits = {key: s[field] for key, s in summaries.items() if s[field] < limit}
    if not hits:
        return []
    worst = min(hits.values())
    return [f"{name} {worst:,.0f} < {limit:,.0f} for {', '.join(sorted(hits, key=lambda key: hits[key]))}"]


def _extreme(summaries: dict[str, Any], field: str, pick: Any) -> tuple[str, float] | None:
    known = {key: float(s[field]) for key, s in summaries.items() if not math.isnan(s[field])}
    if not known:
        return None
    key = pick(known, key=lambda k: known[k])
    return key, known[key]
