# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The commands of docs/quick-start.md and README.md, as they stand; posteriors are compared with the exact ones."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import commands

from etalumis import quickstart
from etalumis.cli import main
from etalumis.config import load
from etalumis.errors import ConfigError
from etalumis.inference import Posterior

BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SIGMAS = 4.5
X, NOISE, PRIOR = np.linspace(-1.0, 1.0, 5), 0.5, 2.0


@pytest.fixture(scope="module")
def carried(checkout, tmp_path_factory):
    """The folder in which the commands of the page ran, and their standard output, one text per command."""
    folder = tmp_path_factory.mktemp("quickstart")
    page = (checkout / "docs" / "quick-start.md").read_text(encoding="utf-8")
    outputs = []
    with contextlib.chdir(folder):
        for _, name, text in BLOCK.findall(page):
            if name:
                (folder / name).write_text(text, encoding="utf-8")
                continue
            for line in text.splitlines():
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    assert main(shlex.split(line)[1:]) == 0
                outputs.append(output.getvalue())
    return folder, outputs


def exact(values):
    """Return mean and standard deviation of slope and offset, which are independent since the mean of x is zero."""
    result = {}
    for name, column in (("slope", X), ("offset", np.ones(5))):
        precision = 1 / PRIOR**2 + column @ column / NOISE**2
        result[name] = (column @ np.asarray(values) / NOISE**2 / precision, precision**-0.5)
    return result


@pytest.mark.parametrize(
    ("folder", "engine"), [("simulated", "smc"), ("simulated", "rmh"), ("measured", "smc"), ("measured", "ic")]
)
def test_the_posteriors_are_the_exact_ones(carried, folder, engine):
    posterior = Posterior.load(carried[0] / folder / "posteriors" / f"{engine}.h5")
    printed = carried[1][("simulated", "measured").index(folder)].splitlines()[0]
    observed = [float(number) for number in re.search(r"y = \[(.*?)\]", printed)[1].split(", ")]
    for name, (mean, sd) in exact(observed).items():
        found = posterior.mean(name)
        # each passes its own check with an ESS of at least 400
        assert abs(found - mean) < SIGMAS * sd / np.sqrt(400), name
        spread = np.sqrt(posterior.weight @ (posterior.values[name] - found) ** 2)
        assert abs(spread / sd - 1) < SIGMAS / np.sqrt(2 * 400), name


def test_the_verdicts_are_in_words(carried):
    simulated, measured = carried[1]
    for text, engines in ((simulated, "SMC and RMH"), (measured, "SMC and IC")):
        assert "NOT" not in text
        assert f"Rely on {engines}, which passed their own checks." in text
        assert "They agree with each other." in text
    assert "simulated from the prior, seed 1" in simulated
    assert "The truth is inside the central 95 % of SMC and RMH." in simulated
    assert "y = [-1.2, -0.4, 0.9, 1.1, 2.3], given on the command line" in measured


def test_the_command_of_the_readme_runs(carried, checkout, tmp_path, monkeypatch, capsys):
    shutil.copyfile(carried[0] / "line.py", tmp_path / "line.py")
    monkeypatch.chdir(tmp_path)
    (words,) = commands(checkout / "README.md", "etalumis")
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "y = [-1.2, -0.4, 0.9, 1.1, 2.3], given on the command line" in said
    assert "Rely on SMC and RMH, which passed their own checks." in said
    assert (tmp_path / "measured" / "figures" / "posteriors.png").is_file()


def test_the_folder_holds_configuration_figure_and_diagnostics(carried):
    for name in ("simulated", "measured"):
        folder = carried[0] / name
        assert (folder / "figures" / "posteriors.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "diagnostics" / "diagnostics.json").is_file()
        config = load(folder / "config.yaml")
        assert quickstart.settings(folder / "config.yaml") == config  # so that it can be edited and given again


def test_engines_and_seed_replace_those_of_the_configuration(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("run: {seed: 7}\nposteriors: {engines: [network_rmh]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="found network_rmh; choose some of these with --engine"):
        quickstart.settings(path)
    config = quickstart.settings(path, ["ic"], 8)
    assert (config.posteriors.engines, config.run.seed) == (("ic",), 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--observe", "y"], "expected NAME=VALUE, found 'y'"),
        (["--observe", "y=one"], "expected a number, a list of numbers such as [1.5,2], or the name of a file"),
        (["--observe", "y=1", "y=2"], "--observe y: given 2 times"),
        (["--observe", "z=[1]"], "z"),
    ],
)
def test_a_wrong_observation_is_refused(carried, monkeypatch, capsys, words, said):
    monkeypatch.chdir(carried[0])
    try:
        code = main(["quickstart", "line:line", *words, "--output", "none"])
    except SystemExit as left:
        code = left.code
    assert code in (1, 2)
    assert said in capsys.readouterr().err


def test_a_folder_with_products_is_left_alone(carried, monkeypatch, capsys):
    monkeypatch.chdir(carried[0])
    assert main(["quickstart", "line:line", "--output", "measured"]) == 1
    assert "measured: is not empty; expected a new folder" in capsys.readouterr().err


def test_a_file_of_numbers_is_an_observation(tmp_path):
    from etalumis.cli.quickstart import _observed

    Path(tmp_path / "y.txt").write_text("1 2 3\n", encoding="utf-8")
    name, value = _observed(f"y={tmp_path / 'y.txt'}")
    assert (name, value.tolist()) == ("y", [1.0, 2.0, 3.0])
