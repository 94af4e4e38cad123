# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Run all commands of docs/how-to-couple-your-own-simulator.md and check the posteriors against quadrature."""

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from exact.answers import SIGMAS, assert_mean
from filelock import FileLock
from scipy import stats

from etalumis.inference import Posterior
from etalumis.network.embedding import make_embedding

PAGE = Path("docs/how-to-couple-your-own-simulator.md")
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TIMEOUT_S = 300


@dataclass(frozen=True)
class Block:
    language: str
    name: str
    text: str


@dataclass(frozen=True)
class Carried:
    """The folder in which the commands ran, and their output."""

    folder: Path
    output: str
    error: str


def blocks(checkout: Path) -> list[Block]:
    return [Block(*match.groups("")) for match in BLOCK.finditer((checkout / PAGE).read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def carried(checkout: Path, build_cache: Path) -> Iterator[Carried]:
    """The commands run in a folder that is empty except for the build folder of the library."""
    folder = build_cache / "coupling-page"
    with FileLock(build_cache / "coupling-page.lock"):
        for path in [*folder.glob("*"), *folder.glob("build/*")]:
            if path in (folder / "build", folder / "build" / "ppx"):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        yield carry_out(folder, checkout)


def carry_out(folder: Path, checkout: Path) -> Carried:
    folder.mkdir(exist_ok=True)
    script = []
    for block in blocks(checkout):
        if block.language == "sh":
            script.append(block.text)
        else:
            (folder / block.name).write_text(block.text, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=folder,
        env={**os.environ, "PATH": path, "ETALUMIS": str(checkout)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return Carried(folder, done.stdout, done.stderr)


def test_the_page_shows_the_example_in_the_checkout(checkout: Path):
    folder = checkout / "src" / "cpp" / "examples" / "installed"
    shown = {block.name: block.text for block in blocks(checkout)}
    for name in ("muon.cpp", "CMakeLists.txt"):
        assert (folder / name).read_text(encoding="utf-8").endswith(shown[name]), name
    assert len([block for block in blocks(checkout) if block.language == "sh"]) >= 8
    # with one temperature, chains of this model do not converge for some data
    assert "temperatures:" not in shown["config.yaml"]


def test_its_commands_run(carried: Carried):
    # `simulator couple` lists addresses with function names for both builds
    assert carried.output.count("muon: 20 runs") == 3
    assert len(re.findall(r"\[Muon::forward\(\)\+0x\w+; zenith_angle\(\)\+0x\w+\]__Uniform__1", carried.output)) == 4
    assert "[muon+1:13-53]__Uniform__1  (name 'energy')" in carried.output
    assert "observes 'deposits': Normal (8,)" in carried.output
    assert "without a name" not in carried.error
    assert "RMH: converged" in carried.output
    assert "stopping" in carried.error  # the served model, by SIGTERM
    assert not (carried.folder / "cosmic.sock").exists()


def test_its_embedding_can_be_used(carried: Carried, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(carried.folder)
    embedding = make_embedding("spectrum:Spectrum", (100,), (8,), 32)
    assert embedding(torch.rand(3, 100), torch.float32).shape == (3, 32)


def test_both_posteriors_agree_with_quadrature(carried: Carried):
    measured = np.loadtxt(carried.folder / "deposits.txt")
    energy, angle = np.linspace(0.2, 3.0, 1401), np.linspace(0.0, 1.5, 751)
    loss = 0.15 / np.cos(angle)[None, :, None]
    expected = np.clip(energy[:, None, None] - loss * np.arange(8), 0.0, loss)
    likelihood = np.exp(stats.norm.logpdf(measured, expected, 0.1).sum(axis=-1))
    mass = likelihood * np.cos(angle)[None, :] ** 2
    mass /= mass.sum()
    exact = {"energy": float(mass.sum(1) @ energy), "angle": float(mass.sum(0) @ angle)}

    rmh = Posterior.load(carried.folder / "rmh.h5")
    weighted = Posterior.load(carried.folder / "importance.h5")
    weight = weighted.weight
    assert 1 / float(np.sum(weight**2)) > 50, "the effective sample size is too small for the test"
    for name, truth in exact.items():
        assert_mean(rmh.values[name], truth, name)
        values = weighted.values[name]
        error = math.sqrt(float(weight**2 @ (values - float(weight @ values)) ** 2))
        assert abs(float(weight @ values) - truth) < SIGMAS * error
