# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Compute the diagnostics of posteriors: one dict, the content of diagnostics.json."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from etalumis.diagnostics import agreement, chains, mixing, prediction, weights
from etalumis.diagnostics.checks import check
from etalumis.diagnostics.quantities import Quantity, quantities_of
from etalumis.diagnostics.rounding import rounding_error
from etalumis.diagnostics.verdict import Thresholds
from etalumis.errors import InferenceError
from etalumis.log_weights import normalise
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

FORMAT = "etalumis-diagnostics"
VERSION = 1


def draw_weights(posterior: Posterior) -> FloatArray:
    """Return the normalised weight of each draw, array (draw,); all are equal for Markov chains."""
    return normalise(np.asarray(posterior.log_weight, dtype=float))


def lineages(posterior: Posterior) -> FloatArray | None:
    """Return a number for each draw (draw,), equal for draws of one lineage of one job; None if draws have none."""
    if posterior.lineage is None:
        return None
    pairs = np.stack([posterior.chain, posterior.lineage], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.float64)


def diagnose(posteriors: Sequence[Posterior], thresholds: Thresholds | None = None) -> dict[str, Any]:
    """Diagnose each posterior, and compare every pair of them.

    Parameters
    ----------
    posteriors : sequence of Posterior
        One per engine, for the same observation.
    thresholds : Thresholds, optional

    Returns
    -------
    dict
        ``engines`` (by engine: ``draws``, ``chains`` or ``weights``, ``quantities``, ``prediction``, ``cost``,
        ``info``), ``agreement`` (by pair and quantity), ``truth`` (by quantity), ``checks`` (verdicts in words) and
        ``thresholds``. Numbers may be nan or inf.

    Raises
    ------
    InferenceError
        If a log weight is NaN or +inf.
    """
    thresholds = thresholds or Thresholds()
    for posterior in posteriors:
        check_log_weights(posterior)
    result: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "engines": {p.engine: diagnose_one(p) for p in posteriors},
        "agreement": {f"{a.engine}-{b.engine}": compare(a, b) for a, b in itertools.combinations(posteriors, 2)},
        "truth": truth_of(posteriors),
        "thresholds": thresholds.as_dict(),
    }
    result["checks"] = [verdict.as_dict() for verdict in check(result, thresholds)]
    return result


def check_log_weights(posterior: Posterior) -> None:
    """Raise InferenceError if a log weight is NaN or +inf."""
    log_weight = np.asarray(posterior.log_weight, dtype=float)
    wrong = np.flatnonzero(~(log_weight < np.inf))
    if len(wrong):
        raise InferenceError(
            f"posterior of engine {posterior.engine!r}: {len(wrong):,} of {len(log_weight):,} log weights are NaN or "
            f"+inf, the first of draw {wrong[0]:,}; expected numbers or -inf. The model's density is not finite there: "
            "correct the model and run the engine again."
        )


def diagnose_one(posterior: Posterior) -> dict[str, Any]:
    """Return the summaries of one posterior: of each quantity, and of its chains or weights."""
    quantities = quantities_of(posterior.values)
    report: dict[str, Any] = {
        "draws": len(posterior.log_weight),
        "markov": posterior.is_markov,
        "quantities": {q.key: _summary(posterior, q) for q in quantities},
        "info": dict(posterior.info),
    }
    if posterior.is_markov:
        labels, lengths = np.unique(posterior.chain, return_counts=True)
        report["chains"] = {
            "count": len(labels),
            "mixing": mixing.describe(posterior, quantities),
            "draws_per_chain": [int(n) for n in lengths],
            "log_likelihood": chains.summarise_continuous(
                chains.as_chains(np.asarray(posterior.log_likelihood, dtype=float), posterior.chain)
            ),
        }
    else:
        report["weights"] = weights.summarise_weights(
            np.asarray(posterior.log_weight, dtype=float), lineages(posterior)
        )
    if posterior.predictive is not None:
        report["prediction"] = prediction.summarise(posterior.predictive)
    report["cost"] = _cost(report)
    return report


