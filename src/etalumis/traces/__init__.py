# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace files: format, writer, reader, generation, sorting, verification."""
