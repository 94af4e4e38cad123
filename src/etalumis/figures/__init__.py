# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figures 7 and 8 of the paper, and those that show whether their data can be trusted."""

from etalumis.paths import FIGURES

STEMS = tuple(FIGURES)
"""File names, without suffix, of all figures of a complete run; paths and rules use this list."""
