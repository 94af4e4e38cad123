# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Commands, files, modules and keys in the documentation exist, and its Python runs."""

import argparse
import ast
import re
import shlex

import numpy as np
import pytest
import yaml
from pages import PAGES, ROOT, commands
from synthetic_posteriors import tau_posterior

from etalumis import __version__
from etalumis.cli import _parse
from etalumis.config import DEFAULT_FILE, NetworkConfig, load, read
from etalumis.config.describe import keys
from etalumis.inference.entry_selection import DrawEntries, EntryAddress, EntryLayout
from etalumis.inference.kept_entries import KeptEntries
from etalumis.inference_table import InferenceTable
from etalumis.inference_table.record import summarise
from etalumis.paths import FIGURES
from etalumis.training.phases import COLUMNS, append_phases

SOURCES = [
    path
    for folder in ("src/etalumis", "src/cpp", "workflow", "scripts", "config", "resources")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".cpp", ".hpp", ".smk", ".yaml", ".fbs", ".rst", ".md"} and "generated" not in path.parts
]
# sections of the paper (SC'19) that may be cited, and their subjects
SECTIONS = {
    "4.1": "PPX",
    "4.2": "engines, convergence diagnostics, addresses from stacks",
    "4.3": "architecture of the network",
    "4.4": "layers generated before training, loss of a minibatch",
    "4.4.1": "trace types",
    "4.4.3": "sorted traces",
    "4.4.4": "gradients under MPI",
    "5": "machines, software",
    "5.4": "Sherpa, 15M traces",
    "6": "results",
    "6.1": "speed of one node, phases",
    "6.2": "actual time and the best without imbalance",
    "6.3": "optimizer, learning rate, sizes of minibatches",
    "6.4": "posteriors, numbers of runs",
    "7.1.1": "sorted minibatches",
    "7.1.2": "learning rate schedules",
    "7.2": "buckets, dynamic batching",
}


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files_that_exist(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_etalumis_commands_are_understood(page):
    for words in commands(page, "etalumis"):
        if "--help" not in words:
            _parse(words)  # exits if a verb or an option is unknown


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {words[0] for words in commands(page, "make")} <= targets


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_rules_in_snakemake_commands_exist(page):
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow").rglob("*.smk"))
    names = set(re.findall(r"^rule (\w+):", rules, re.MULTILINE))
    for words in commands(page, "snakemake"):
        if "--forcerun" in words:
            assert words[words.index("--forcerun") + 1] in names


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_configurations_of_commands_are_valid(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    network = tmp_path / "results" / "demo" / "network"  # for `network.from`
    network.mkdir(parents=True)
    (network / "manifest.json").touch()
    parser = argparse.ArgumentParser()
    parser.add_argument("--configfile", nargs="+", default=[DEFAULT_FILE])
    parser.add_argument("--config", nargs="+", default=[])
    for words in [*commands(page, "snakemake"), *commands(page, "make")]:
        words = [part for word in words for part in (shlex.split(word[5:]) if word.startswith("ARGS=") else [word])]
        options, _ = parser.parse_known_args(words)
        read(options.configfile, options.config)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_named_config_keys_exist(page):
    known = {key.dotted for key in keys()} | {f"{k.dotted.rsplit('.', 1)[0]}" for k in keys()}
    sections = "|".join({key.path[0] for key in keys()})
    named = re.findall(rf"`((?:{sections})\.[a-z_.]+)`", page.read_text(encoding="utf-8"))
    files = {"config.yaml", "network.md"}
    assert {name for name in named if name not in files} - known == set()


def test_the_search_for_commands_finds_some():
    # the tests above could not fail if the pattern found nothing
    assert len(commands(ROOT / "docs" / "tutorial.md", "etalumis")) >= 8
    assert len(commands(ROOT / "docs" / "how-to-keep-a-trace-dataset.md", "etalumis")) >= 8
    assert ["demo"] in commands(ROOT / "README.md", "make")


def existing_files():
    """Return the paths of the files and folders of the checkout, from its root, without generated ones."""
    generated = {".venv", ".git", ".cache", ".snakemake", "__pycache__", "results"}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if generated.isdisjoint(path.relative_to(ROOT).parts))
    return {str(path) for path in paths}


def test_named_files_exist():
    existing = existing_files()
    endings = {"/".join(path.split("/")[at:]) for path in existing for at in range(path.count("/"))}
    named = re.compile(r"(?<![\w/.{}$<-])((?:[\w-]+/)+[\w-]+\.(?:py|cpp|hpp|smk|fbs|md|rst|yaml|txt|npy))\b")
    # products of a run, and headers of a library
    other = ("results/", "flatbuffers/")
    missing = {
        (str(path.relative_to(ROOT)), name)
        for path in [*PAGES, *SOURCES]
        for name in named.findall(path.read_text(encoding="utf-8"))
        if name not in existing | endings and not name.startswith(other)
    }
    assert missing == set()


def resolve(dotted):
    """Return the part of a dotted name under `etalumis` that does not exist."""
    place, parts = ROOT / "src" / "etalumis", dotted.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").is_file():
        place /= f"{parts.pop(0)}.py"
    source = place if place.is_file() else place / "__init__.py"
    return [name for name in parts[:1] if not re.search(rf"\b{name}\b", source.read_text(encoding="utf-8"))]


def test_named_modules_exist():
    missing = {
        (str(path.relative_to(ROOT)), dotted)
        for path in [*PAGES, *SOURCES]
        for dotted in re.findall(r"(?<![\w/.-])etalumis\.([A-Za-z_][\w.]*\w)", path.read_text(encoding="utf-8"))
        if not dotted.endswith("yml") and resolve(dotted)
    }
    assert missing == set()


def test_cited_sections_of_the_paper_exist():
    found = {
        (str(path.relative_to(ROOT)), number)
        for path in [*PAGES, *SOURCES]
        for text in re.findall(r"[Ss]ections? ((?:\d(?:\.\d)*(?!\d)(?:, | and )?)+)", path.read_text(encoding="utf-8"))
        for number in re.findall(r"\d(?:\.\d+)*", text)
    }
    assert len(found) > 20
    assert {(path, number) for path, number in found if number not in SECTIONS} == set()


def architecture():
    """Return the packages and modules in ARCHITECTURE.md, line by line from the lowest."""
    block = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Modules and imports")[2]
    lines = re.findall(r"^ {4}(\w.*?)(?:  |$)", block.partition("## ")[0], re.MULTILINE)
    return [line.split() for line in lines if "/" not in line]


def test_the_architecture_lists_every_module():
    package = ROOT / "src" / "etalumis"
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    listed = {name for line in architecture() for name in line}
    assert listed == modules - {"__init__", "__main__"}, "ARCHITECTURE.md, section 'Modules and imports'"


def imported(path):
    """Yield the top-level modules of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "etalumis":
            yield from (alias.name for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("etalumis."):
            yield node.module.split(".")[1]


def test_modules_import_from_the_lines_above_only():
    level = {name: number for number, line in enumerate(architecture()) for name in line}
    package = ROOT / "src" / "etalumis"
    wrong = {
        (str(path.relative_to(package)), name)
        for path in package.rglob("*.py")
        if path.parent != package or path.stem in level
        for own in [path.relative_to(package).parts[0].removesuffix(".py")]
        for name in imported(path)
        if name != own and level.get(name, 0) >= level.get(own, 99)
    }
    assert wrong == set()


def test_the_tutorial_has_the_observation_of_the_demo():
    (command,) = (c for c in commands(ROOT / "docs" / "tutorial.md", "etalumis") if c[:2] == ["traces", "observation"])
    observation = load(ROOT / "config" / "config.yaml").observation
    assert command[command.index("--trace") + 1] == str(observation.trace)
    assert command[command.index("--seed") + 1] == str(observation.seed)


def test_paper_yaml_has_the_network_of_the_paper():
    # docs/reproduce-the-paper.md says so, and the model's docstring that its defaults are the paper's
    assert load(ROOT / "config" / "paper.yaml").network == NetworkConfig()
    assert load(ROOT / "config" / "config.yaml").network != NetworkConfig()


def test_the_readme_lists_every_figure():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in FIGURES if f"`{name}`" not in text] == []


def test_python_of_the_posterior_page_runs(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "results" / "demo" / "posteriors"
    tau_posterior().save(folder / "rmh.h5")
    ic = tau_posterior("ic", seed=1, log_weight_sd=0.5)
    layout = EntryLayout((EntryAddress("[forward()+0x1]__Uniform__1", "px", "Uniform"),), ("all",))
    ic.entries = KeptEntries.from_draws([DrawEntries(layout, px[:1]) for px in ic.values["momentum"]])
    ic.save(folder / "ic.h5")
    page = (ROOT / "docs" / "how-to-read-a-posterior-file.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {})
    printed = capsys.readouterr().out
    assert "true p_x 0.6" in printed
    assert "RMH: converged" in printed
    assert "Uniform px instance 1 of [forward()+0x1]\n  in 2000 draws; probability 1.0" in printed


def test_python_of_the_calibration_page_runs(capsys):
    page = (ROOT / "docs" / "how-to-calibrate.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "page", "exec"), {})
    assert "of 20 posteriors are usable" in capsys.readouterr().out


def test_python_of_the_page_of_many_observations_runs(tmp_path, monkeypatch, capsys):
    table = InferenceTable(tmp_path / "test.csv", {})
    for seed in range(3):
        posterior = tau_posterior("ic", seed=seed, draws=1000, log_weight_sd=0.1)
        table.append({"id": str(seed), **summarise(posterior)})
    page = (ROOT / "docs" / "how-to-infer-many-observations.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {})
    assert re.search(r"p_x inside the central 90 % for \d of 3 observations", capsys.readouterr().out)


def test_python_of_the_page_of_many_ranks_runs(tmp_path, monkeypatch, capsys):
    path = tmp_path / "results" / "demo" / "network" / "phases.h5"
    path.parent.mkdir(parents=True)
    append_phases(path, 0, np.random.default_rng(1).integers(1, 1000, (50, 2, len(COLUMNS))).astype(float))
    page = (ROOT / "docs" / "explain-training-on-many-ranks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {})
    assert "(50, 2)" in capsys.readouterr().out


def test_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["preferred-citation"]["doi"] == "10.1145/3295500.3356180"
    assert len(citation["preferred-citation"]["authors"]) == 17
    assert f"[{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def format_versions():
    """Return the version of every file format that the package writes, by name."""
    pattern = r'^(\w*)FORMAT(?:, \w*VERSION)? = (?:\{"format": )?"(etalumis-[a-z-]+)"(?:, (?:"version": )?(\d+))?'
    found = {}
    for path in sorted((ROOT / "src/etalumis").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for prefix, name, version in re.findall(pattern, text, re.MULTILINE):
            stated = re.search(rf"^{prefix}VERSION = (\d+)", text, re.MULTILINE)
            if version or stated:
                found[name] = int(version or stated[1])
    return found


def test_the_page_of_the_formats_has_their_versions():
    page = (ROOT / "docs" / "file-formats.md").read_text(encoding="utf-8")
    stated = {
        name: int(version) for name, version in re.findall(r"^## .*`(etalumis-[a-z-]+)`, version (\d+)", page, re.M)
    }
    assert len(stated) >= 6
    assert stated == {name: version for name, version in format_versions().items() if name in stated}


def test_a_new_version_of_a_format_is_a_new_version_of_the_results():
    """Snakemake does not remake old products, so a run with an older format is refused as a whole."""
    versions = {
        "etalumis-results": 2,
        "etalumis-calibration": 1,
        "etalumis-diagnostics": 1,
        "etalumis-inference-table": 1,
        "etalumis-layers": 1,
        "etalumis-network": 2,
        "etalumis-observation": 3,
        "etalumis-phases": 1,
        "etalumis-posterior": 3,
        "etalumis-provenance": 1,
        "etalumis-simulator": 1,
        "etalumis-sort-plan": 3,
        "etalumis-trace-index": 2,
        "etalumis-trace-journal": 3,
        "etalumis-traces": 3,
    }
    assert format_versions() == versions, (
        "increase the version of paths.RESULTS_FORMAT too, unless older files are still read"
    )
