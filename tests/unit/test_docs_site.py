# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The documentation as a site: it is built without a warning, is complete, and loads nothing from elsewhere."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from etalumis.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ("*.md", "docs/*.md", "config/README.md", "profiles/slurm/README.md")
PAGES = [str(path.relative_to(ROOT).with_suffix("")) for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]
MODULES = re.findall(r"<!-- docstrings: (\S+) -->", (ROOT / "docs" / "python-interface.md").read_text(encoding="utf-8"))


def build(source: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (words,) = re.findall(r"^\t\S+/sphinx-build (.*) -c docs/site \. build/docs$", makefile, re.MULTILINE)
    command = [sys.executable, "-m", "sphinx", *words.split(), *options, "-c", ROOT / "docs" / "site", source, output]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site."""
    output = tmp_path_factory.mktemp("site")
    done = build(ROOT, output)
    assert done.returncode == 0, done.stderr
    return output


def test_every_page_is_listed_on_the_first_one(site: Path) -> None:
    home = (site / "README.html").read_text(encoding="utf-8")
    sidebar = home.partition('class="sidebar-tree"')[2].partition("</aside>")[0]
    assert {f"{page}.html" for page in PAGES} - set(re.findall(r'href="([^"#]+)"', sidebar)) == {"README.html"}
    assert "url=README.html" in (site / "index.html").read_text(encoding="utf-8")


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"([^\"]+)", page.read_text(encoding="utf-8")
        )
        assert [address for address in loaded if "//" in address] == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text(encoding="utf-8")), style


def test_the_command_line_has_every_verb_action_and_option(site: Path) -> None:
    page = (site / "docs" / "command-line.html").read_text(encoding="utf-8")
    identifiers = set(re.findall(r'<section id="([\w-]+)"', page))
    assert identifiers >= {f"etalumis-{verb}" for verb in VERBS}
    assert {"etalumis-traces-sort", "etalumis-posteriors-network-rmh", "etalumis-config-check"} <= identifiers
    assert page.count("--output") > 30


def test_the_python_interface_has_every_documented_object(site: Path) -> None:
    page = (site / "docs" / "python-interface.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'<dt class="sig[^"]*" id="([\w.]+)"', page))
    assert {f"{name}.{item}" for name in MODULES for item in public(importlib.import_module(name))} <= shown


def public(module: ModuleType) -> list[str]:
    """Return the functions and classes of a module for users."""
    names = getattr(module, "__all__", None)
    found = {name: getattr(module, name) for name in names or vars(module) if names or not name.startswith("_")}
    return [
        name
        for name, item in found.items()
        if inspect.isroutine(item) or inspect.isclass(item)
        if names or item.__module__ == module.__name__
    ]


def undocumented(module: ModuleType) -> list[str]:
    """Return the functions, classes and methods for users that have no docstring."""
    items = {name: getattr(module, name) for name in public(module)}
    for name, item in list(items.items()):
        if inspect.isclass(item):
            items |= {f"{name}.{key}": part for key, part in vars(item).items() if is_public_method(key, part)}
    return [name for name, item in items.items() if not inspect.getdoc(item)]


def is_public_method(name: str, item: object) -> bool:
    return not name.startswith("_") and (inspect.isroutine(item) or isinstance(item, property))


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_have_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    assert public(module)
    assert undocumented(module) == []


def test_a_function_without_docstring_is_found() -> None:
    module = ModuleType("module")
    exec("def told():\n    'Words.'\nclass Silent:\n    'Words.'\n    def method(self): pass\n", vars(module))
    assert undocumented(module) == ["Silent.method"]


def test_a_broken_link_and_a_page_that_is_not_listed_end_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    texts = {page: "# Page\n" for page in PAGES}
    texts |= {"CHANGELOG": "# Page\n\n[a](NOWHERE.md)\n", "README": "# Home\n\n[b](docs/tutorial.md#nowhere)\n"}
    for page, text in {**texts, "docs/lost": "# Lost\n"}.items():
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        (source / f"{page}.md").write_text(text, encoding="utf-8")
    done = build(source, tmp_path / "output", "-b", "dummy")
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert done.returncode != 0
    assert len(warnings) == 3, done.stderr
    for words in (r"CHANGELOG\.md:3: .*NOWHERE\.md", r"README\.md:3: .*nowhere", r"lost\.md: .*toctree"):
        assert any(re.search(words, line) for line in warnings), done.stderr
