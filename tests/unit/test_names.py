# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Names of tags, draws and observe statements: any text comes back from every file; what cannot is refused at once."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import SERVE
from unit.traces_support import PROVENANCE

from etalumis.cli import main
from etalumis.distributions import ArrayDistribution, Normal, Uniform
from etalumis.errors import DatasetError
from etalumis.inference import Posterior
from etalumis.inference.draws import draw_of
from etalumis.models import FunctionModel, observe, sample, tag
from etalumis.names import MAX_NAME_BYTES, from_line, from_link_name, require_storable, to_line, to_link_name
from etalumis.simulator.replay_check import check_replay
from etalumis.traces import observation
from etalumis.traces.checking.verify import verify
from etalumis.traces.plain.convert import from_plain
from etalumis.traces.plain.export import to_plain
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.prior_runs import PriorRecording
from etalumis.traces.sorting.sort import sort

LONG = "x" * MAX_NAME_BYTES
ODD = ("mu/GeV", ".", "..", "/", "a\\b", "a/b", "a%2Fb", "%2E", "%25", "100 %", "offset", " ", "µ τ", LONG)
BAD = ("", "two\nlines", "nul\0", "\x1b[31m", "\ud800", f"{LONG}x", "/" * (MAX_NAME_BYTES // 3 + 1))


def odd_names():
    x = sample(Normal(0.0, 1.0), name="px/GeV")
    for number, name in enumerate(ODD):
        tag(name, x + number)
    tag("rows/cm", np.full((2, 3), x))
    for name in ("image/a", "."):
        observe(ArrayDistribution(Normal.code, (np.full(80, x), np.asarray(0.5))), name=name)
    observe(Normal(x, 1.0), name="scalar/b")


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "t.h5"
    generate(FunctionModel(odd_names, "odd"), path, PROVENANCE, 0, 20)
    return path


def require_names(path):
    dataset = TraceDataset(path)
    assert [layout.name for layout in dataset.layouts] == ["image/a", ".", "scalar/b"]
    for trace in (0, 19):
        stored = dataset.trace(trace)
        x = stored.by_name["px/GeV"]
        assert {name: float(stored.tags[name]) for name in ODD} == {name: x + n for n, name in enumerate(ODD)}
        np.testing.assert_array_equal(stored.tags["rows/cm"], np.full((2, 3), x))
        assert stored.expected["image/a"][0] == np.float32(x)
    assert verify([path]) == len(dataset)


@given(st.text() | st.text(alphabet="/.%2F5E0A\n"))
def test_the_encodings_are_lossless_and_one_part_of_a_path(name):
    link = to_link_name(name)
    assert "/" not in link
    assert link != "."
    assert from_link_name(link) == name
    assert "\n" not in to_line(name)
    assert from_line(to_line(name)) == name


def test_trace_files_hold_any_name(trace_file):
    require_names(trace_file)


def test_sorted_sets_hold_any_name(trace_file, tmp_path):
    sort([trace_file], tmp_path / "sorted", 7)
    require_names(tmp_path / "sorted")


@pytest.mark.parametrize("kind", ["h5", "npz"])
def test_the_plain_layout_holds_any_name(trace_file, tmp_path, kind):
    to_plain([trace_file], tmp_path / f"plain.{kind}")
    from_plain(tmp_path / f"plain.{kind}", tmp_path / "back.h5")
    require_names(tmp_path / "back.h5")


def test_a_key_of_the_plain_layout_with_a_plain_slash_is_explained(trace_file, tmp_path):
    plain = tmp_path / "plain.h5"
    to_plain([trace_file], plain)
    with h5py.File(plain, "r+") as file:
        file["tag/mu/MeV"] = np.zeros(20)
    with pytest.raises(DatasetError, match="key 'tag/mu/MeV': expected 'tag/mu%2FMeV'"):
        from_plain(plain, tmp_path / "back.h5")


def test_observations_hold_any_name(trace_file, tmp_path):
    drawn = observation.draw(TraceDataset(trace_file), 3, seed=1, names=["image/a"])
    drawn.latents["two\nlines__1"] = 1.5
    observation.save(drawn, tmp_path / "o.h5")
    read = observation.load(tmp_path / "o.h5")
    assert read.truth.keys() == drawn.truth.keys() == {*ODD, "rows/cm"}
    assert read.named == drawn.named
    assert read.latents == drawn.latents


def test_posteriors_hold_any_name(tmp_path):
    values = {name: np.array([float(number)]) for number, name in enumerate(ODD)}
    zeros = np.zeros(1)
    made = Posterior("rmh", values, zeros, zeros, zeros, np.zeros(1, int), np.array([b"0"]), {}, {"mu/GeV": zeros})
    made.save(tmp_path / "p.h5")
    read = Posterior.load(tmp_path / "p.h5")
    assert {name: column.tolist() for name, column in read.values.items()} == {
        name: column.tolist() for name, column in values.items()
    }
    assert list(read.truth) == ["mu/GeV"]


def test_posteriors_of_version_1_are_read(tmp_path):
    zeros = np.zeros(1)
    made = Posterior("rmh", {"a\\b": zeros}, zeros, zeros, zeros, np.zeros(1, int), np.array([b"0"]))
    made.save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        file.attrs["version"] = 1
    assert list(Posterior.load(tmp_path / "p.h5").values) == ["a/b"]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_other_names_are_refused_by_the_first_trace_and_the_first_draw(tmp_path, name):
    runs = []

    def model():
        runs.append(1)
        sample(Normal(0.0, 1.0))
        tag(name, 1.0)

    with pytest.raises(DatasetError, match=r"a tag named .* cannot be stored: the name .* rename it in the model"):
        generate(FunctionModel(model, "bad"), tmp_path / "t.h5", PROVENANCE, 0, 100, frame_traces=1)
    assert len(runs) == 1
    with pytest.raises(DatasetError, match="a tag named"):
        draw_of(_trace(FunctionModel(model, "bad")))


@pytest.mark.parametrize("name", [bad for bad in BAD if bad], ids=ascii)
def test_other_names_of_draws_and_observe_statements_are_refused(tmp_path, name):
    def draws():
        sample(Normal(0.0, 1.0), name=name)

    def observes():
        observe(Normal(0.0, 1.0), name=name)

    for model, what in ((draws, "a draw named"), (observes, "an observe statement named")):
        with pytest.raises(DatasetError, match=what):
            generate(FunctionModel(model, "bad"), tmp_path / "t.h5", PROVENANCE, 0, 1)
    with pytest.raises(DatasetError, match="a draw named"):
        draw_of(_trace(FunctionModel(draws, "bad")))


def tag_beside_draw():
    tag("x", 2 * sample(Uniform(1.0, 2.0), name="x"))


def result_beside_tag():
    tag("result", 2 * sample(Uniform(1.0, 2.0)))
    return 1.0


def result_beside_draw():
    return 2 * sample(Uniform(1.0, 2.0), name="result")


class Restartable(FunctionModel):
    def restart(self):
        """Nothing to restart."""


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (tag_beside_draw, r"a draw and a tag are both named 'x' and have different values, 1\..* rename one of them"),
        (result_beside_tag, r"a tag is named 'result' and is .*, while the result of the run is 1\.0.* rename the tag"),
        (result_beside_draw, "a draw is named 'result' and is .* rename the draw"),
    ],
)
def test_a_value_that_would_replace_another_of_its_name_is_refused(model, said):
    with pytest.raises(DatasetError, match=said):
        draw_of(_trace(FunctionModel(model, "odd")))
    with pytest.raises(DatasetError, match=said):
        check_replay(Restartable(model, "odd"), "beam", runs=2)


