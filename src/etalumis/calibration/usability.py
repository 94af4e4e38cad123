# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whether the posterior of one observation can be used: its effective draws, the tail of its weights, its chains.

The criterion looks at the draws only, never at the truth. Given the observation, the truth is therefore still a draw
from the posterior, and the ranks of the usable posteriors are uniform if these posteriors are right.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from etalumis.diagnostics.verdict import Thresholds

DEFAULT_MIN_ESS = 100.0
"""Effective draws that a rank needs: with 100, the rank of a given truth varies by 0.05 at most (one sd)."""
DEFAULT_MAX_RHAT = 1.05
"""Largest R-hat of chains of the length that a calibration can afford; 1.01 for a single final posterior."""


class Reliability(NamedTuple):
    """Numbers on which the usability of one posterior depends.

    Attributes
    ----------
    draws
        Number of independent draws: of all, or of lineages if draws descend from one another (smc).
    ess
        Kish's effective sample size of the weights, or the smallest effective sample size of any quantity of the
        chains; 0 if there is no draw with a weight.
    khat
        Pareto k-hat of the weights; nan for chains.
    rhat
        Largest R-hat of any quantity; nan for weighted draws, and for a single chain.
    """

    draws: int
    ess: float
    khat: float
    rhat: float


def reliability(report: dict[str, Any]) -> Reliability:
    """Return the numbers from the report of `etalumis.diagnostics.run.diagnose_one` on a posterior."""
    draws = int(report["draws"])
    if not report["markov"]:
        weights = report["weights"]
        return Reliability(
            int(weights.get("lineages") or draws), float(weights["ess"]), float(weights["khat"]), math.nan
        )
    moving = [summary for summary in report["quantities"].values() if not summary["constant"]]
    ess = [summary["ess"] for summary in moving if not math.isnan(summary["ess"])]
    rhat = [summary["rhat"] for summary in moving if not math.isnan(summary["rhat"])]
    return Reliability(draws, float(min(ess, default=0.0)), math.nan, float(max(rhat, default=math.nan)))


def problem(found: Reliability, markov: bool, thresholds: Thresholds) -> str:
    """Return why a posterior is not usable, as the name of a group of such posteriors; empty if it is usable."""
    if found.ess == 0:
        return "no draw with a weight" if not markov else "chains that did not move or are too short"
    if found.ess < thresholds.ess:
        return f"ESS below {thresholds.ess:,.0f}"
    if found.rhat > thresholds.rhat:
        return f"R-hat above {thresholds.rhat:g}"
    if not markov and not found.khat <= thresholds.khat_for(found.draws):
        return f"k-hat above {thresholds.khat_for(found.draws):.2f}"
    return ""
