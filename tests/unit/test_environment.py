# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""environment.yml and pyproject.toml require the same packages."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

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
NOT_PYTHON = {"python", "cxx-compiler", "cmake", "ninja", "pkg-config", "zeromq", "flatbuffers", "make", "git"}
CONDA_PYTHON = {"python_version": "3.12"}


def from_pyproject(checkout: Path) -> dict[str, str]:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = map(Requirement, [*project["dependencies"], *extras["workflow"], *extras["mpich"]])
    here = [one for one in requirements if one.marker is None or one.marker.evaluate(CONDA_PYTHON)]
    return {CONDA_NAMES.get(one.name, one.name): bounds(str(one.specifier)) for one in here}


def from_environment(checkout: Path) -> dict[str, str]:
    environment = yaml.safe_load((checkout / "environment.yml").read_text(encoding="utf-8"))
    parts = (re.fullmatch(r"([a-z0-9-]+)(.*)", line) for line in environment["dependencies"])
    return {part[1]: bounds(part[2]) for part in parts if part}


def bounds(text: str) -> str:
    return ",".join(sorted(text.replace(" ", "").split(",")))


def test_both_files_name_the_same_packages_with_the_same_bounds(checkout: Path) -> None:
    conda = from_environment(checkout)
    assert set(conda) >= NOT_PYTHON
    assert {name: text for name, text in conda.items() if name not in NOT_PYTHON} == from_pyproject(checkout)
