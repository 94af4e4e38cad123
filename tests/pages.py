# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The pages of the documentation, and the commands in them."""

import itertools
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.md")])
_COMMAND = re.compile(
    r"^ {4}(?:\w+=\S+ |python -m etalumis.mpiexec -n \d+ )*(etalumis|make|snakemake) .*$", re.MULTILINE
)
_FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path, program: str) -> list[list[str]]:
    """Return the words that follow a program in each of its commands on a page, up to an operator of the shell."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    text = _FENCE.sub(lambda block: re.sub("^", "    ", block[1], flags=re.MULTILINE), text)
    found = [shlex.split(match[0], comments=True) for match in _COMMAND.finditer(text) if match[1] == program]
    return [_until_operator(words[words.index(program) + 1 :]) for words in found]


def _until_operator(words: list[str]) -> list[str]:
    return list(itertools.takewhile(lambda word: not re.match(r"\d?[<>|&;]", word), words))