def test_a_tag_may_repeat_the_draw_of_its_name():
    def model():
        x = sample(Uniform(1.0, 2.0), name="x")
        tag("x", x)
        tag("result", x)
        return x

    values = draw_of(_trace(FunctionModel(model, "odd"))).values
    assert list(values) == ["x", "result"]
    assert values["x"] == values["result"]
    check_replay(Restartable(model, "odd"), "beam", runs=2)


def _trace(model):
    from etalumis.execution import run

    return run(model, PriorRecording(np.random.default_rng(1)))


def test_a_refusal_shows_the_name_without_its_control_characters():
    with pytest.raises(DatasetError) as refused:
        require_storable("\x1b[31m red", "a tag")
    assert str(refused.value).isprintable()


def test_coupling_refuses_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beam.py").write_text(
        "from etalumis.models import sample, tag\nfrom etalumis.distributions import Normal\n\n"
        "def bad():\n    tag('two\\nlines', sample(Normal(0.0, 1.0)))\n"
    )
    command = ["simulator", "couple", "--output", "coupled", "--runs", "2", "--", *SERVE, "beam:bad", "{endpoint}"]
    assert main(command) == 1
    assert r"a tag named 'two\nlines' cannot be stored" in capsys.readouterr().err
    assert not (tmp_path / "coupled").exists()
