# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A figure or table of the experiments as files: picture, numbers, caption."""

from collections.abc import Sequence
from pathlib import Path

from etalumis.figures import markup, style
from etalumis.figures.numbers import Rows, save_csv
from etalumis.files import write_text_atomic
from etalumis.products import check_output_folder


def save(drawing: style.Drawing, rows: Rows, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write a figure in each format, its caption (``.md``, ``.rst``) and its numbers (``.csv``); return the files.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    check_output_folder(folder)
    return [*style.save(drawing, folder, formats), save_csv(folder / f"{drawing.stem}.csv", rows)]


def save_table(folder: Path, stem: str, title: str, text: str, rows: Rows) -> list[Path]:
    """Write a table in Markdown, with what it means (``.md``), and its rows (``.csv``); return the files."""
    check_output_folder(folder)
    page = folder / f"{stem}.md"
    write_text_atomic(page, f"# {title}\n\n{text}\n")
    return [page, save_csv(folder / f"{stem}.csv", rows)]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(markup.row(map(str, line)) for line in (header, ["---"] * len(header), *rows))
