# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The trainings, figures and tables of the paper that compare settings, seeds and numbers of ranks."""
