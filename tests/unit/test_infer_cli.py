# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis infer`: its inputs, and what it says of wrong ones."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from served import SERVE
from synthetic_batches import PRIORS, SMALL, layer_table

from etalumis.cli import main

MODEL = """\
import numpy as np
from etalumis.distributions import ArrayDistribution, Normal
from etalumis.models import observe, sample

def pair(shift=0.0):
    x = sample(Normal(float(shift), 1.0), name="x")
    observe(ArrayDistribution(Normal.code, (np.full(64, x), np.asarray(8.0))), name="left")
    observe(Normal(x, 2.0), name="right")
"""
CALL = ["infer", "--config", "config.yaml", "--simulator", "coupled", "--engine", "importance", "--runs", "40"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a folder with two simulators, test traces of both, and observations of trace 1."""
    folder = tmp_path_factory.mktemp("infer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("pair.py").write_text(MODEL, encoding="utf-8")
        Path("config.yaml").write_text("run: {seed: 3}\ntraces: {test: 3}\nobservation: {seed: 7}\n", encoding="utf-8")
        for name, shift in (("coupled", "0"), ("other", "5")):
            served = [*SERVE, "pair:pair", "{endpoint}", "--arg", f"shift={shift}"]
            assert main(["simulator", "couple", "--output", name, "--", *served]) == 0
            call = ["traces", "generate", "--config", "config.yaml", "--simulator", name, "--split", "test"]
            assert main([*call, "--output", f"{name}.h5"]) == 0
            call = ["traces", "observation", "--input", f"{name}.h5", "--trace", "1", "--seed", "7"]
            assert main([*call, "--output", f"{name}/observation/{name}-1.h5"]) == 0
        for name, value, file in (("left", [0.5] * 64, "left"), ("right", 1.5, "right"), ("lift", 0.5, "misspelt")):
            np.save("data.npy", np.asarray(value))
            call = ["traces", "observation", "--measured", "data.npy", "--name", name]
            assert main([*call, "--output", f"measured/{file}.h5"]) == 0
    return folder


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(name="t.csv"):
    with Path(name).open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def without_names(row):
    return {key: value for key, value in row.items() if key not in ("id", "source", "seconds")}


@pytest.mark.usefixtures("folder")
def test_traces_and_observation_files_give_the_same_results(capsys):
    assert main([*CALL, "--traces", "coupled.h5", "--first", "1", "--probability", "x > 0", "--output", "t.csv"]) == 0
    assert capsys.readouterr().out == "t.csv\n"
    found = rows()
    assert list(found) == ["trace-000001", "trace-000002"]
    assert found["trace-000001"]["x truth"] != ""
    call = [*CALL, "--observations", "coupled/observation", "--probability", "x > 0", "--output", "f.csv"]
    assert main(call) == 0
    assert list(rows("f.csv")) == ["coupled-1"]
    assert without_names(rows("f.csv")["coupled-1"]) == without_names(found["trace-000001"])
    # another seed of the noise is another observation
    assert main([*CALL, "--traces", "coupled.h5", "--first", "1", "--seed", "8", "--output", "n.csv"]) == 0
    assert rows("n.csv")["trace-000001"]["log_evidence"] != found["trace-000001"]["log_evidence"]


@pytest.mark.usefixtures("folder")
def test_smc_is_an_engine_whose_means_agree():
    settings = "posteriors: {smc: {start: prior, particles: 60, entry_moves: 2, block_moves: 2}}\n"
    Path("config.yaml").write_text(Path("config.yaml").read_text(encoding="utf-8") + settings, encoding="utf-8")
    call = [*CALL, "--engine", "smc", "--traces", "coupled.h5", "--count", "2", "--probability", "x > 0"]
    assert main([*call, "--runs", "200", "--output", "t.csv"]) == 0
    assert [row["engine"] for row in rows().values()] == ["smc", "smc"]
    row = rows()["trace-000001"]
    assert float(row["efficiency"]) == pytest.approx(float(row["ess"]) / int(row["runs"]), rel=1e-4)
    assert main([*CALL, "--runs", "1000", "--traces", "coupled.h5", "--count", "2", "--output", "i.csv"]) == 0
    for key, other in rows("i.csv").items():
        error = float(rows()[key]["x mcse"]) + float(other["x mcse"])
        assert abs(float(rows()[key]["x mean"]) - float(other["x mean"])) < 4 * error


def test_the_files_of_a_subfolder_are_one_observation(folder):
    (folder / "events" / "17").mkdir(parents=True)
    for name in ("left", "right"):
        shutil.copy(folder / "measured" / f"{name}.h5", folder / "events" / "17")
    shutil.copy(folder / "coupled" / "observation" / "coupled-1.h5", folder / "events" / "18.h5")
    assert main([*CALL, "--observations", "events", "--output", "t.csv"]) == 0
    assert list(rows()) == ["17", "18"]
    assert rows()["17"]["x truth"] == ""


def test_wrong_observations_are_named_and_the_others_inferred(folder, capsys):
    shutil.copy("other/observation/other-1.h5", "measured")
    shutil.copy("coupled/observation/coupled-1.h5", "measured")
    (folder / "measured" / "cut.h5").write_bytes(Path("measured/coupled-1.h5").read_bytes()[:-50])
    assert main([*CALL, "--observations", "measured", "--output", "t.csv"]) == 1
    said = capsys.readouterr().err
    assert "measured/other-1.h5: belongs to another simulator: expected simulator build " in said
    assert "measured/misspelt.h5: the model does not observe 'lift'; it observes 'left', 'right'" in said
    assert "measured/left.h5: the model also observes 'right', for which no value is given" in said
    assert "measured/cut.h5: " in said
    assert "5 of 6 observations failed: cut, other-1, left, misspelt, right. The table has the others" in said
    assert rows()["coupled-1"]["status"] != "failed"
    assert main([*CALL, "--observations", "measured/left.h5", "--unconditioned", "right", "--output", "u.csv"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--traces", "other.h5"], "other.h5: traces of another simulator: expected simulator build "),
        (["--traces", "coupled.h5", "--count", "4"], "coupled.h5: expected traces 0 to 3, found 3 traces"),
        (["--traces", "coupled.h5", "--first", "3"], "correct --first and --count"),
        (["--observations", "absent.h5"], "absent.h5: no such file or folder"),
        (["--observations", "coupled"], "coupled/observation: has the same name"),
        (["--observations", "other/bin"], "other/bin: no such file or folder"),
        (["--observations", "measured", "--seed", "1"], "--seed: belongs to --traces"),
        (["--observations", "measured", "--probability", "x >"], "--probability 'x >': character 4: expected a number"),
        (["--traces", "coupled.h5", "--probability", "y > 0"], "there is no quantity 'y'; the simulator has x"),
        (["--observations", "measured", "--engine", "ic"], "engine ic: no trained network is given; give its folder"),
        (["--observations", "measured", "--engine", "ic", "--network", "gone"], "gone"),
        (["--traces", "coupled.h5", "--engine", "ic", "--network", "foreign"], "foreign: trained on another simulator"),
        (["--observations", "measured", "--keep", "pair.py"], "pair.py: is a file; expected a folder"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_refused_in_one_message(folder, capsys, words, message):
    from etalumis.network import ProposalNetwork, checkpoint

    if "foreign" in words:
        layers = layer_table(PRIORS, 2, (6,))
        checkpoint.save(folder / "foreign", ProposalNetwork(layers, SMALL, 1))
    if words[-1] == "coupled":
        shutil.copytree("coupled/observation", "measured/observation")
        words = ["--observations", "coupled/observation", "measured/observation"]
        message = "measured/observation/coupled-1.h5: has the same name as coupled/observation/coupled-1.h5"
    assert main([*CALL, *words, "--output", "t.csv"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert len([line for line in said.splitlines() if "error: " in line]) == 1
