# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The summary of a run: which posterior to rely on, every verdict, and the cost of the engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etalumis.diagnostics.headline import headline, own_checks, short_verdicts
from etalumis.diagnostics.verdict import ENGINE_NAMES, Verdict
from etalumis.figures import captions, markup
from etalumis.files import write_text_atomic

STEM = "summary"


def text(diagnostics: Mapping[str, Any], network: Verdict | None = None) -> str:
    """Return the summary, in the Markdown of the captions.

    Parameters
    ----------
    diagnostics : mapping
        Output of `etalumis.diagnostics.diagnose`.
    network : Verdict, optional
        Whether the network has learned.
    """
    sentences = [*captions.verdicts(diagnostics), *([network.sentence] if network else [])]
    return "\n".join(
        [" ".join(headline(diagnostics)), "", *engine_table(diagnostics), "", *(f"- {each}" for each in sentences)]
    )


def first_screen(diagnostics: Mapping[str, Any]) -> str:
    """Return the beginning of the summary, one line per engine: Snakemake's report has room for no more."""
    return "\n".join(
        [" ".join(headline(diagnostics)), "", *(f"- {line}" for line in short_verdicts(diagnostics).values())]
    )


def engine_table(diagnostics: Mapping[str, Any]) -> list[str]:
    """Return a table with one row per engine: verdict, draws, effective draws, core time, effective draws per time."""
    rows = [
        "| engine | own check | draws | effective draws | core-seconds | effective draws per core-second |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for engine, passed in own_checks(diagnostics).items():
        report = diagnostics["engines"][engine]
        cost = report["cost"]
        cells = [
            ENGINE_NAMES.get(engine, engine),
            "passed" if passed else "not passed",
            f"{report['draws']:,}",
            captions.number(cost["ess"], ",.0f"),
            captions.number(cost["core_s"], ",.0f"),
            captions.number(cost["ess_per_core_s"], ".2g"),
        ]
        rows.append(markup.row(cells))
    return rows


def save(diagnostics: Mapping[str, Any], network: Verdict | None, folder: Path) -> list[Path]:
    """Write the summary as Markdown, and its beginning as reStructuredText; return the files.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    bodies = {
        folder / f"{STEM}.md": f"# Verdicts\n\n{text(diagnostics, network)}\n",
        folder / f"{STEM}.rst": markup.to_rst(first_screen(diagnostics)),
    }
    for path, body in bodies.items():
        write_text_atomic(path, body)
    return list(bodies)
