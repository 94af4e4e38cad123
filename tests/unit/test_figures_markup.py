# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Captions as reStructuredText, read by docutils, and as HTML."""

from html.parser import HTMLParser

import pytest
from docutils.core import publish_doctree
from docutils.nodes import system_message
from synthetic_posteriors import history, posterior_of, tau_posterior

from etalumis.diagnostics import diagnose
from etalumis.figures import chains, loss, markup, posteriors, summary

AWKWARD = ("mu_", "a_b^c", "<b>|x|`", "*50% $x*", "..", "- x", "|", ":math:`x`", "\\y", "http://a_")


class Counter(HTMLParser):
    """Count the elements of a document, and check that each is closed."""

    def __init__(self):
        super().__init__()
        self.count, self.open, self.words = {}, [], ""

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def parsed(text):
    counter = Counter()
    counter.feed(markup.to_html(text))
    assert counter.open == []
    return counter


def tree(text):
    document = publish_doctree(markup.to_rst(text), settings_overrides={"report_level": 1, "halt_level": 2})
    assert not list(document.findall(system_message))
    return document


def test_paragraphs_lists_and_tables_keep_their_content():
    text = "One line.\n\n- first\n- second\n\n| a | b |\n| --- | --- |\n| 1 | |\n| 2 | x |\n\nThe end."
    assert list(markup.blocks(text)) == [
        markup.Paragraph("One line."),
        markup.Bullets(("first", "second")),
        markup.Table(("a", "b"), (("1", ""), ("2", "x"))),
        markup.Paragraph("The end."),
    ]
    document = tree(text)
    assert len(list(document.findall(lambda node: node.tagname == "row"))) == 3
    assert len(list(document.findall(lambda node: node.tagname == "list_item"))) == 2
    assert parsed(text).count == {"p": 2, "ul": 1, "li": 2, "div": 1, "table": 1, "thead": 1, "tbody": 1, "tr": 3,
                                  "th": 2, "td": 4}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_no_name_is_taken_for_markup(name):
    text = f"The latent {name} moved.\n\n- {name}\n\n| name | value |\n| --- | --- |\n" + markup.row([name, "1"])
    assert tree(text).astext().replace("\x00", "").count(name) == 3
    assert parsed(text).words.count(name) == 3


def test_every_caption_is_read_without_a_complaint():
    pair = [tau_posterior(), tau_posterior("ic", seed=1, log_weight_sd=0.5)]
    result = diagnose(pair)
    strange = posterior_of({name: [0.1 * i for i in range(40)] for name in AWKWARD})
    captions = [
        posteriors.draw(pair, result, {}).caption,
        posteriors.draw([strange], diagnose([strange]), {}).caption,
        loss.draw(history()).caption,
        summary.text(result),
        summary.first_screen(result),
        *(drawing.caption for drawing in chains.draw_all(pair[0])),
    ]
    for caption in captions:
        tree(caption)
        parsed(caption)
    assert len(list(tree(captions[0]).findall(lambda node: node.tagname == "table"))) == 2


def test_the_summary_begins_with_whom_to_rely_on_and_gives_the_cost():
    pair = [tau_posterior(), tau_posterior("ic", seed=1, log_weight_sd=8.0)]
    pair[0].info["wall_s"] = 500.0
    lines = summary.text(diagnose(pair)).splitlines()
    assert lines[0].startswith("Rely on RMH, which passed its own checks; not on IC.")
    (rmh,) = [line for line in lines if line.startswith("| RMH |")]
    cells = [cell.strip() for cell in rmh.strip("|").split("|")]
    assert cells[1] == "passed"
    assert float(cells[5]) == pytest.approx(float(cells[3].replace(",", "")) / 500.0, rel=0.05)
    assert any(line.startswith("| IC | not passed |") for line in lines)
