# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Etalumis: Bayesian inference over existing stochastic simulators (SC'19, doi:10.1145/3295500.3356180)."""

__version__ = "0.1.0"
