# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What probably went wrong, and which setting to change, in words."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from etalumis.config import RmhConfig
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.inference.chain import NETWORK_MOVES

DEFAULT_TEMPERATURES: int = RmhConfig().temperatures
_SET_TEMPERATURES = (
    f"Set posteriors.rmh.temperatures to {DEFAULT_TEMPERATURES} (now 1, no tempering; in Python: "
    f"betas=inverse_temperatures({DEFAULT_TEMPERATURES}, {RmhConfig().hottest_beta:g}))"
)
MIN_SWAP_ACCEPTANCE = 0.2
MIN_EFFICIENCY = 0.1
"""Effective draws per draw, below which chains are slow rather than short."""
MIN_UNVISITED = 0.05
"""Minimum share of an engine's posterior mass for which it matters that the other engine has no draw there."""
MIN_EXPECTED_DRAWS = 6.0
"""Expected effective draws in such a region: that chance leaves one of 20 regions empty has probability 20 exp(-6)."""
MIN_ROUND_TRIPS = 10
"""Per chain: with fewer, a chain has seen few states that came from the hottest replica, or from a network."""


def slow_chains(engine: str, report: dict[str, Any], failed: Collection[str], min_ess: float) -> str:
    """Return the likely causes and the remedy for chains with a large R-hat or a small ESS, as sentences.

    Parameters
    ----------
    report : dict
        One engine's part of the diagnostics.
    failed : collection of str
        Quantities beyond a threshold.
    min_ess : float
        Effective sample size required.
    """
    mixing = report["chains"]["mixing"]
    causes = likely_causes(mixing, failed, min_ess)
    text = f" Likely cause: {'; '.join(causes)}." if causes else ""
    return f"{text} {_remedy(engine, report, failed, min_ess, known=bool(causes))}"


def likely_causes(mixing: dict[str, Any], failed: Collection[str], min_ess: float) -> list[str]:
    """Return what the draws say about why chains mix slowly, one clause per cause."""
    causes = []
    pairs = [pair for pair in mixing["correlated"] if set(pair["latents"]) & set(failed)]
    if pairs:
        a, b = pairs[0]["latents"]
        causes.append(
            f"correlated latents ({a} and {b}, rank correlation {pairs[0]['correlation']:.2f}), while each move "
            "changes only one latent"
        )
    separated = [key for key in mixing["separated"] if key in failed]
    crossed = {key: m for key, m in mixing["modes"].items() if key in failed and m["crossings"] < min_ess}
    if separated:
        centres = ", ".join(f"{centre:.3g}" for centre in mixing["separated"][separated[0]])
        causes.append(
            "chains that stay apart, as in separate modes or with a strong, nonlinear dependence "
            f"({separated[0]} by chain: {centres})"
        )
    elif crossed:
        key, mode = min(crossed.items(), key=lambda item: item[1]["crossings"])
        causes.append(
            f"separate modes or a strong, nonlinear dependence ({key} <= {mode['below']:.3g} and >= "
            f"{mode['above']:.3g}; crossings of the gap by all chains: {mode['crossings']:,})"
        )
    return causes


def _remedy(engine: str, report: dict[str, Any], failed: Collection[str], min_ess: float, *, known: bool) -> str:
    temperatures, swaps = report["chains"]["mixing"]["temperatures"], swap_facts(report["info"])
    sizes = [
        summary["ess"]
        for key, summary in [*report["quantities"].items(), ("log likelihood", report["chains"]["log_likelihood"])]
        if key in failed and summary["ess"] > 0
    ]
    smallest = min(sizes, default=min_ess)
    more = f"about {max(2, math.ceil(min_ess / smallest)):,} times as many"
    if engine == "network_rmh":
        return (
            f"Raise posteriors.network_rmh.runs (in Python: runs; {more}), or train the network longer "
            "(training.max_minutes)."
        )
    slow = known or smallest < MIN_EFFICIENCY * report["draws"]
    if temperatures == 1 and slow:
        return (
            f"{_SET_TEMPERATURES}, and keep two or more chains; more runs alone ({more}) may not help. Compare with "
            "another engine."
        )
    if swaps is not None and swaps["acceptance"] < MIN_SWAP_ACCEPTANCE:
        return (
            f"Raise posteriors.rmh.temperatures (now {temperatures}; in Python: the length of betas), since few swaps "
            "are accepted, and runs with it."
        )
    return f"Raise posteriors.rmh.runs (in Python: runs; {more})."


