# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import itertools
import json
import math
import re
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.traces_support import DETECTOR, PROVENANCE, SHAPE, STDDEV, part

from etalumis.cli import main
from etalumis.errors import DatasetError
from etalumis.figures import frequency
from etalumis.layers import LayerTable
from etalumis.models import examples
from etalumis.traces import info, observation
from etalumis.traces.format import file_checksum
from etalumis.traces.lengths import LengthCounts
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.recording.generate import generate


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return part(tmp_path_factory.mktemp("traces"), 0, 50)


def test_info_counts(file, capsys):
    assert main(["traces", "info", str(file)]) == 0
    shown = capsys.readouterr().out
    dataset = TraceDataset(file)
    assert "traces          50 in 1 file" in shown
    assert f"trace types     {len(dataset.type_table)}" in shown
    assert f"longest {dataset.lengths.max()}" in shown
    assert "calorimeter 4x6x5 (sparse-expected)" in shown
    assert "particles (rows)" in shown
    assert shown.count("█") > 20


def reference_summary(path):
    """Count types and lengths trace by trace."""
    dataset = TraceDataset(path)
    kinds = Counter(dataset.type_table[number] for number in dataset.types.tolist())
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0])), Counter(dataset.lengths.tolist())


@pytest.mark.parametrize("of_a_set", [False, True])
def test_info_as_json(file, tmp_path, capsys, of_a_set):
    path = file
    if of_a_set:
        path = tmp_path / "sorted"
        assert main(["traces", "sort", "--shard-traces", "20", "--input", str(file), "--output", str(path)]) == 0
        capsys.readouterr()
    assert main(["traces", "info", "--json", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    types, lengths = reference_summary(path)
    assert [(row["type"], row["traces"]) for row in found["trace_types"]] == types
    assert {length: count for length, count in found["lengths"]["counts"]} == lengths
    assert found["longest"] == max(lengths)
    assert found["sorted"] == of_a_set
    assert found["files"] == (3 if of_a_set else 1)
    assert found["entries"] == sum(length * count for length, count in lengths.items())
    assert found["draws"] == TraceDataset(file).column("draws").sum()
    assert found["provenance"]["model"] == "detector"
    assert found["rejected_entries"] is None
    files = sorted(path.glob("*.h5")) if of_a_set else [path]
    assert sum(found["stored_bytes"].values()) == found["file_bytes"] == sum(p.stat().st_size for p in files)
    assert found["stored_bytes"].keys() == {
        "entries", "traces", "observations/calorimeter", "tags", "dictionary", "structure",
    }  # fmt: skip
    assert min(found["stored_bytes"].values()) > 0


def test_windows_do_not_change_the_counts(file, monkeypatch):
    whole = info.summarise([file]).as_dict()
    monkeypatch.setattr(info, "_ROWS", 7)
    assert info.summarise([file]).as_dict() == whole


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_info_draws_a_figure(file, tmp_path, capsys, ending):
    target = tmp_path / f"how-often.{ending}"
    assert main(["traces", "info", str(file), "--figure", str(target)]) == 0
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert target.read_bytes().startswith(start)
    assert "50 traces of 3 types" in (tmp_path / "how-often.md").read_text()
    assert main(["traces", "info", str(file), "--figure", str(tmp_path / "x.jpg")]) == 1
    assert "expected a name that ends in .png, .pdf or .svg" in capsys.readouterr().err


def test_the_figure_of_many_traces_takes_no_more_memory():
    few = LengthCounts.of_counts({10: 3, 12: 5, 40: 1})
    many = LengthCounts.of_counts({10: 5_000_000, 12: 9_000_000, 4_000: 1_000_000})
    types = np.array([9_000_000, 5_999_999, 1])
    for lengths, scale in ((few, "linear"), (many, "log")):
        right = frequency.draw_counts(types, lengths).figure.axes[1]
        assert right.get_xscale() == right.get_yscale() == scale
        assert right.patches[0].get_data().values.sum() == len(lengths)
    caption = frequency.caption(types, many)
    assert "15,000,000 traces of 3 types" in caption
    assert f"mean {(50_000_000 + 108_000_000 + 4_000_000_000) / 15_000_000:.1f} (dashed), median 12, maximum" in caption


@given(
    st.dictionaries(st.integers(0, 5000), st.integers(1, 100), min_size=1, max_size=60),
    st.integers(1, 50),
    st.integers(1, 7),
)
def test_bins_contain_every_length_once(counts, bins, width):
    exact = LengthCounts.of_counts(counts)
    coarse = Counter()
    for length, count in counts.items():
        coarse[length // width * width] += count
    low = min(counts) // width * width  # bins of an index begin at multiples of their width
    length = np.array(sorted(coarse))
    binned = LengthCounts(length, np.array([coarse[n] for n in length.tolist()]), width, exact.entries, exact.longest)
    for lengths in (exact, binned):
        edges, found = lengths.binned(bins)
        assert np.all(np.diff(edges) > 0)
        assert len(found) == len(edges) - 1 <= bins + 2
        assert edges[0] <= min(counts)
        assert edges[-1] > max(counts)
        assert np.all((edges - low) % width == 0) or lengths is exact
        expected = [sum(n for x, n in counts.items() if a <= x < b) for a, b in itertools.pairwise(edges.tolist())]
        assert found.tolist() == expected
    assert exact.mean == pytest.approx(sum(n * c for n, c in counts.items()) / sum(counts.values()))


def test_sort_requires_the_number_of_traces_per_shard(file, tmp_path, capsys):
    call = ["traces", "sort", "--input", str(file), "--output", str(tmp_path / "sorted")]
    assert main(call) == 1
    assert "give --shard-traces N, or a --config" in capsys.readouterr().err
    assert main([*call, "--shard-traces", "20", "--memory", "7"]) == 1
    assert "--memory 7: expected 100 MB or more" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("traces: {shard_traces: 30}\n")
    assert main([*call, "--config", str(tmp_path / "config.yaml")]) == 0
    assert len(list((tmp_path / "sorted").glob("shard-*.h5"))) == 2
    merge = ["traces", "merge", "--input", str(tmp_path / "sorted"), "--output", str(tmp_path / "merged")]
    assert main([*merge, "--shard-traces", "10", "--memory", "200"]) == 0
    assert len(list((tmp_path / "merged").glob("shard-*.h5"))) == 5
    assert main([*merge, "--shard-traces", "10", "--world-size", "3"]) == 1
    assert "--world-size 3: expected this number of MPI ranks, found 1;" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["generate", "sort", "merge", "split", "convert", "info", "verify", "observation"])
def test_help_has_examples(action, capsys):
    with pytest.raises(SystemExit):
        main(["traces", action, "--help"])
    shown = capsys.readouterr().out
    assert f"etalumis traces {action} " in shown.partition("examples:")[2]


def test_verify_and_its_error(file, tmp_path, capsys):
    assert main(["traces", "verify", str(file)]) == 0
    assert "50 traces, everything in order" in capsys.readouterr().out
    half = tmp_path / "half.h5"
    half.write_bytes(file.read_bytes()[:4000])
    assert main(["traces", "verify", str(half)]) == 1
    assert "half.h5" in capsys.readouterr().err


def test_one_trace_is_reported_in_the_singular(tmp_path, capsys):
    path = tmp_path / "t.h5"
    generate(DETECTOR, path, PROVENANCE, 0, 1)
    assert main(["traces", "verify", str(path)]) == 0
    assert main(["traces", "sort", "--shard-traces", "1", "--input", str(path), "--output", f"{tmp_path}/sorted"]) == 0
    output, log = capsys.readouterr()
    assert "1 trace, everything in order" in output
    assert re.search(r"1 trace of 1 type in 1 shard, \d+ addresses", log)


def test_layers(file, tmp_path, capsys):
    for extra in ([], ["--grow", str(tmp_path / "layers.json")]):
        assert main(["layers", "--input", str(file), *extra, "--output", str(tmp_path / "layers.json")]) == 0
    assert str(tmp_path / "layers.json") in capsys.readouterr().out
    table = LayerTable.load(tmp_path / "layers.json")
    assert len(table) > 3
    assert {row.count for row in table.rows if row.name == "px"} == {100}


def test_the_observation_has_noise_and_truth(file, tmp_path):
    path = tmp_path / "observation.h5"
    command = ["traces", "observation", "--input", str(file), "--trace", "7", "--seed", "3", "--output", str(path)]
    assert main(command) == 0
    loaded, stored = observation.load(path), TraceDataset(file).trace(7)
    assert list(loaded.observed) == ["calorimeter"]
    image = loaded.observed["calorimeter"]
    np.testing.assert_array_equal(image.expected, stored.expected["calorimeter"])
    z = (image.value - image.expected) / STDDEV
    assert z.shape == SHAPE
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / z.size)
    assert loaded.truth.keys() == {"channel", "pair", "particles"}
    np.testing.assert_array_equal(loaded.truth["pair"], stored.tags["pair"])
    assert loaded.truth["particles"].shape == (int(loaded.truth["channel"]), 3)
    assert loaded.named["px"] == loaded.truth["pair"][0]
    assert loaded.latents == stored.by_address
    assert (loaded.seed, loaded.trace_seed, loaded.source) == (3, stored.seed, "train-000.h5 trace 7")
    first = path.read_bytes()
    assert main(command) == 0
    assert path.read_bytes() == first
    other = observation.draw(TraceDataset(file), 7, 4)
    assert not np.any(other.observed["calorimeter"].value == image.value)


def test_a_noisy_observation_is_used_unchanged(tmp_path):
    generate(examples.model("gaussian_unknown_mean"), tmp_path / "g.h5", PROVENANCE, 0, 5)
    dataset = TraceDataset(tmp_path / "g.h5")
    observation.save(observation.draw(dataset, 2, 1, ["obs1"]), tmp_path / "o.h5")
    loaded = observation.load(tmp_path / "o.h5")
    assert float(loaded.observed["obs1"].value) == float(dataset.trace(2).expected["obs1"])
    assert loaded.observed["obs1"].expected is None
    assert loaded.observed["obs1"].stddev is None
    assert (list(loaded.observed), loaded.left_out) == (["obs1"], ("obs0",))
    both = observation.draw(dataset, 2, 1)
    assert (list(both.observed), both.left_out) == (["obs0", "obs1"], ())
    assert both.observed["obs1"] == loaded.observed["obs1"]


def test_an_observation_file_of_version_2_is_read(file, tmp_path):
    drawn, path = observation.draw(TraceDataset(file), 7, 3), tmp_path / "o.h5"
    observation.save(drawn, path)
    with h5py.File(path, "r+") as content:
        group = content["observed/calorimeter"]
        for name in ("value", "expected"):
            content.move(f"observed/calorimeter/{name}", name)
        content.attrs["version"], content.attrs["name"], content.attrs["stddev"] = (
            2,
            "calorimeter",
            group.attrs["stddev"],
        )
        del content["observed"], content.attrs["left_out"]
        content.attrs["checksum"] = file_checksum(content)
    old = observation.load(path)
    assert old.left_out == ()
    np.testing.assert_array_equal(old.observed["calorimeter"].value, drawn.observed["calorimeter"].value)
    assert old.observed["calorimeter"].stddev == drawn.observed["calorimeter"].stddev


def test_observation_errors(file, tmp_path):
    dataset = TraceDataset(file)
    with pytest.raises(DatasetError, match="no trace 50; there are 50"):
        observation.draw(dataset, 50, 1)
    with pytest.raises(DatasetError, match=r"no observe statement 'calorimter'; it observes \['calorimeter'\]"):
        observation.draw(dataset, 0, 1, ["calorimter"])
    with pytest.raises(DatasetError, match="etalumis-observation"):
        observation.load(file)
    observation.save(observation.draw(dataset, 0, 1), tmp_path / "o.h5")
    content = (tmp_path / "o.h5").read_bytes()
    (tmp_path / "o.h5").write_bytes(content[:-20])
    with pytest.raises(DatasetError, match=r"o\.h5"):
        observation.load(tmp_path / "o.h5")


def test_generate_checks_part_and_build(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("traces:\n  jobs: 2\n")
    call = ["traces", "generate", "--config", str(tmp_path / "config.yaml"), "--simulator", str(tmp_path), "--split"]
    assert main([*call, "train", "--part", "2", "--output", str(tmp_path / "t.h5")]) == 1
    assert "has 2 parts, numbered from 0" in capsys.readouterr().err
    assert main([*call, "train", "--output", str(tmp_path / "t.h5")]) == 1
    assert "build.json: expected the record of a built simulator" in capsys.readouterr().err


@pytest.mark.parametrize(("split", "kept"), [("train", ("all", "noisy", ())), ("test", ("accepted", "expected", None))])
def test_all_entries_of_test_traces_are_kept(tmp_path, monkeypatch, split, kept):
    """The observation of the workflow is one of them; the figures draw it without noise and with its truth."""
    (tmp_path / "config.yaml").write_text("traces: {entries: all, observation: noisy, tags: []}\n")
    built = SimpleNamespace(config_digest="", build_id="", noise="", settings={})
    monkeypatch.setattr("etalumis.cli.traces.BuiltSimulator", lambda *_: built)
    monkeypatch.setattr("etalumis.cli.traces.started", lambda *_: nullcontext(SimpleNamespace(name="model")))
    recordings = []
    monkeypatch.setattr("etalumis.traces.recording.generate.generate", lambda *given: recordings.append(given[-1]))
    call = ["traces", "generate", "--config", str(tmp_path / "config.yaml"), "--simulator", "s", "--split", split]
    assert main([*call, "--output", str(tmp_path / "t.h5")]) == 0
    (recording,) = recordings
    assert (recording.entries, recording.observation, recording.tags) == kept
