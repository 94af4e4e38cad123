# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference for many observations, and the table of the results.

conditions      conditions on the quantities of a posterior, and their probabilities
sources         observations from files, folders or traces
record          the result of one observation
table           the records in a file (JSON lines), and as a table (CSV)
job             the inference of one observation
run             the loop
"""

from etalumis.engines import ENGINES, Engine, EngineInputs
from etalumis.inference_table.conditions import ProbabilityColumn
from etalumis.inference_table.run import Outcome, infer_all
from etalumis.inference_table.sources import ObservationSource, from_files, from_traces
from etalumis.inference_table.table import InferenceTable

__all__ = [
    "ENGINES",
    "Engine",
    "EngineInputs",
    "InferenceTable",
    "ObservationSource",
    "Outcome",
    "ProbabilityColumn",
    "from_files",
    "from_traces",
    "infer_all",
]
