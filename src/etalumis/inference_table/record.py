# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The result of one observation: a dict that becomes a line of JSON and a row of the table."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from etalumis.diagnostics.quantiles import quantiles
from etalumis.diagnostics.quantities import quantities_of
from etalumis.diagnostics.run import diagnose, draw_weights, lineages
from etalumis.diagnostics.verdict import Thresholds
from etalumis.inference import Posterior
from etalumis.inference_table.conditions import ProbabilityColumn
from etalumis.typing import FloatArray

PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the quantiles."""
RELIABLE, UNRELIABLE, FAILED = "reliable", "not reliable", "failed"
_WEIGHT_FIELDS = ("ess", "khat", "log_evidence", "log_evidence_mcse", "zero_fraction", "largest_weight")


def summarise(
    posterior: Posterior, columns: Sequence[ProbabilityColumn] = (), thresholds: Thresholds | None = None
) -> dict[str, Any]:
    """Return the numbers and verdicts of a weighted posterior; they may be nan or inf.

    Returns
    -------
    dict
        ``status`` ("reliable" or "not reliable", by the verdict on the weights), ``verdict`` (on the weights, and on
        the prediction if it fails) and ``truth_verdict`` in words, the numbers of the weights
        (`etalumis.diagnostics.weights.summarise_weights`) and of the ``prediction``
        (`etalumis.diagnostics.prediction.summarise`), ``draws`` and ``efficiency``: effective draws per run,
        ``quantities`` (by key) and ``probabilities`` (by expression).

    Raises
    ------
    InferenceError
        If a log weight is NaN or +inf.
    """
    result = diagnose([posterior], thresholds)
    (report,) = result["engines"].values()
    checks = {check["subject"]: check for check in result["checks"]}
    weights, weight = report["weights"], draw_weights(posterior)
    return {
        "status": RELIABLE if checks["weights"]["passed"] else UNRELIABLE,
        "verdict": " ".join(_first_problems(checks)),
        "truth_verdict": checks["truth"]["sentence"] if "truth" in checks else None,
        "prediction": report.get("prediction"),
        "draws": weights["draws"],
        "efficiency": weights["ess"] / posterior.info.get("runs", weights["draws"]),
        **{field: weights[field] for field in _WEIGHT_FIELDS},
        "quantities": {
            quantity.key: _quantity(report["quantities"][quantity.key], quantity.of(posterior.values), weight)
            for quantity in quantities_of(posterior.values)
        },
        "probabilities": {
            str(column): {
                "condition": column.text,
                **column.evaluate(posterior.values, weight, lineages(posterior))._asdict(),
                "limit": column.limit,
            }
            for column in columns
        },
    }


def _first_problems(checks: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the verdict on the weights, and that on the prediction unless the observation is explained."""
    yield checks["weights"]["sentence"]
    prediction = checks.get("prediction")
    if prediction is not None and not prediction["passed"]:
        yield prediction["sentence"]


def _quantity(summary: dict[str, Any], values: FloatArray | None, weight: FloatArray) -> dict[str, Any]:
    """Return the summary of the diagnostics, with the quantiles of `PROBABILITIES` instead of its own."""
    if summary["categorical"] or values is None:
        return summary
    present = np.isfinite(values) & (weight > 0)
    found = quantiles(values[present], weight[present], PROBABILITIES) if present.any() else ()
    return summary | {"quantiles": {str(p): float(x) for p, x in zip(PROBABILITIES, found, strict=False)}}
