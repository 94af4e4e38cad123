# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import shutil
from collections import Counter

import numpy as np
import pytest
from unit.traces_support import PROVENANCE, part

from etalumis.errors import DatasetError
from etalumis.traces.checking.verify import verify
from etalumis.traces.index import length_histogram, read_index
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.recording.generate import generate
from etalumis.traces.sorting.sort import sort

SHARD = 25


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    return [part(folder, number, 40) for number in range(3)]


@pytest.fixture(scope="module")
def ordered(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sorted") / "train"
    sort(files, folder, SHARD)
    return folder


def content(dataset, index):
    trace = dataset.trace(index)
    tags = {name: value.tolist() for name, value in trace.tags.items()}
    images = {name: value.tobytes() for name, value in trace.expected.items()}
    return trace.seed, tuple(zip(trace.addresses, trace.values, trace.flags, strict=True)), str(tags), str(images)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sorting_keeps_all_traces_unchanged(files, ordered):
    before, after = TraceDataset(files), TraceDataset(ordered)
    assert Counter(content(before, i) for i in range(120)) == Counter(content(after, i) for i in range(120))
    assert verify([ordered]) == 120


def test_the_order_is_frequency_then_type_then_length_then_seed(ordered):
    dataset = TraceDataset(ordered)
    names = [dataset.type_table[number] for number in dataset.types]
    frequency = Counter(names)
    seeds = dataset.column("seed").tolist()
    keys = [(-frequency[n], n, length, s) for n, length, s in zip(names, dataset.lengths.tolist(), seeds, strict=True)]
    assert keys == sorted(keys)
    assert len(frequency) == 3


def test_the_index_has_the_totals(ordered, files):
    index = read_index(ordered / "index.json")
    dataset = TraceDataset(files)
    assert [shard["traces"] for shard in index["shards"]] == [25, 25, 25, 25, 20]
    assert index["traces"] == sum(row["traces"] for row in index["types"]) == 120
    assert index["entries"] == sum(shard["entries"] for shard in index["shards"]) == dataset.lengths.sum()
    assert index["addresses"] == len(dataset.addresses)
    assert {row["type"] for row in index["types"]} == set(dataset.type_table)
    assert (index["simulator_build_id"], index["config_digest"]) == ("b0", "c0")
    assert [shard["bytes"] for shard in index["shards"]] == [
        (ordered / shard["file"]).stat().st_size for shard in index["shards"]
    ]


def test_the_index_has_the_positions_of_types(ordered):
    index, dataset = read_index(ordered / "index.json"), TraceDataset(ordered)
    names, lengths = [dataset.type_table[number] for number in dataset.types], dataset.lengths.tolist()
    for row in index["types"]:
        places = [place for place, name in enumerate(names) if name == row["type"]]
        assert places == list(range(row["first"], row["first"] + row["traces"]))
        assert row["shards"] == [places[0] // SHARD, places[-1] // SHARD]
        assert row["lengths"] == [min(lengths[i] for i in places), max(lengths[i] for i in places)]
    assert index["lengths"] == {"width": 1, "counts": [list(row) for row in sorted(Counter(lengths).items())]}


def test_many_lengths_are_counted_in_bins():
    lengths = np.array([5, 5000, 12, 5, *range(20, 3000)])
    found = length_histogram(lengths, np.ones(len(lengths), np.int64))
    assert len(found["counts"]) <= 1000
    expected = Counter(length // found["width"] * found["width"] for length in lengths.tolist())
    assert found["counts"] == [list(row) for row in sorted(expected.items())]


def test_neither_input_order_nor_memory_changes_the_bytes(files, ordered, tmp_path):
    sort(files[::-1], tmp_path / "reversed", SHARD)
    assert files_of(tmp_path / "reversed") == files_of(ordered)
    # resorting the sorted dataset gives the same traces in the same places, whatever shards they came from
    sort([ordered], tmp_path / "again", SHARD)
    shards = {name: value for name, value in files_of(tmp_path / "again").items() if name.startswith("shard")}
    assert shards == {name: value for name, value in files_of(ordered).items() if name.startswith("shard")}


def test_a_second_call_does_nothing_and_an_incomplete_one_is_resumed(files, ordered, tmp_path):
    folder = shutil.copytree(ordered, tmp_path / "sorted")
    sort(files, folder, SHARD)
    assert files_of(folder) == files_of(ordered)
    (folder / "index.json").unlink()
    (folder / "shard-00002.h5").unlink()
    (folder / ".shard-00003.h5.abc.tmp").write_text("half")
    damaged = folder / "shard-00001.h5"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    kept = (folder / "shard-00000.h5").stat().st_mtime_ns
    sort(files, folder, SHARD)
    assert files_of(folder) == files_of(ordered)
    assert (folder / "shard-00000.h5").stat().st_mtime_ns == kept


def test_files_of_an_interrupted_call_with_other_inputs_are_replaced(files, ordered, tmp_path):
    folder = shutil.copytree(ordered, tmp_path / "sorted")
    (folder / "index.json").unlink()
    sort(files[:2], folder, SHARD)
    assert len(TraceDataset(folder)) == 80
    assert len(list(folder.glob("shard-*"))) == 4


def test_foreign_and_other_finished_folders_are_refused(files, ordered, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"not empty \(it holds notes\.txt\)"):
        sort(files, tmp_path, SHARD)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    before = files_of(ordered)
    with pytest.raises(DatasetError, match="contains other traces or shards of another size"):
        sort(files[:2], ordered, SHARD)
    assert files_of(ordered) == before


def test_duplicate_traces_are_refused(files, tmp_path):
    twin = shutil.copy(files[1], tmp_path / "twin.h5")
    with pytest.raises(DatasetError, match=r"train-001\.h5 and .*twin\.h5: 40 traces are in the dataset twice"):
        sort([*files, twin], tmp_path / "sorted", SHARD)
    other_name = tmp_path / "by-another-name.h5"
    other_name.symlink_to(files[0])
    for again in (files[0], files[0].parent / ".." / files[0].parent.name / files[0].name, other_name):
        with pytest.raises(DatasetError, match="given twice"):
            sort([files[0], again], tmp_path / "sorted", SHARD)
    assert not (tmp_path / "sorted").exists()


def test_sorting_again_rewrites_a_damaged_index(files, ordered, tmp_path, caplog):
    folder = shutil.copytree(ordered, tmp_path / "sorted")
    index = folder / "index.json"
    text = index.read_text()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    for damaged in (text.replace('"model": "detector"', '"model": "Detector"'), text[:200]):
        assert damaged != text
        index.write_text(damaged)
        caplog.clear()
        with pytest.raises(DatasetError, match=r"index\.json: .*; sort the traces again"):
            sort(files[:2], folder, SHARD)  # another set
        assert index.read_text() == damaged
        sort(files, folder, SHARD)
        assert "writing it again" in caplog.text
        assert files_of(folder) == files_of(ordered)
        assert {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")} == kept


def test_tags_that_some_inputs_lack_are_absent_there(files, tmp_path):
    from unit.traces_support import detector

    from etalumis.models import FunctionModel, tag

    def tagging():
        tag("late", 1.0)
        return detector()

    generate(FunctionModel(tagging, "detector"), tmp_path / "more.h5", PROVENANCE, 500, 10)
    sort([files[0], tmp_path / "more.h5"], tmp_path / "sorted", 50)
    late = TraceDataset(tmp_path / "sorted").tags("late")
    assert np.isnan(late).sum() == 40
    assert np.nansum(late) == 10
