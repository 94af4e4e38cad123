# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whether a posterior explains the observation: the verdict on its posterior predictive check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from etalumis.diagnostics.verdict import ENGINE_NAMES, Thresholds, Verdict

if TYPE_CHECKING:
    from etalumis.inference.predictive import PredictiveCheck

SUBJECT = "prediction"
"""Subject of the verdict."""


def summarise(check: PredictiveCheck) -> dict[str, float]:
    """Return the posterior predictive p-values, over all elements and those with signal, and the number of the latter.

    Values are nan if no element of the observation has a signal.
    """
    return {
        "p": check.mean(check.p),
        "p_signal": check.mean(check.p_signal),
        "signal_elements": check.mean(check.signal_elements),
        "replays": len(check.p),
    }


def check_prediction(engine: str, report: dict[str, Any], thresholds: Thresholds) -> list[Verdict]:
    """Return the verdict on the predictive check of an engine; none if it was not made."""
    found = report.get("prediction")
    if found is None:
        return []
    name, limit = ENGINE_NAMES.get(engine, engine), thresholds.predictive_p
    numbers = f"p = {found['p']:.2g}"
    if not math.isnan(found["p_signal"]):
        numbers += f", and {found['p_signal']:.2g} in the {found['signal_elements']:,.0f} elements with signal"
    known = [p for p in (found["p"], found["p_signal"]) if not math.isnan(p)]
    if any(p < limit for p in known):
        text = (
            f"does not explain the observation: new observations of its draws are almost never less likely ({numbers}, "
            f"below {limit:g}). The model lacks something, the noise is larger than the model says, or the engine "
            "missed the posterior."
        )
        return [Verdict(SUBJECT, engine, False, f"{name}: {text}")]
    if any(p > 1.0 - limit for p in known):
        text = (
            f"the observation is closer to its expectation than the noise of the model allows ({numbers}, above "
            f"{1.0 - limit:g}). The noise is smaller than the model says."
        )
        return [Verdict(SUBJECT, engine, False, f"{name}: {text}")]
    text = f"the posterior explains the observation: a new observation would be less likely with {numbers}."
    return [Verdict(SUBJECT, engine, True, f"{name}: {text}")]
