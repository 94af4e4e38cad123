# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The pages name commands, files and keys that exist; the Python on them runs."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from synthetic_posteriors import tau_posterior

from etalumis import __version__
from etalumis.cli import _parse
from etalumis.config.describe import keys
from etalumis.paths import FIGURES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.md")])
COMMAND = re.compile(r"^ {4}(?:\w+=\S+ )*(etalumis|make|snakemake) .*$", re.MULTILINE)


def ids(path):
    return str(path.relative_to(ROOT))


def commands(page, program):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = [shlex.split(match[0], comments=True) for match in COMMAND.finditer(text) if match[1] == program]
    return [words[words.index(program) + 1 :] for words in found]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files_that_exist(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_etalumis_commands_are_understood(page):
    for words in commands(page, "etalumis"):
        if "--help" not in words:
            _parse(words)  # exits where a verb or an option is unknown


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {words[0] for words in commands(page, "make")} <= targets


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_snakemake_commands_name_rules_and_files_that_exist(page):
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow").rglob("*.smk"))
    names = set(re.findall(r"^rule (\w+):", rules, re.MULTILINE))
    for words in commands(page, "snakemake"):
        if "--forcerun" in words:
            assert words[words.index("--forcerun") + 1] in names
        if "--configfile" in words:
            assert (ROOT / words[words.index("--configfile") + 1]).is_file()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_config_keys_that_are_named_exist(page):
    known = {key.dotted for key in keys()} | {f"{k.dotted.rsplit('.', 1)[0]}" for k in keys()}
    sections = "|".join({key.path[0] for key in keys()})
    named = re.findall(rf"`((?:{sections})\.[a-z_.]+)`", page.read_text(encoding="utf-8"))
    files = {"config.yaml", "network.md"}
    assert {name for name in named if name not in files} - known == set()


def test_the_commands_are_found_at_all():
    # the tests above could not fail if the pattern found nothing
    assert len(commands(ROOT / "docs" / "tutorial.md", "etalumis")) >= 8
    assert ["demo"] in commands(ROOT / "README.md", "make")


def test_the_readme_lists_every_figure():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in FIGURES if f"`{name}`" not in text] == []


def test_python_of_the_posterior_page_runs(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "results" / "demo" / "posteriors"
    tau_posterior().save(folder / "rmh.h5")
    tau_posterior("ic", seed=1, log_weight_sd=0.5).save(folder / "ic.h5")
    page = (ROOT / "docs" / "how-to-read-a-posterior-file.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {})
    printed = capsys.readouterr().out
    assert "true p_x 0.6" in printed
    assert "RMH: converged" in printed


def test_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["preferred-citation"]["doi"] == "10.1145/3295500.3356180"
    assert len(citation["preferred-citation"]["authors"]) == 17
    assert f"[{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
