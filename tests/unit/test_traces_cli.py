# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import math

import numpy as np
import pytest
from unit.traces_support import PROVENANCE, SHAPE, STDDEV, part

from etalumis.cli import main
from etalumis.errors import DatasetError
from etalumis.layers import LayerTable
from etalumis.models import examples
from etalumis.traces import observation
from etalumis.traces.generate import generate
from etalumis.traces.reader import TraceDataset


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return part(tmp_path_factory.mktemp("traces"), 0, 50)


def test_info_counts_what_there_is(file, capsys):
    assert main(["traces", "info", str(file)]) == 0
    shown = capsys.readouterr().out
    dataset = TraceDataset(file)
    assert "traces          50 in 1 file" in shown
    assert f"trace types     {len(dataset.type_table)}" in shown
    assert f"longest {dataset.lengths.max()}" in shown
    assert "calorimeter 4x6x5 (sparse-expected)" in shown
    assert "particles (rows)" in shown
    assert shown.count("█") > 20


def test_verify_and_its_error(file, tmp_path, capsys):
    assert main(["traces", "verify", str(file)]) == 0
    assert "50 traces, everything in order" in capsys.readouterr().out
    half = tmp_path / "half.h5"
    half.write_bytes(file.read_bytes()[:4000])
    assert main(["traces", "verify", str(half)]) == 1
    assert "half.h5" in capsys.readouterr().err


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
    assert loaded.name == "calorimeter"
    np.testing.assert_array_equal(loaded.expected, stored.expected["calorimeter"])
    z = (loaded.value - loaded.expected) / STDDEV
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
    assert not np.any(other.value == loaded.value)


def test_an_observation_stored_noisy_is_taken_as_it_is(tmp_path):
    generate(examples.model("gaussian_unknown_mean"), tmp_path / "g.h5", PROVENANCE, 0, 5)
    dataset = TraceDataset(tmp_path / "g.h5")
    with pytest.raises(DatasetError, match="say which with --name"):
        observation.draw(dataset, 0, 1)
    drawn = observation.draw(dataset, 2, 1, "obs1")
    observation.save(drawn, tmp_path / "o.h5")
    loaded = observation.load(tmp_path / "o.h5")
    assert float(loaded.value) == float(dataset.trace(2).expected["obs1"])
    assert loaded.expected is None
    assert loaded.stddev is None


def test_observation_errors(file, tmp_path):
    dataset = TraceDataset(file)
    with pytest.raises(DatasetError, match="no trace 50; there are 50"):
        observation.draw(dataset, 50, 1)
    with pytest.raises(DatasetError, match=r"nothing is observed as 'calorimter'; it observes \['calorimeter'\]"):
        observation.draw(dataset, 0, 1, "calorimter")
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
