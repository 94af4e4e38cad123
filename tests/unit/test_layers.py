# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import json
from collections import Counter

import pytest
from system_errors import fail_to_find, fail_to_read
from unit.traces_support import DETECTOR, PROVENANCE, SHAPE, STDDEV, draw, part

from etalumis.address import AddressTable
from etalumis.errors import DatasetError, StorageError
from etalumis.layers import LayerRow, LayerTable, ObservationLayout, TagInput, build
from etalumis.models import examples
from etalumis.traces.recording.generate import generate

COUNT = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    return [part(folder, number, COUNT // 2) for number in range(2)]


def test_rows_are_the_controlled_addresses_with_their_counts(files):
    addresses = AddressTable()
    traces = [draw(DETECTOR, index, addresses) for index in range(COUNT)]
    expected = Counter(addresses.name(trace.address[i]) for trace in traces for i in trace.controlled)
    table = build(files)
    assert {row.address: row.count for row in table.rows} == expected
    assert [row.address for row in table.rows] == sorted(expected)
    assert all(table.row(row.address) == position for position, row in enumerate(table.rows))
    by_name = {row.name: row for row in table.rows if row.name}
    assert (by_name["channel"].kind, by_name["channel"].categories) == ("Categorical", 3)
    assert (by_name["px"].kind, by_name["px"].categories) == ("Uniform", 0)
    assert "Normal" not in {row.kind for row in table.rows}  # the uncontrolled draw
    assert table.row("elsewhere__Uniform__1") == -1


def test_the_observation_is_described(files, tmp_path):
    table = build(files)
    assert table.observations == (ObservationLayout("calorimeter", SHAPE, STDDEV),)
    assert (table.observation_name, table.observation_shape) == ("calorimeter", SHAPE)
    assert table.simulator_build_id == "b0"
    generate(examples.model("gaussian_unknown_mean"), tmp_path / "g.h5", PROVENANCE, 0, 5)
    pair = build([tmp_path / "g.h5"])
    assert (pair.observation_name, pair.observation_shape) == ("obs0,obs1", (2,))
    assert [layout.stddev for layout in pair.observations] == [None, None]
    one = pair.observing(["obs1"])
    assert (one.observation_name, one.observation_shape, one.rows) == ("obs1", (), pair.rows)
    with pytest.raises(DatasetError, match=r"no observe statement 'obs2'; they have \['obs0', 'obs1'\]"):
        pair.observing(["obs2"])


def test_the_order_of_files_does_not_matter(files):
    assert build(files).rows == build(files[::-1]).rows


def test_saving_and_loading(files, tmp_path):
    table = build(files)
    table.save(tmp_path / "layers.json")
    loaded = LayerTable.load(tmp_path / "layers.json")
    assert (loaded.rows, loaded.observations, loaded.digest) == (table.rows, table.observations, table.digest)
    assert loaded.tags == table.tags


def test_tags_of_fixed_shape_are_listed(files):
    """The number of rows of `particles` varies."""
    table = build(files)
    assert table.tags == (TagInput("channel", ()), TagInput("pair", (2,)))
    assert table.grow(build(files[:1])).tags == table.tags
    without = LayerTable(table.rows, table.observations, tags=[TagInput("pair", (2,))])
    assert table.grow(without).tags == (TagInput("pair", (2,)),)
    assert without.digest == table.digest


def test_growing_keeps_the_old_rows(files):
    few, all_rows = build(files[:1]), build(files)
    extra = LayerRow("zz__Poisson__1", "n", "Poisson", 0, 4)
    other = LayerTable([extra, *all_rows.rows[::-1]], all_rows.observations)
    grown = few.grow(other)
    assert [row.address for row in grown.rows[: len(few)]] == [row.address for row in few.rows]
    assert grown.row(extra.address) >= len(few)
    first = few.rows[0]
    assert grown.rows[0].count == first.count + all_rows.rows[all_rows.row(first.address)].count
    assert grown.digest != few.digest
    with pytest.raises(DatasetError, match="layer tables of different observations"):
        few.grow(LayerTable([], [ObservationLayout("other", (1,), None)]))


@pytest.mark.parametrize("fail", [fail_to_read, fail_to_find])
def test_an_error_of_the_system_is_not_called_damage(files, tmp_path, fail):
    build(files).save(tmp_path / "layers.json")
    reason = fail(tmp_path / "layers.json")
    with pytest.raises(StorageError, match=rf"layers\.json: cannot be read \({reason}\).* not damage"):
        LayerTable.load(tmp_path / "layers.json")


def test_damaged_tables_are_refused(files, tmp_path):
    path = tmp_path / "layers.json"
    with pytest.raises(DatasetError, match="no such layer table"):
        LayerTable.load(path)
    path.write_text("{")
    with pytest.raises(DatasetError, match="not a readable layer table"):
        LayerTable.load(path)
    build(files).save(path)
    content = json.loads(path.read_text())
    changes = (
        ({"version": 2}, "expected 'etalumis-layers' version 1"),
        ({"rows": content["rows"][1:]}, "the file was altered"),
        ({"rows": content["rows"] + content["rows"][:1]}, "two rows"),
        ({"rows": [{"address": "a"}]}, "not a complete layer table"),
    )
    for change, message in changes:
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(DatasetError, match=message):
            LayerTable.load(path)
