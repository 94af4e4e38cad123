# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The captions as reStructuredText, for Snakemake's report, and as HTML.

Captions are written in a small part of Markdown: paragraphs of one line, lists with ``- ``, and tables with ``|``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

_RST_MARKUP = re.compile(r"([\\*`_|<>])")
_BAR = re.compile(r"(?<!\\)\|")
_INDEX = re.compile("([\N{GREEK SMALL LETTER NU}K]\N{COMBINING MACRON}?)_(\\w)\\b")
"""An index of a particle's name: nu_e, K_S."""
_SEPARATOR = re.compile(r"\|( *:?-+:? *\|)+")


@dataclass(frozen=True)
class Paragraph:
    """Text without a line break."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table; all rows have as many cells as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Paragraph | Bullets | Table


def blocks(text: str) -> Iterator[Block]:
    """Yield the paragraphs, lists and tables of a caption, in order."""
    for kind, group in groupby(text.splitlines(), _kind):
        lines = [line for line in group if line.strip()]
        if kind == "list":
            yield Bullets(tuple(line[2:].strip() for line in lines))
        elif kind == "table":
            header, *rows = [_cells(line) for line in lines if not _SEPARATOR.fullmatch(line.strip())]
            yield Table(header, tuple(_filled(row, len(header)) for row in rows))
        elif lines:
            yield Paragraph(" ".join(lines))


def _kind(line: str) -> str:
    if not line.strip():
        return "space"
    return "list" if line.startswith("- ") else "table" if line.startswith("|") else "text"


def row(cells: Iterable[str]) -> str:
    """Return a row of a table; a bar within a cell is escaped."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _cells(line: str) -> tuple[str, ...]:
    parts = _BAR.split(line.strip().removeprefix("|").removesuffix("|"))
    return tuple(part.strip().replace(r"\|", "|") for part in parts)


def _filled(cells: Sequence[str], count: int) -> tuple[str, ...]:
    """Return a row of `count` cells."""
    return (*cells, *[""] * (count - len(cells)))[:count]


def to_rst(text: str) -> str:
    """Return a caption as reStructuredText, in which no character of a name is markup."""
    return "\n\n".join(_rst(block) for block in blocks(text)) + "\n"


def _rst(block: Block) -> str:
    if isinstance(block, Paragraph):
        return _escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (block.header, *block.rows):
        lines += [f"   {'* -' if place == 0 else '  -'} {_escaped(cell)}".rstrip() for place, cell in enumerate(row)]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    text = _RST_MARKUP.sub(r"\\\1", text)
    # a line must not begin like a list, a directive or a line of a title
    return text if not text or text[0].isalnum() or text[0] == "\\" else f"\\{text}"


def to_html(text: str) -> str:
    """Return a caption as HTML elements."""
    return "\n".join(_html(block) for block in blocks(text))


def inline(text: str) -> str:
    """Return a text as HTML without elements of its own, but for the indices of particles."""
    return _INDEX.sub(r"\1<sub>\2</sub>", html.escape(text))


def _html(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"<p>{inline(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in block.items) + "</ul>"
    head = "".join(f"<th>{inline(cell)}</th>" for cell in block.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{inline(cell)}</td>" for cell in row) + "</tr>" for row in block.rows
    )  # fmt: skip
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
