# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""environment.yml, the containers and pyproject.toml require the same packages."""

import ast
import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

# names that differ between the Python package index and conda-forge
CONDA_NAMES = {
    "torch": "pytorch",
    "xxhash": "python-xxhash",
    "zlib-ng": "python-zlib-ng",
    "flatbuffers": "python-flatbuffers",
    "isal": "python-isal",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
}
# what a conda environment needs besides Python packages
NOT_PYTHON = {
    "python",
    "cxx-compiler",
    "cmake",
    "ninja",
    "pkg-config",
    "zeromq",
    "flatbuffers",
    "make",
    "git",
    "pip",
    "setuptools",
}
CONDA_PYTHON = {"python_version": "3.12"}


def from_pyproject(checkout: Path) -> dict[str, str]:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = map(Requirement, [*project["dependencies"], *extras["workflow"], *extras["mpich"]])
    here = [one for one in requirements if one.marker is None or one.marker.evaluate(CONDA_PYTHON)]
    return {CONDA_NAMES.get(one.name, one.name): bounds(str(one.specifier)) for one in here}


def from_environment(checkout: Path) -> dict[str, str]:
    environment = yaml.safe_load((checkout / "environment.yml").read_text(encoding="utf-8"))
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    parts = (re.fullmatch(r"([a-z0-9-]+)(.*)", line) for line in lines)
    return {part[1]: bounds(part[2]) for part in parts if part}


def bounds(text: str) -> str:
    return ",".join(sorted(text.replace(" ", "").split(",")))


def test_both_files_name_the_same_packages_with_the_same_bounds(checkout: Path) -> None:
    conda = from_environment(checkout)
    assert set(conda) >= NOT_PYTHON
    assert {name: text for name, text in conda.items() if name not in NOT_PYTHON} == from_pyproject(checkout)


def test_pip_adds_only_this_checkout_and_builds_it_with_the_setuptools_of_conda(checkout: Path) -> None:
    environment = yaml.safe_load((checkout / "environment.yml").read_text(encoding="utf-8"))
    assert [line for line in environment["dependencies"] if not isinstance(line, str)] == [{"pip": ["-e ."]}]
    (build,) = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert build in environment["dependencies"]


def test_the_environment_of_snakemake_is_the_same_with_etalumis_added_afterwards(checkout: Path) -> None:
    """Snakemake creates it in another folder, where `-e .` is not this checkout."""
    mine, theirs = (
        yaml.safe_load((checkout / name).read_text(encoding="utf-8"))
        for name in ("environment.yml", "workflow/envs/etalumis.yml")
    )
    assert theirs["dependencies"] == [line for line in mine["dependencies"] if isinstance(line, str)]
    assert theirs["channels"] == mine["channels"]
    script = (checkout / "workflow/envs/etalumis.post-deploy.sh").read_text(encoding="utf-8")
    assert "pip install --no-deps --no-build-isolation -e ." in script


def container_files(checkout: Path) -> dict[str, str]:
    return {
        name: (checkout / "containers" / name).read_text(encoding="utf-8") for name in ("Dockerfile", "etalumis.def")
    }


def test_the_containers_install_what_setup_installs_and_nothing_else(checkout: Path) -> None:
    """scripts/setup.py takes all pins from pyproject.toml, so a container cannot have others."""
    packages = set()
    for text in container_files(checkout).values():
        commands = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
        assert len(re.findall(r"python3 scripts/setup\.py", commands)) == 1
        assert "pip" not in commands
        (apt,) = re.findall(r"apt-get install -y -qq --no-install-recommends ([a-z ]+)", commands)
        packages.add(apt.strip())
        assert "/opt/etalumis/.venv/bin:$PATH" in commands
    assert packages == {"git make"}  # setup installs the others; git names the commit, make has the targets
    tree = ast.parse((checkout / "scripts" / "setup.py").read_text(encoding="utf-8"))
    (extras,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS"
    )
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"workflow", "mpich"} <= set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_containers_start_from_one_python_that_the_project_allows(checkout: Path) -> None:
    (base,) = {
        re.search(r"^FROM (\S+)$|^From: (\S+)$", text, re.MULTILINE)[0].split()[-1]
        for text in container_files(checkout).values()
    }
    python = re.search(r"python:(\d+\.\d+)-slim", base)[1]
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SpecifierSet(project["requires-python"]).contains(python)
    environment = yaml.safe_load((checkout / "environment.yml").read_text(encoding="utf-8"))
    (conda,) = (line for line in environment["dependencies"] if isinstance(line, str) and line.startswith("python>"))
    assert SpecifierSet(conda.removeprefix("python")).contains(python)
