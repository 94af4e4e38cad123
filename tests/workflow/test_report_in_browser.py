# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The report of a real run in a real browser, on a screen and on paper."""

from pathlib import Path

import pytest
from browser import Browser
from projects import Run

from etalumis.paths import figures_of


@pytest.fixture
def opened(run: Run, browser: Browser) -> Browser:
    browser.open(run.paths.report)
    return browser


def test_nothing_is_missing_cut_off_or_tiny(opened: Browser) -> None:
    assert opened.console() == []
    assert opened.faults_on_screen() == []


def test_it_can_be_printed(opened: Browser, run: Run) -> None:
    assert opened.faults_on_paper() == []
    figures = len(figures_of(run.config.posteriors.engines))
    assert figures / 2 <= opened.printed_pages() <= 2 * figures + 10


def test_faults_of_a_page_are_found(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<img src="none.png" alt="decay"><a href="#gone">there</a><div style="width: 2000px">wide</div>'
        '<p style="font-size: 6px">tiny</p><script>nothing.at.all()</script>',
        encoding="utf-8",
    )
    browser.open(page)
    assert any("nothing is not defined" in line for line in browser.console())
    faults = "\n".join(browser.faults_on_screen())
    for words in ("image decay is missing", "link #gone leads nowhere", "<div> wide ends at", "text tiny has 6px"):
        assert words in faults
