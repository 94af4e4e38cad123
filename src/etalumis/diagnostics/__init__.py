# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posterior diagnostics: R-hat, effective sample size, k-hat, evidence, agreement of engines, verdicts in words.

`run` computes them, `checks` compares them with thresholds, and `etalumis.figures` plots.
"""

from etalumis.diagnostics.checks import check
from etalumis.diagnostics.quantities import Quantity, quantities_of
from etalumis.diagnostics.run import diagnose, to_json
from etalumis.diagnostics.verdict import Thresholds, Verdict

__all__ = ["Quantity", "Thresholds", "Verdict", "check", "diagnose", "quantities_of", "to_json"]
