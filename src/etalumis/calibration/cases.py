# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is kept of each case (a truth, its observation and its posterior), and the file that holds all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from etalumis import seeds
from etalumis.calibration.ranks import category_rank, rank_of_truth, thinned
from etalumis.calibration.simulation import STAGE
from etalumis.calibration.usability import Reliability, reliability
from etalumis.diagnostics.quantities import Quantity, quantities_of
from etalumis.diagnostics.run import check_log_weights, diagnose_one, draw_weights, to_json
from etalumis.diagnostics.weights import summarise_categorical
from etalumis.errors import DatasetError, InferenceError
from etalumis.files import read_json, write_json_atomic
from etalumis.inference.posterior import Posterior
from etalumis.typing import Array

FORMAT = "etalumis-calibration"
VERSION = 1
_NUMBERS = {None: math.nan, "inf": math.inf, "-inf": -math.inf}
"""Numbers that JSON does not have."""


@dataclass(frozen=True)
class CategoryRecord:
    """The true category, and the posterior probability of each category that has any."""

    truth: int
    probabilities: dict[int, float]

    @property
    def most_probable(self) -> int | None:
        """The category of the largest probability, the lowest code among equal ones; None without a posterior."""
        return min(self.probabilities, key=lambda code: (-self.probabilities[code], code), default=None)


@dataclass(frozen=True)
class Case:
    """The result for one observation.

    Attributes
    ----------
    index
        Number of the observation.
    found
        Numbers that decide whether the posterior is usable.
    markov
        Whether the draws are Markov chains.
    truths, ranks
        True value and its rank by quantity; the rank is nan if there is no posterior of it. Quantities that the truth
        lacks are absent.
    categories
        Categorical quantities.
    seconds
        Time that the engine took.
    failure
        Message of the engine if it gave no posterior, else empty.
    """

    index: int
    found: Reliability
    markov: bool
    truths: dict[str, float]
    ranks: dict[str, float]
    categories: dict[str, CategoryRecord] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the case as JSON values."""
        categories = {
            key: {"truth": record.truth, "probabilities": record.probabilities}
            for key, record in self.categories.items()
        }
        content = {
            "index": self.index, **self.found._asdict(), "markov": self.markov, "seconds": self.seconds,
            "failure": self.failure, "truths": self.truths, "ranks": self.ranks, "categories": categories,
        }  # fmt: skip
        return dict(to_json(content))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Case:
        """Return the case from its JSON values. Raises KeyError or TypeError if they are of another form."""
        categories = {
            key: CategoryRecord(int(record["truth"]), {int(code): p for code, p in record["probabilities"].items()})
            for key, record in content["categories"].items()
        }
        numbers = {name: _number(content[name]) for name in ("ess", "khat", "rhat")}
        return cls(
            index=content["index"],
            found=Reliability(draws=content["draws"], **numbers),
            markov=content["markov"],
            truths={key: _number(truth) for key, truth in content["truths"].items()},
            ranks={key: _number(rank) for key, rank in content["ranks"].items()},
            categories=categories,
            seconds=content["seconds"],
            failure=content["failure"],
        )


def _number(value: Any) -> float:
    return float(_NUMBERS.get(value, value))


def case_quantities(truth: Mapping[str, Array], categorical: Sequence[str] = ()) -> tuple[Quantity, ...]:
    """Return the scalar quantities that a truth has; those named in `categorical` are codes without an order.

    Raises
    ------
    InferenceError
        If the value of one of these is not a whole number.
    """
    quantities = quantities_of({name: np.asarray(value)[None] for name, value in truth.items()})
    marked = [replace(q, categorical=True) if q.key in categorical else q for q in quantities]
    for quantity in marked:
        value = quantity.truth_in(truth)
        if quantity.categorical and math.isfinite(value) and not value.is_integer():
            raise InferenceError(
                f"quantity {quantity.key}: expected whole numbers, the codes of categories, found {value:g}; it is not "
                "categorical (--categorical)"
            )
    return tuple(quantity for quantity in marked if not math.isnan(quantity.truth_in(truth)))


def assess(
    index: int,
    truth: Mapping[str, Array],
    quantities: Sequence[Quantity],
    posterior: Posterior,
    seed: int,
    seconds: float,
) -> Case:
    """Rank the `quantities` of the truth in the posterior of its observation.

    Ties are ordered by random numbers from (seed, "calibrate/ties/<quantity>", index).

    Raises
    ------
    InferenceError
        If a log weight is NaN or +inf.
    """
    check_log_weights(posterior)
    report = diagnose_one(posterior)
    found, markov = reliability(report), posterior.is_markov
    weight = draw_weights(posterior)
    truths: dict[str, float] = {}
    ranks: dict[str, float] = {}
    categories: dict[str, CategoryRecord] = {}
    for quantity in quantities:
        values = quantity.of(posterior.values)
        if values is None and len(posterior):
            continue  # its shape differs between runs, so that posteriors do not keep it
        values, true_value = np.zeros(0) if values is None else values, quantity.truth_in(truth)
        if quantity.categorical:
            table = summarise_categorical(values, weight)["probabilities"]
            categories[quantity.key] = CategoryRecord(int(true_value), {int(code): p for code, p in table.items()})
        ess = report["quantities"].get(quantity.key, {}).get("ess", math.nan)
        tie = float(seeds.generator(seed, f"{STAGE}/ties/{quantity.key}", index).random())
        rank = category_rank if quantity.categorical else rank_of_truth
        truths[quantity.key] = true_value
        if markov:
            kept = thinned(posterior.chain, found.ess if math.isnan(ess) else ess)
            ranks[quantity.key] = rank(values[kept], weight[kept], true_value, tie)
        else:
            ranks[quantity.key] = rank(values, weight, true_value, tie, ess)
    return Case(index, found, markov, truths, ranks, categories, seconds)


def failed(index: int, truth: Mapping[str, Array], quantities: Sequence[Quantity], markov: bool, message: str) -> Case:
    """Return the case of an engine that gave no posterior: it has no rank of any quantity."""
    return Case(
        index=index,
        found=Reliability(0, 0.0, math.nan, math.nan),
        markov=markov,
        truths={quantity.key: quantity.truth_in(truth) for quantity in quantities},
        ranks=dict.fromkeys((quantity.key for quantity in quantities), math.nan),
        categories={q.key: CategoryRecord(int(q.truth_in(truth)), {}) for q in quantities if q.categorical},
        failure=message,
    )


def write_cases(path: Path, identity: dict[str, Any], cases: Sequence[Case], results: dict[str, Any]) -> None:
    """Write the file, whole or not at all; `results` is empty until all observations are finished.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    content = {
        "format": FORMAT, "version": VERSION, **identity, "results": to_json(results),
        "observations": [case.to_json() for case in cases],
    }  # fmt: skip
    write_json_atomic(path, content)


def read_cases(path: Path) -> tuple[dict[str, Any], list[Case]]:
    """Return the identity of a calibration and its finished observations.

    Raises
    ------
    DatasetError
        If the file is not a calibration, is damaged, or has another version.
    """
    again = "delete it, or name another output"
    try:
        content = read_json(path)
        kind = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
        if kind != (FORMAT, VERSION):
            raise DatasetError(
                f"{path}: expected format {FORMAT!r} version {VERSION}, found {kind[0]!r} {kind[1]!r}; {again}"
            )
        cases = [Case.from_json(one) for one in content.pop("observations")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: cannot be read as a calibration ({error!r}); {again}") from error
    for name in ("format", "version", "results"):
        content.pop(name, None)
    return content, cases
