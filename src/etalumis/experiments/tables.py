# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A table of the experiments as files: its text and its numbers."""

from collections.abc import Sequence
from pathlib import Path

from etalumis.figures import markup
from etalumis.figures.numbers import Rows, save_csv
from etalumis.files import write_text_atomic
from etalumis.products import check_output_folder


def save_table(folder: Path, stem: str, title: str, text: str, rows: Rows) -> list[Path]:
    """Write a table in Markdown, with what it means (``.md``), and its rows (``.csv``); return the files."""
    check_output_folder(folder)
    page = folder / f"{stem}.md"
    write_text_atomic(page, f"# {title}\n\n{text}\n")
    return [page, save_csv(folder / f"{stem}.csv", rows)]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(markup.row(map(str, line)) for line in (header, ["---"] * len(header), *rows))
