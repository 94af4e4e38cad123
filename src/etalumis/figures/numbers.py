# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The numbers that a figure or a table shows, as a CSV file."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from etalumis.files import write_text_atomic

Rows = Sequence[Mapping[str, object]]
"""Rows of a table, with the same columns in the same order."""


def save_csv(path: Path, rows: Rows) -> Path:
    """Write rows as CSV with a header, whole or not at all; without rows, the file is empty.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text_atomic(path, text.getvalue())
    return path
