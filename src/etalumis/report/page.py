# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The page itself: the content in the template."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.figures import markup
from etalumis.report.content import Content

TEMPLATE = "page.html.j2"


def render(content: Content) -> str:
    """Return the page as HTML; the same content gives the same text. Texts from files are escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["ready"] = Markup  # HTML that etalumis has written and escaped itself
    environment.filters["inline"] = lambda text: Markup(markup.inline(text))
    template = environment.from_string((files(__package__) / TEMPLATE).read_text(encoding="utf-8"))
    tau = "sherpa_version" in content.build
    return template.render(content=content, config=content.config, engine_names=ENGINE_NAMES, tau=tau)
