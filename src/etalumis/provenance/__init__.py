# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where products come from: a record beside each product, and the chain of records back to the simulator."""