def _cost(report: dict[str, Any]) -> dict[str, float]:
    """Return the smallest effective sample size, the core seconds of all chains or jobs, and their quotient.

    The training of a network is not included. nan if the posterior does not say how long it took.
    """
    if report["markov"]:
        size = min((s["ess"] for s in report["quantities"].values() if not np.isnan(s["ess"])), default=float("nan"))
    else:
        size = report["weights"]["ess"]
    core_s = float(report["info"].get("wall_s") or float("nan"))
    return {"ess": float(size), "core_s": core_s, "ess_per_core_s": float(size) / core_s}


def _summary(posterior: Posterior, quantity: Quantity) -> dict[str, Any]:
    values = quantity.of(posterior.values)
    if values is None:
        raise AssertionError(f"quantities_of returned {quantity.key!r}, which the posterior does not have")
    if posterior.is_markov:
        by_chain = chains.as_chains(values, posterior.chain)
        summary = (chains.summarise_categorical if quantity.categorical else chains.summarise_continuous)(by_chain)
    else:
        summarise = weights.summarise_categorical if quantity.categorical else weights.summarise_continuous
        summary = summarise(values, draw_weights(posterior), lineages(posterior))
    truth = quantity.truth_in(posterior.truth)
    if not np.isnan(truth):
        summary["truth"] = _truth_summary(values, draw_weights(posterior), truth, quantity.categorical)
    words = {"label": quantity.label or quantity.key, "unit": quantity.unit, "categorical": quantity.categorical}
    return summary | words


def _truth_summary(values: FloatArray, weight: FloatArray, truth: float, categorical: bool) -> dict[str, float]:
    """Return the posterior probability of the truth (categorical) or the posterior mass below it.

    Half of the mass at the truth counts as below it, so that a central interval is meaningful for discrete quantities.
    """
    present = np.isfinite(values)
    values, weight = values[present], weight[present]
    total, error = float(weight.sum()), rounding_error(values, truth)
    ties = np.abs(values - truth) <= error if np.isfinite(truth) else values == truth
    if categorical:
        return {"value": truth, "probability": float(weight[ties].sum()) / total if total else float("nan")}
    below = float(weight[(values < truth) & ~ties].sum()) + 0.5 * float(weight[ties].sum())
    return {"value": truth, "mass_below": below / total if total else float("nan")}


def compare(a: Posterior, b: Posterior) -> dict[str, Any]:
    """Return the distances between two posteriors for each quantity that both have."""
    ours, theirs = quantities_of(a.values), {q.key for q in quantities_of(b.values)}
    return {q.key: _compare_quantity(a, b, q) for q in ours if q.key in theirs}


def _compare_quantity(a: Posterior, b: Posterior, quantity: Quantity) -> dict[str, Any]:
    x, y = quantity.of(a.values), quantity.of(b.values)
    if x is None or y is None:
        raise AssertionError(f"compare selected {quantity.key!r}, which one of the posteriors does not have")
    wx, wy = draw_weights(a), draw_weights(b)
    if quantity.categorical:
        p, q = (weights.summarise_categorical(*sample)["probabilities"] for sample in ((x, wx), (y, wy)))
        distances = agreement.compare_categorical(p, q)
    else:
        distances = agreement.compare_continuous(x, wx, y, wy)
    return distances | {
        "unvisited": {a.engine: agreement.unvisited(x[wx > 0], y, wy), b.engine: agreement.unvisited(y[wy > 0], x, wx)}
    }


def truth_of(posteriors: Sequence[Posterior]) -> dict[str, float]:
    """Return the true values by quantity, each from the first posterior that has it."""
    truth: dict[str, float] = {}
    for posterior in posteriors:
        for quantity in quantities_of(posterior.values):
            value = quantity.truth_in(posterior.truth)
            if not np.isnan(value):
                truth.setdefault(quantity.key, value)
    return truth


def to_json(obj: Any) -> Any:
    """Return a copy for JSON: nan becomes None, and infinities become the texts "inf" and "-inf"."""
    if isinstance(obj, Mapping):
        return {str(key): to_json(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple | np.ndarray):
        return [to_json(value) for value in obj]
    if isinstance(obj, bool | np.bool_):
        return bool(obj)
    if isinstance(obj, int | np.integer):
        return int(obj)
    if isinstance(obj, float | np.floating):
        number = float(obj)
        if np.isnan(number):
            return None
        return number if np.isfinite(number) else str(number)
    return obj
