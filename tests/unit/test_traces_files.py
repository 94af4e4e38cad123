# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause

import h5py
import numpy as np
import pytest
from unit.traces_support import DETECTOR, PROVENANCE, SHAPE, STDDEV, TraceWriter, draw, part

from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution, Normal, Uniform
from etalumis.errors import DatasetError
from etalumis.models import FunctionModel, examples, observe, sample, tag
from etalumis.trace import CONTROLLED, REPLACED
from etalumis.traces.checking.verify import verify, verify_shard
from etalumis.traces.format import file_checksum
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard
from etalumis.traces.writer import open_shard

COUNT = 60


@pytest.fixture(scope="module")
def shard_file(tmp_path_factory):
    return part(tmp_path_factory.mktemp("traces"), 0, COUNT)


def write(path, traces, **options):
    with TraceWriter(path, PROVENANCE, **options) as writer:
        for index, trace in enumerate(traces):
            writer.add(trace, 100 + index, index)
    return path


def drawn(model, count):
    addresses = AddressTable()
    return [draw(model, index, addresses) for index in range(count)]


def rewrite_header(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
        file.attrs["checksum"] = file_checksum(file)


def test_traces_round_trip(shard_file):
    dataset = TraceDataset(shard_file)
    for index, trace in enumerate(drawn(DETECTOR, COUNT)):
        stored = dataset.trace(index)
        accepted = trace.accepted
        assert stored.addresses == [trace.addresses.name(trace.address[i]) for i in accepted]
        assert stored.names == [trace.name[i] for i in accepted]
        assert stored.values == [trace.value[i] for i in accepted]
        assert stored.distributions == [trace.distribution[i] for i in accepted]
        assert stored.flags == [trace.flags[i] & (CONTROLLED | REPLACED) for i in accepted]
        assert stored.log_prior == trace.log_prior
        assert dataset.type_table[dataset.types[index]] == trace.type.hex()
        assert dataset.column("draws")[index] == len(trace)
        mean = trace.observes[0].distribution.arrays[0]
        np.testing.assert_array_equal(stored.expected["calorimeter"], mean.astype(np.float32))
        assert stored.stddev == {"calorimeter": STDDEV}
        for name, value in trace.tags.items():
            np.testing.assert_array_equal(stored.tags[name], value)


def test_rejected_repetitions_are_counted_but_not_stored(shard_file):
    dataset = TraceDataset(shard_file)
    rejected = [len(trace) - len(trace.accepted) for trace in drawn(DETECTOR, COUNT)]
    assert sum(rejected) > 0
    np.testing.assert_array_equal(dataset.column("draws") - dataset.lengths, rejected)


@pytest.mark.parametrize("name", examples.ALL)
def test_example_models_are_stored_and_verified(tmp_path, name):
    traces = drawn(examples.model(name), 30)
    dataset = TraceDataset(write(tmp_path / "t.h5", traces))
    assert verify([tmp_path / "t.h5"]) == 30
    for index, trace in enumerate(traces):
        assert dataset.trace(index).values == [trace.value[i] for i in trace.accepted]
        stored = [float(value) for value in dataset.trace(index).expected.values()]
        np.testing.assert_allclose(stored, [float(o.value) for o in trace.observes], rtol=1e-6)
    np.testing.assert_array_equal(dataset.column("log_likelihood"), [trace.log_likelihood for trace in traces])


def test_flushing_does_not_change_the_content(tmp_path):
    traces = drawn(DETECTOR, 25)
    with (
        Shard(write(tmp_path / "a.h5", traces)) as whole,
        Shard(write(tmp_path / "b.h5", traces, flush_traces=4)) as flushed,
    ):
        assert whole.checksum == flushed.checksum


def test_an_error_while_writing_leaves_no_file(tmp_path):
    def write_and_fail():
        with TraceWriter(tmp_path / "t.h5", PROVENANCE, flush_traces=2) as writer:
            for index, trace in enumerate(drawn(DETECTOR, 5)):
                writer.add(trace, index, index)
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_columns_that_disagree_under_right_checksums(shard_file, tmp_path):
    def shifted(block):
        block.traces["log_prior"] = block.traces["log_prior"] + 1e-6

    def other_type(block):
        block.traces["type"] = block.traces["type"] ^ np.uint8(1)

    def outside(block):
        block.entries.columns["value"][-1] = 3.5

    for change, column in ((shifted, "log_prior"), (other_type, "type"), (outside, "value")):
        with Shard(shard_file) as source, open_shard(tmp_path / "t.h5", PROVENANCE) as writer:
            block = source.read()
            change(block)
            writer.append(block)
        with Shard(tmp_path / "t.h5") as shard, pytest.raises(DatasetError, match=column):
            verify_shard(shard)


def test_a_tag_may_first_occur_late_and_be_absent(tmp_path):
    def model():
        x = sample(Uniform(0.0, 1.0))
        if x > 0.6:
            tag("large", x)
            tag("rows", np.ones((2, 2)))
        observe(Normal(x, 1.0), name="y")

    traces = drawn(FunctionModel(model), 40)
    dataset = TraceDataset(write(tmp_path / "t.h5", traces, flush_traces=3))
    large = dataset.tags("large")
    expected = [trace.value[0] if trace.value[0] > 0.6 else np.nan for trace in traces]
    assert 0 < np.isnan(large).sum() < 40
    np.testing.assert_array_equal(large, expected)
    np.testing.assert_array_equal(dataset.tags("rows").lengths, [0 if np.isnan(x) else 2 for x in expected])
    with pytest.raises(DatasetError, match=r"no tag 'lrge'; there are \['large', 'rows'\]"):
        dataset.tags("lrge")


def test_traces_that_cannot_be_stored_are_refused(tmp_path):
    def growing_tag():
        tag("list", np.ones(int(sample(Uniform(0.0, 9.0))) + 1))

    def changing_observation():
        x = sample(Uniform(0.0, 1.0))
        observe(Normal(x, 1.0), name="low" if x < 0.5 else "high")

    def nameless():
        observe(Normal(0.0, 1.0))

    def twice():
        for _ in range(2):
            observe(Normal(0.0, 1.0), name="y")

    for function, message in (
        (growing_tag, "tag 'list' has shape"),
        (changing_observation, "it observes"),
        (nameless, "named ''"),
        (twice, "have the same name"),
    ):
        with pytest.raises(DatasetError, match=message):
            write(tmp_path / "t.h5", drawn(FunctionModel(function), 20))


def test_large_images_use_wider_indices(tmp_path):
    def model():
        x = sample(Uniform(1.0, 2.0))
        image = np.zeros((300, 300))
        image[299, 299] = x
        observe(ArrayDistribution(Normal.code, (image, np.asarray(1.0))), name="image")

    (trace,) = drawn(FunctionModel(model), 1)
    stored = TraceDataset(write(tmp_path / "t.h5", [trace])).trace(0)
    assert stored.expected["image"][299, 299] == np.float32(trace.value[0])
    assert stored.expected["image"].shape == (300, 300)
    assert np.count_nonzero(stored.expected["image"]) == 1


def test_expected_shape_is_kept(shard_file):
    assert TraceDataset(shard_file).observation_shape == SHAPE
