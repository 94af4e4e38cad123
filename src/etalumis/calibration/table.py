# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The cases of a calibration as a table for people and spreadsheets: one row per observation and quantity."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from etalumis.calibration.cases import Case
from etalumis.calibration.summary import case_problem
from etalumis.diagnostics.verdict import Thresholds

COLUMNS = (
    "observation", "quantity", "truth", "rank", "most_probable", "probability_of_truth", "usable", "problem", "draws",
    "ess", "khat", "rhat", "seconds",
)  # fmt: skip


def csv_text(cases: Sequence[Case], quantities: Sequence[str], thresholds: Thresholds) -> str:
    """Return the table as CSV; numbers that are missing or not defined are empty.

    `most_probable` and `probability_of_truth` belong to categorical quantities.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        problem = case_problem(case, thresholds)
        shared = [
            "no" if problem else "yes", problem, case.found.draws,
            *(_cell(number) for number in (case.found.ess, case.found.khat, case.found.rhat, case.seconds)),
        ]  # fmt: skip
        for key in (key for key in quantities if key in case.ranks):
            record = case.categories.get(key)
            best = record.most_probable if record is not None else None
            probability = record.probabilities.get(record.truth, 0.0) if record is not None else math.nan
            named = ["" if best is None else str(best), _cell(probability)]
            writer.writerow([case.index, key, _cell(case.truths[key]), _cell(case.ranks[key]), *named, *shared])
    return text.getvalue()


def _cell(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6g}"