def uneven_weights(engine: str, ess: float, min_ess: float) -> str:
    """Return, as a sentence, what to change if a few weights dominate; empty for an unknown engine."""
    if engine == "ic":
        return (
            " Train the network longer (training.max_minutes) or on more traces (traces.train), then raise "
            "posteriors.ic.runs."
        )
    if engine == "smc":
        return " Raise posteriors.smc.particles and posteriors.smc.starts."
    if engine == "importance":
        factor = max(2, math.ceil(min_ess / ess))
        return (
            f" Few draws from the prior explain the observation: use RMH or IC, or about {factor:,} times as many runs."
        )
    return ""


def swap_facts(info: dict[str, Any]) -> dict[str, Any] | None:
    """Return the smallest swap ``acceptance`` and the ``round_trips`` of each chain; None without tempering."""
    chains = [part for part in info.get("parts", [info]) if part.get("swap_acceptance")]
    if not chains:
        return None
    return {
        "acceptance": min(min(chain["swap_acceptance"]) for chain in chains),
        "round_trips": [chain["round_trips"] for chain in chains],
    }


def leaves_modes(info: dict[str, Any]) -> bool:
    """Return whether every chain often got new states, from the prior or a network, and so may visit other modes."""
    return all(map(_leaves_modes, info.get("parts", [info])))


def _leaves_modes(chain: dict[str, Any]) -> bool:
    moves = chain.get("acceptance", {}).get(NETWORK_MOVES, {"accepted": 0.0, "proposed": 0})
    return bool(max(moves["accepted"] * moves["proposed"], chain.get("round_trips", 0)) >= MIN_ROUND_TRIPS)


def disagreement(
    unvisited: dict[str, dict[str, float]],
    effective_draws: dict[str, dict[str, float]],
    engines: dict[str, Any],
    trusted: Collection[str],
) -> str:
    """Return, as sentences, why two engines differ: a region that one never visited, or a failed check of its own.

    Parameters
    ----------
    unvisited : dict
        Quantity -> engine -> share of the other engine's posterior where this one has no draw.
    effective_draws : dict
        Quantity -> engine -> effective draws; with few of them, chance alone leaves regions without a draw.
    engines : dict
        Reports by engine.
    trusted : collection of str
        Engines that passed their own check.
    """
    sides = list(next(iter(effective_draws.values())))
    missed = [
        (share, key, engine)
        for key, shares in unvisited.items()
        for engine, share in shares.items()
        if share >= MIN_UNVISITED and share * effective_draws[key][engine] >= MIN_EXPECTED_DRAWS
    ]
    if missed:
        share, key, engine = max(missed)
        name, other = (ENGINE_NAMES.get(e, e) for e in (engine, sides[engine == sides[0]]))
        return (
            f" Likely cause: {name} has no draw where {other} has at least {100 * share:.0f} % of its mass ({key}), an "
            "unvisited mode. "
            f"{_reach(engine, engines[engine])}"
        )
    doubtful = [ENGINE_NAMES.get(engine, engine) for engine in sides if engine not in trusted]
    if doubtful:
        return f" Do not trust {' and '.join(doubtful)}, whose own check fails."
    return " Both pass their own checks: one of them may have missed a mode. Try other seeds and more chains or runs."


def _reach(engine: str, report: dict[str, Any]) -> str:
    if not report["markov"] and report["weights"]["lineages"] is not None:
        return "Raise posteriors.smc.starts, so that first runs reach it."
    if not report["markov"]:
        return "Raise its runs; for IC, train the network longer."
    temperatures = report["chains"]["mixing"]["temperatures"]
    if temperatures == 1 and engine == "rmh":
        return f"{_SET_TEMPERATURES}."
    return f"Raise posteriors.{engine}.runs and posteriors.{engine}.chains (in Python: runs, and more values of chain)."
