# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The figures: 7 and 8 of the paper, and those that say whether to believe them."""

STEMS = (
    "figure7_loss",
    "figure8_posteriors",
    "chains_trace",
    "chains_rank",
    "chains_autocorrelation",
    "trace_frequency",
    "observation",
)
"""File names, without ending, of everything that a complete run draws; paths and rules take them from here."""
