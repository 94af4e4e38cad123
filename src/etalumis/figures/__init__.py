# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figures 7 and 8 of the paper, and those that show whether their data can be trusted."""

STEMS = (
    "figure7_loss",
    "figure8_posteriors",
    "chains_trace",
    "chains_rank",
    "chains_autocorrelation",
    "trace_frequency",
    "observation",
)
"""File names, without suffix, of all figures of a complete run; paths and rules use this list."""
