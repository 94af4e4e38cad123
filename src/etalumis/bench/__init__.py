# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How fast it is, against raw references measured in the same run: `etalumis bench` (docs/how-to-bench.md)."""
