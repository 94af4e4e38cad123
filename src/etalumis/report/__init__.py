# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The report of a run: one HTML page that needs no other file, for readers who do not know the paper."""
