# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Read trace files: single traces, blocks and minibatches, with random access."""
