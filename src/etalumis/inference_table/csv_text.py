# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The records of all observations as a table for people and spreadsheets: one row per observation."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from etalumis.inference_table.record import PROBABILITIES

_FIRST_COLUMNS = (
    "id", "status", "engine", "runs", "seconds", "ess", "efficiency", "khat", "log_evidence", "log_evidence_mcse",
)  # fmt: skip
_LAST_COLUMNS = ("verdict", "source")
_MIN_PROBABILITY = 0.001
"""Categories that are less probable for every observation, and the truth of none, have no column."""
_DECIMALS = {"seconds": 2, "log_evidence": 3, "log_evidence_mcse": 3}

Record = Mapping[str, Any]


def csv_text(records: Sequence[Record]) -> str:
    """Return the table as CSV.

    The columns of a quantity, and those of an expression, are there if any record has them; a category needs a
    probability of 0.001 for some observation, or is the truth of one. A category that no draw of an observation has
    gets the probability 0; other missing values are empty. Numbers have six significant digits, and logarithms three
    decimals.
    """
    categories = _categories(records)
    rows = [_cells(record, categories) for record in records]
    middle = dict.fromkeys(name for row in rows for name in row if name not in (*_FIRST_COLUMNS, *_LAST_COLUMNS))
    columns = [*_FIRST_COLUMNS, *middle, *_LAST_COLUMNS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    return text.getvalue()


def _categories(records: Sequence[Record]) -> dict[str, list[int]]:
    """Return the categories that have a column, by the key of the quantity."""
    found: dict[str, set[int]] = {}
    for record in records:
        for key, summary in record.get("quantities", {}).items():
            if summary["categorical"]:
                shares, truth = summary["probabilities"], summary.get("truth")
                probable = {int(code) for code, share in shares.items() if share >= _MIN_PROBABILITY}
                found.setdefault(key, set()).update(probable, {int(truth["value"])} if truth else ())
    return {key: sorted(codes) for key, codes in found.items()}


def _cells(record: Record, categories: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return the cells of a row by column, in the order of the columns."""
    cells = {}
    for name in (*_FIRST_COLUMNS, *_LAST_COLUMNS):
        value = record.get(name)
        cells[name] = f"{value:.{_DECIMALS[name]}f}" if name in _DECIMALS and isinstance(value, float) else _text(value)
    for key, summary in record.get("quantities", {}).items():
        if summary["categorical"]:
            shares = summary["probabilities"]
            cells.update({f"P({key} = {code})": _text(shares.get(str(code), 0.0)) for code in categories[key]})
        else:
            cells.update({f"{key} {name}": _text(summary[name]) for name in ("mean", "mcse", "sd")})
            for share in PROBABILITIES:
                cells[f"{key} {100 * share:g} %"] = _text(summary["quantiles"].get(str(share)))
        cells[f"{key} truth"] = _text(summary.get("truth", {}).get("value"))
    if (prediction := record.get("prediction")) is not None:
        cells.update({f"predictive {name}": _text(prediction[name]) for name in ("p", "p_signal")})
    for found in record.get("probabilities", {}).values():
        name = f"P({found['condition']})"
        cells[name], cells[f"{name} mcse"] = _text(found["value"]), _text(found["mcse"])
        if found["limit"] is not None:
            cells[f"{name} {found['limit']}"] = _text(found["passed"])
    return cells


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
