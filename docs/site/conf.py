# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The pages of the checkout as a site, made by Sphinx: `make docs`.

The pages are plain Markdown with relative links, so that they can also be read in the checkout and on a code host. What
depends on the code is added when the site is built: the command line from its parser, the Python interface from its
docstrings. The configuration reference is config/README.md.
"""

import logging
import re
import sys
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util import inspect
from sphinx.util.typing import stringify_annotation

from etalumis import __version__
from etalumis.typing import Array, FloatArray

sys.path.insert(0, str(Path(__file__).parent))
logging.getLogger("arviz").setLevel(logging.WARNING)  # it reports its plotting backend

project = "etalumis"
author = "The etalumis authors"
project_copyright = "2026 The etalumis authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "sphinx_copybutton"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "config/README.md", "profiles/slurm/README.md"]
exclude_patterns = [".*", "results", "build"]

myst_heading_anchors = 4

default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "etalumis"
html_extra_path = ["index.html"]
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False

NAVIGATION = {
    "Start": ["docs/quick-start", "docs/tutorial"],
    "How to": [
        "docs/how-to-couple-your-own-simulator",
        "docs/how-to-use-your-own-sherpa",
        "docs/how-to-keep-a-trace-dataset",
        "docs/how-to-read-a-posterior-file",
        "docs/how-to-infer-many-observations",
        "docs/how-to-calibrate",
        "docs/how-to-report-a-run",
        "docs/how-to-rerun-one-stage",
        "docs/how-to-see-why-it-reran",
        "docs/how-to-run-on-slurm",
        "profiles/slurm/README",
        "docs/how-to-bench",
    ],
    "Explanations": [
        "docs/explain-which-engine-to-trust",
        "docs/explain-collapsed-rmh",
        "docs/explain-one-minibatch",
        "docs/explain-training-on-many-ranks",
        "docs/explain-delegated-runs",
    ],
    "Reference": ["docs/command-line", "config/README", "docs/file-formats", "docs/python-interface"],
    "The paper": ["docs/reproduce-the-paper", "docs/paper-figures"],
    "Project": ["CHANGELOG", "ARCHITECTURE", "CONTRIBUTING"],
}
"""The pages in the order of the story. Sphinx refuses a page that is not listed."""
TYPE_NAMES = {
    stringify_annotation(kind, mode): name
    for mode in ("fully-qualified-except-typing", "smart")
    for kind, name in ((ArrayLike, "ArrayLike"), (FloatArray, "ndarray"), (Array, "ndarray"))
}
"""Types that signatures would spell out."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the functions below to the events of Sphinx."""
    app.connect("source-read", complete)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def complete(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add to a page what Markdown does not have: the navigation, the verbs, docstrings, names of files above code."""
    text = source[0]
    if page == root_doc:
        text += "".join(map(table_of_contents, NAVIGATION, NAVIGATION.values()))
    if page == "docs/command-line":
        from commands import reference

        text += reference()
    for pattern, replacement in (
        (r"^<!-- docstrings: ([\w.]+) -->$", r"```{eval-rst}\n.. automodule:: \1\n   :members:\n```"),
        (r"^```(\w+) ([\w.]+)$", r"```{code-block} \1\n:caption: \2\n"),
        (r"\[([^]]+)\]\([^():\s]+/\)", r"\1"),  # a link to a folder, which is no page
    ):
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    source[0] = text


def table_of_contents(section: str, pages: list[str]) -> str:
    """Return the directive that lists the pages of a section in the sidebar."""
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {section}", "", *pages, "```", ""])


def shorten(
    _app: Sphinx, kind: str, _name: str, item: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Write the types of a signature by their names, and the parameters of a class as its `__init__` has them.

    The metaclass of the distributions has a `__call__` that takes any.
    """
    if kind == "class" and signature == "(*args: ~typing.Any, **kwargs: ~typing.Any)":
        found = inspect.signature(item.__init__, bound_method=True)
        signature = inspect.stringify_signature(found, show_return_annotation=False, unqualified_typehints=True)
    for long, short in TYPE_NAMES.items():
        signature, returned = (text and text.replace(long, short) for text in (signature, returned))
    return signature, returned
