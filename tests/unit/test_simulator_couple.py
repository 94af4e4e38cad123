# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis simulator couple`: reproducible simulators are recorded; hidden state and changed files are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from served import SERVE

from etalumis.cli import main
from etalumis.config import SimulatorConfig
from etalumis.errors import DatasetError, SimulatorError
from etalumis.execution import Execution
from etalumis.models import FunctionModel
from etalumis.simulator.built import BuiltSimulator
from etalumis.simulator.couple import coupled_command, record_of
from etalumis.simulator.replay_check import check_replay
from etalumis.traces import observation

MODELS = """\
import random
import time
from etalumis.distributions import Normal, Uniform
from etalumis.models import observe, rejection_scope, sample, tag

def good():
    with rejection_scope() as scope:
        while (x := sample(Uniform(0.0, 1.0), name="x")) > 0.5:
            scope.repeat()
    y = sample(Normal(x, 1.0), control=False)
    tag("sum", x + y)
    observe(Normal(y, 1.0), name="seen")

def clock():
    x = sample(Uniform(0.0, 1.0 + time.perf_counter()))
    observe(Normal(x, 1.0), name="seen")

def likelihood():
    observe(Normal(sample(Uniform(0.0, 1.0)) + time.perf_counter(), 1.0), name="seen")

def state():
    with open("starts", "a+") as file:
        file.write("x")
        starts = file.tell()
    for _ in range(starts):
        sample(Uniform(0.0, 1.0))
    observe(Normal(0.0, 1.0), name="seen")

def blind():
    return sample(Uniform(0.0, 1.0))

def growing_tag():
    x = sample(Uniform(0.0, 9.0))
    tag("list", [0.0] * (int(x) + 1))
    observe(Normal(x, 1.0), name="seen")

def rows_or_not():
    x = sample(Uniform(0.0, 1.0))
    tag("rows", [0.0] * 3 if x > 0.5 else [[0.0] * 3] * 2)
    observe(Normal(x, 1.0), name="seen")

def empty_tag():
    tag("none", [])
    observe(Normal(sample(Uniform(0.0, 1.0)), 1.0), name="seen")

def changing_observation():
    x = sample(Uniform(0.0, 1.0))
    observe(Normal(x, 1.0), name="low" if x < 0.5 else "high")

def observes_twice():
    for _ in range(2):
        observe(Normal(sample(Uniform(0.0, 1.0)), 1.0), name="y")

def look_alike():
    x = sample(Uniform(0.0, 1.0), name="\u00b5")
    tag("caf\u00e9", x)
    tag("cafe\u0301", x)
    tag("x2", x)
    tag("x\u00b2", x)
    observe(Normal(x, 1.0), name="\u03bc")

def old_order():
    observe(Normal(sample(Uniform(0.0, 1.0)), 1.0), name="seen")
    tag(2.0, "old")

private = random.Random(1)
runs = 0

def generator():
    observe(Normal(sample(Uniform(0.0, 1.0)) + private.gauss(0.0, 1.0), 1.0), name="seen")

def counter():
    global runs
    runs += 1
    tag("runs", runs)
    observe(Normal(sample(Uniform(0.0, 1.0)), 1.0), name="seen")

def warms_up():
    global runs
    runs += 1
    observe(Normal(sample(Uniform(0.0, 1.0)) + (runs == 1), 1.0), name="seen")

def every_other():
    global runs
    runs += 1
    observe(Normal(sample(Uniform(0.0, 1.0)) + runs % 2, 1.0), name="seen")

def supplies_noise():
    observe(Normal(sample(Uniform(0.0, 1.0)), 1.0), name="seen", value=private.random())

def returns_noise():
    observe(Normal(sample(Uniform(0.0, 1.0)), 1.0), name="seen")
    return private.random()

def remembers_rejections():
    tries = 1
    with rejection_scope() as scope:
        while (x := sample(Uniform(0.0, 1.0), name="x")) > 0.5:
            scope.repeat()
            tries += 1
    observe(Normal(x, tries), name="seen")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of models."""
    (tmp_path / "beam.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def couple(model: str, *options: str) -> int:
    return main(["simulator", "couple", "--output", "coupled", *options, "--", *SERVE, f"beam:{model}", "{endpoint}"])


def test_it_lists_what_inference_will_see_and_records_the_program(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert couple("good", "--depends-on", "beam.py", "--runs", "7") == 0
    shown, error = capsys.readouterr()
    assert "good: 7 runs, " in shown
    assert "(name 'x', rejection loop)" in shown
    assert "]__Normal__1  (uncontrolled)" in shown
    assert "observes 'seen': Normal ()" in shown
    assert "tags 'sum'" in shown
    assert error == ""
    record = json.loads(Path("coupled/build.json").read_text(encoding="utf-8"))
    assert record["format"] == "etalumis-simulator"
    assert record["command"] == [*SERVE, "beam:good", "{endpoint}"]
    assert set(record["files"]) == {SERVE[0], "beam.py"}


def test_a_coupled_simulator_opens_and_has_its_own_id(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert couple("good", "--depends-on", "beam.py") == 0
    built = BuiltSimulator(Path("coupled"), SimulatorConfig())
    with built.start() as simulator:
        assert simulator.name == "good"
    assert built.misfit(built.build_id, built.config_digest) is None
    # the settings of Sherpa do not apply
    louder = BuiltSimulator(Path("coupled"), SimulatorConfig(noise_gev=1.0))
    assert (louder.build_id, louder.config_digest) == (built.build_id, built.config_digest)
    assert "GeV" not in built.noise
    capsys.readouterr()
    assert couple("blind", "--depends-on", "beam.py") == 0
    assert "blind has no observe statement" in capsys.readouterr().err
    assert BuiltSimulator(Path("coupled"), SimulatorConfig()).build_id != built.build_id


def test_a_changed_file_makes_another_simulator(folder: Path) -> None:
    assert couple("good", "--depends-on", "beam.py") == 0
    before = BuiltSimulator(Path("coupled"), SimulatorConfig()).build_id
    Path("beam.py").write_text(MODELS.replace("0.5", "0.6"), encoding="utf-8")
    with pytest.raises(SimulatorError, match=r"changed since the simulator was coupled: beam\.py\. .*Couple it again"):
        BuiltSimulator(Path("coupled"), SimulatorConfig())
    assert couple("good", "--depends-on", "beam.py") == 0
    assert BuiltSimulator(Path("coupled"), SimulatorConfig()).build_id != before
    Path("beam.py").unlink()
    with pytest.raises(SimulatorError, match=r"no such file: beam\.py"):
        BuiltSimulator(Path("coupled"), SimulatorConfig())


def in_folder(folder: Path, shebang: str) -> dict[str, Any]:
    """Couple a script with a file as argument; the content is the same in every folder."""
    folder.mkdir()
    (folder / "script").write_text(f"{shebang}\nprint('the same')\n", encoding="utf-8")
    (folder / "script").chmod(0o755)
    for name in ("card", "beam.py"):
        (folder / name).write_text(name, encoding="utf-8")
    command = [str(folder / "script"), str(folder / "card"), "--events=3", "{endpoint}"]
    return record_of(command, "beam", [folder / "beam.py"])


def test_the_id_does_not_depend_on_paths(tmp_path: Path) -> None:
    long = "#!/bin/sh\n'''exec' \"/a long path/python\" \"$0\" \"$@\"\n' '''"  # as pip writes it
    shebangs = ["#!/usr/bin/python3", "#!/another/python3", long]
    records = [in_folder(tmp_path / f"clone {number}", shebang) for number, shebang in enumerate(shebangs)]
    assert len({record["simulator_build_id"] for record in records}) == 1
    (tmp_path / "clone 0" / "card").write_text("another", encoding="utf-8")
    changed = record_of(records[0]["command"], "beam", [tmp_path / "clone 0" / "beam.py"])
    assert changed["simulator_build_id"] != records[0]["simulator_build_id"]


def test_a_program_found_on_the_path_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_folder(tmp_path / "bin", "#!/usr/bin/python3")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    record = record_of(["script", "{endpoint}"], "beam", [])
    (tmp_path / "bin").rename(tmp_path / "moved")
    monkeypatch.setenv("PATH", str(tmp_path / "moved"))
    assert coupled_command(record, tmp_path / "build.json") == ["script", "{endpoint}"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("generator", "the likelihood of 'seen' has other parameters"),
        ("state", "expected 20 draws, found 21"),
    ],
)
def test_couple_refuses_hidden_state(
    folder: Path, model: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert couple(model) == 1
    error = capsys.readouterr().err
    assert f"{model}: run 19 came out differently when it was given the same values in a fresh process" in error
    assert re.search(rf"order of runs:\n  .*{message}.*\nInference replays", error)  # on a line of its own
    assert "look for random numbers drawn elsewhere" in error
    assert "state kept between runs (counters, " in error
    assert not Path("coupled").exists()


class FreshModule:
    """A function of the module above. A restart executes the module again, like a fresh process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.restart()

    def restart(self) -> None:
        """Discard all state."""
        namespace = {"__name__": "beam"}
        exec(MODELS, namespace)
        self._model = FunctionModel(cast(Callable[[], float], namespace[self.name]))

    def run(self, execution: Execution) -> float | None:
        """Run once."""
        return self._model.run(execution)


@pytest.mark.parametrize("runs", [1, 2, 3, 20])
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("clock", r"entry 0: expected Uniform\("),
        ("likelihood", "the likelihood of 'seen' has other parameters"),
        ("generator", "the likelihood of 'seen' has other parameters"),
        ("counter", "the tag 'runs' has another value: expected "),
        ("warms_up", "the likelihood of 'seen' has other parameters"),
        ("every_other", "the likelihood of 'seen' has other parameters"),
        ("supplies_noise", r"the value that the model gives for 'seen': expected 0\."),
        ("returns_noise", r"the result of the run: expected 0\."),
    ],
)
def test_hidden_state_is_found_with_any_number_of_runs(model: str, message: str, runs: int) -> None:
    with pytest.raises(SimulatorError, match=message):
        check_replay(FreshModule(model), "beam", runs)


def test_a_loop_that_counts_its_rejections_is_refused() -> None:
    with pytest.raises(SimulatorError, match="given the values of its accepted draws alone"):
        check_replay(FreshModule("remembers_rejections"), "beam")


def test_a_reproducible_model_is_accepted() -> None:
    assert check_replay(FreshModule("good"), "beam").runs == 20


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("growing_tag", r"tag 'list' has shape \(\d,\), but in a previous trace it was an array of shape \(\d,\); "),
        ("rows_or_not", r"tag 'rows' has shape \(3,\), but .* it was an array of shape \(any number, 3\); "),
        ("empty_tag", r"tag 'none' has shape \(0,\), which cannot be stored: "),
        ("changing_observation", r"run 0 observes 'low' of shape \(\), and run \d+ 'high' of shape \(\); "),
        ("observes_twice", r"2 observe statements have the names \['y', 'y'\]; "),
    ],
)
def test_couple_says_that_runs_cannot_be_stored_as_traces_generate_does(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str, message: str
) -> None:
    assert couple(model) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "will refuse" in line]
    assert re.search(rf"`etalumis traces generate` will refuse runs of {model} \(RMH .* do not\): {message}", warning)


def test_names_that_look_the_same_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert couple("look_alike") == 0
    error = capsys.readouterr().err
    assert r"'\xb5' and '\u03bc' are different names, although they look the same" in error
    assert r"'caf\xe9' and 'cafe\u0301' are different names" in error
    assert error.count("look the same") == 2


def test_the_warning_about_the_old_order_of_arguments_is_shown_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert couple("old_order") == 0
    warnings = re.findall(r"warning: .*beam\.py:(\d+): FutureWarning: (.*)", capsys.readouterr().err)
    line = MODELS[: MODELS.index("tag(2.0")].count("\n") + 1
    assert warnings == [(str(line), "the arguments of a statement are in their old order: write tag(name, value)")]


def test_wrong_calls_of_couple(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulator", "couple", "--output", "coupled", "--", "no/such/program"]) == 1
    assert "no/such/program was not found" in capsys.readouterr().err
    Path("coupled").write_text("a file", encoding="utf-8")
    assert couple("good") == 1
    assert "coupled: is a file; expected a folder" in capsys.readouterr().err
    Path("coupled").unlink()
    Path("coupled").mkdir()
    Path("coupled/build.json").write_text(
        '{"format": "etalumis-simulator", "simulator_build_id": "x"}', encoding="utf-8"
    )
    assert couple("good") == 1
    assert "build.json already exists and is the record of a built simulator" in capsys.readouterr().err
    assert couple("good", "--force") == 0


def test_measured_data_become_an_observation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.txt").write_text("1.5 2.5\n3.5 4.5\n", encoding="utf-8")
    np.save("data.npy", np.arange(24.0).reshape(2, 3, 4))
    for name, expected in (("data.txt", [[1.5, 2.5], [3.5, 4.5]]), ("data.npy", np.arange(24.0).reshape(2, 3, 4))):
        call = ["traces", "observation", "--measured", name, "--output", f"{name}.h5"]
        assert main([*call, "--name", "seen"]) == 0
        loaded = observation.load(Path(f"{name}.h5"))
        np.testing.assert_array_equal(loaded.observed["seen"].value, expected)
        assert (list(loaded.observed), loaded.truth, loaded.latents) == (["seen"], {}, {})
        assert loaded.observed["seen"].expected is None
        # it belongs to whatever simulator observes this
        assert (loaded.provenance.simulator_build_id, loaded.provenance.config_digest) == ("", "")
    capsys.readouterr()
    assert main(call) == 1
    assert "--measured requires one --name" in capsys.readouterr().err
    assert main(["traces", "observation", "--input", "t.h5", "--output", "o.h5"]) == 1
    assert "--input requires --trace" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "1.0 nan\n", "1.0 x\n", "1 2\n3\n"])
def test_invalid_measured_data_are_reported(folder: Path, text: str) -> None:
    Path("data.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"data\.txt: expected (finite )?numbers"):
        observation.measured(Path("data.txt"), "seen")
