# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reading against a slow reference, in every layout, by many threads and processes."""

import multiprocessing
import pickle
import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.reading_support import LAYOUTS, copy_in_layout, reference_trace
from unit.traces_altered import change_sums
from unit.traces_support import part

from etalumis.errors import DatasetError
from etalumis.layers import build
from etalumis.traces.block import Block, Expected
from etalumis.traces.ragged import Ragged
from etalumis.traces.reading import descriptor
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard

COUNT, PARTS = 40, 3
TOTAL = COUNT * PARTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    for number in range(PARTS):
        part(folder, number, COUNT)
    return folder


@pytest.fixture(scope="module")
def files(folder):
    return sorted(folder.glob("*.h5"))


@pytest.fixture(scope="module")
def small_chunks(files, tmp_path_factory):
    """The same files in chunks so small that every trace spans several."""
    folder = tmp_path_factory.mktemp("small")
    return [copy_in_layout(path, folder / path.name, 7, LAYOUTS["shuffle, gzip"]) for path in files]


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, Block):
        assert_same(one.entries, other.entries)
        assert one.traces.keys() == other.traces.keys()
        assert one.observations.keys() == other.observations.keys()
        assert one.tags.keys() == other.tags.keys()
        for mine, theirs in (
            (one.traces, other.traces),
            (one.observations, other.observations),
            (one.tags, other.tags),
        ):
            for name, column in mine.items():
                assert_same(column, theirs[name])
    elif isinstance(one, Ragged):
        np.testing.assert_array_equal(one.offset, other.offset)
        for name, column in one.columns.items():
            assert_same(column, other.columns[name])
    elif isinstance(one, Expected):
        assert_same(one.image, other.image)
        assert_same(one.stddev, other.stddev)
    else:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def assert_same_batch(one, other):
    for name in one.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def assert_is_reference(dataset, layers, files, indices, noise_scale=1.0):
    batch = dataset.batch(indices, (4, 2), noise_scale)
    assert len(batch) == len(indices)
    for i, number in enumerate(indices.tolist()):
        expected = reference_trace(files, number, (4, 2), noise_scale)
        rows = slice(batch.offset[i], batch.offset[i + 1])
        np.testing.assert_array_equal(batch.value[rows], expected["value"])
        assert batch.layer[rows].tolist() == [layers.row(address) for address in expected["address"]]
        found = [
            parameters[: len(prior) - 1]
            for parameters, prior in zip(batch.parameters[rows], expected["prior"], strict=True)
        ]
        for parameters, prior in zip(found, expected["prior"], strict=True):
            if not np.isnan(parameters).any():  # a Categorical's are in the layer table
                np.testing.assert_array_equal(parameters, prior[1:])
        np.testing.assert_allclose(batch.observation[i].reshape(-1), expected["observation"], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [2, 1000])
def test_a_batch_agrees_with_the_reference_reader(files, tmp_path, layout, rows):
    copies = [copy_in_layout(path, tmp_path / path.name, rows, LAYOUTS[layout]) for path in files]
    layers = build(copies)
    indices = np.random.default_rng(rows).integers(0, TOTAL, 6)
    for cache_mb in (0, 1):
        assert_is_reference(TraceDataset(copies, layers, cache_mb), layers, files, indices)
    for path, copy in zip(files, copies, strict=True):
        with Shard(path) as one, Shard(copy) as other:
            assert_same(one.read(), other.read())
            assert_same(one.read(5, 17), other.read(5, 17))
            other.check_content()


def test_a_batch_has_the_tags_that_are_asked_for(files, small_chunks):
    rows = np.array([5, 0, 17, 5])
    for paths in (files, small_chunks):
        dataset = TraceDataset(paths, tags=("pair", "channel"))
        expected = np.column_stack([dataset.tags("pair"), dataset.tags("channel")])[rows]
        np.testing.assert_array_equal(dataset.batch(rows, (1,)).tags, expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).batch(rows, (1,)).tags, expected)
    assert TraceDataset(files).batch(rows, (1,)).tags.shape == (4, 0)
    with pytest.raises(DatasetError, match=r"expected a tag 'spin' of fixed shape, its tags are \['channel', 'pair'"):
        TraceDataset(files, tags=("spin",))
    with pytest.raises(DatasetError, match="expected a tag 'particles' of fixed shape, it is"):
        TraceDataset(files, tags=("particles",))


def test_a_file_with_a_user_block_is_read(files, tmp_path):
    copy = copy_in_layout(files[0], tmp_path / "t.h5", 7, LAYOUTS["shuffle, gzip"], userblock=512)
    with Shard(files[0]) as one, Shard(copy) as other:
        assert_same(one.read(), other.read())


def test_chunks_may_skip_filters(files, tmp_path):
    """HDF5 lets a writer store single chunks without one filter or all, and says so in a mask."""
    path = copy_in_layout(files[0], tmp_path / "t.h5", 7, LAYOUTS["shuffle, gzip"])
    with h5py.File(path, "r+") as file:
        for name in ("entries/value", "traces/draws"):
            dataset = file[name]
            content = np.zeros(7, dataset.dtype)
            content[:] = dataset[7:14]
            dataset.id.write_direct_chunk((7,), content.tobytes(), 0b11)
            content[:] = dataset[14:21]
            shuffled = content.view(np.uint8).reshape(7, -1).T.tobytes()
            dataset.id.write_direct_chunk((14,), shuffled, 0b10)
    with Shard(files[0]) as one, Shard(path) as other:
        assert_same(one.read(), other.read())
        other.check_content()


def test_chunks_that_were_never_written_are_zeros(files, tmp_path):
    """A sparse dataset of another program is left to HDF5."""
    path = Path(shutil.copy(files[0], tmp_path / "t.h5"))
    with h5py.File(path, "r+") as file:
        del file["traces/log_likelihood"]
        sparse = file.create_dataset("traces/log_likelihood", (COUNT,), "<f8", chunks=(4,), compression="gzip")
        sparse[8:12] = 3.0
    change_sums(path, "traces/log_likelihood")
    with Shard(path) as shard:
        np.testing.assert_array_equal(shard.slice("traces/log_likelihood", 4, 14), [0] * 4 + [3] * 4 + [0] * 2)


@given(data=st.data())
def test_take_agrees_with_reading_everything(small_chunks, data):
    rows = np.array(data.draw(st.lists(st.integers(0, COUNT - 1), max_size=30)), np.int64)
    with Shard(small_chunks[1]) as shard:
        assert_same(shard.take(rows), shard.read().take(rows))


@given(bounds=st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)).map(sorted))
def test_windows_agree_with_reading_everything(small_chunks, bounds):
    with Shard(small_chunks[2]) as shard:
        assert_same(shard.read(*bounds), shard.read().take(np.arange(*bounds)))


def test_take_refuses_numbers_out_of_range(files):
    with Shard(files[0]) as shard:
        for rows in ([COUNT], [-1], [3, 700]):
            with pytest.raises(IndexError, match="from 0 to 39"):
                shard.take(np.array(rows))


def test_ids_of_rejected_entries_are_translated(files, tmp_path):
    """As the format says: /rejected cut by its own offsets, numbered by the file's dictionary."""
    path = Path(shutil.copy(files[0], tmp_path / "t.h5"))
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 4, COUNT)
    offset, size = np.concatenate([[0], np.cumsum(lengths)]), int(lengths.sum())
    columns = {
        "address": rng.integers(0, 3, size).astype("<u4"),
        "value": rng.random(size),
        "distribution": rng.integers(0, 2, size).astype("<u4"),
        "flags": np.full(size, 4, "u1"),
        "position": rng.integers(0, 3, size).astype("<u4"),
        "repetition": np.zeros(size, "<u4"),
    }
    with h5py.File(path, "r+") as file:
        for name, content in (("offset", offset), *columns.items()):
            file.create_dataset(f"rejected/{name}", data=content, chunks=(5,), shuffle=True, compression="gzip")
        names = [
            row.tobytes().decode() for row in np.split(file["addresses/content"][()], file["addresses/offset"][1:-1])
        ]
    change_sums(path, *(f"rejected/{name}" for name in ("offset", *columns)))
    with Shard(files[1]) as first, Shard(path, first.dictionary) as shard:
        block = shard.read(4, 30)
        assert block.rejected is not None
        np.testing.assert_array_equal(block.rejected.lengths, lengths[4:30])
        rows = slice(offset[4], offset[30])
        for name in ("value", "flags", "position", "repetition"):
            np.testing.assert_array_equal(block.rejected.columns[name], columns[name][rows])
        found = [shard.dictionary.addresses.name(i) for i in block.rejected.columns["address"].tolist()]
        assert found == [names[i] for i in columns["address"][rows]]
        assert_same(shard.take(np.array([9, 3])).rejected, shard.read().rejected.take(np.array([9, 3])))
        assert first.read().rejected is None


def test_threads_read_the_same_at_once(small_chunks):
    dataset = TraceDataset(small_chunks, build(small_chunks), cache_mb=1)
    orders = [np.random.default_rng(seed).permutation(TOTAL) for seed in range(4)]
    expected = [[dataset.batch(part, (1,)) for part in np.split(order, 6)] for order in orders]
    found: list[list[object]] = [[] for _ in orders]
    together = TraceDataset(small_chunks, build(small_chunks), cache_mb=1)
    errors = []

    def read(number):
        try:
            for part in np.split(orders[number], 6):
                found[number].append(together.batch(part, (1,)))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for one, other in zip(expected, found, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert_same_batch(mine, theirs)


def read_in_child(dataset, indices, connection):
    connection.send(dataset.batch(indices, (3,)))
    connection.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_reads_the_same(small_chunks, method):
    dataset = TraceDataset(small_chunks, build(small_chunks))
    indices = np.arange(0, TOTAL, 11)
    expected = dataset.batch(indices, (3,))  # files are open and chunks held when the child starts
    context = multiprocessing.get_context(method)
    mine, theirs = context.Pipe()
    child = context.Process(target=read_in_child, args=(dataset, indices, theirs))
    child.start()
    assert mine.poll(60)
    assert_same_batch(mine.recv(), expected)
    child.join(60)
    assert child.exitcode == 0
    assert_same_batch(dataset.batch(indices, (3,)), expected)


def test_a_pickled_dataset_opens_its_files_again(files, tmp_path):
    copy = Path(shutil.copy(files[0], tmp_path / "t.h5"))
    dataset = TraceDataset(copy)
    expected = dataset.batch(np.arange(5), (0,))
    content = pickle.dumps(dataset)
    assert_same_batch(pickle.loads(content).batch(np.arange(5), (0,)), expected)
    copy.unlink()
    with pytest.raises(DatasetError, match="no such trace file"):
        pickle.loads(content)


def open_files(folder):
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    return sum(folder in link.parents for link in links)


def test_files_are_opened_on_first_use_and_few_at_a_time(files, tmp_path, monkeypatch):
    monkeypatch.setattr(descriptor, "MAX_OPEN_FILES", 4)
    copies = [Path(shutil.copy(files[i % PARTS], tmp_path / f"{i}.h5")) for i in range(3)]
    datasets = [TraceDataset(copies, cache_mb=0) for _ in range(4)]
    for _ in range(2):
        for dataset in datasets:
            expected = reference_trace(copies, 81, (0,))
            found = dataset.batch(np.array([81, 1, 41]), (0,))
            np.testing.assert_array_equal(found.value[: found.offset[1]], expected["value"])
            assert 3 <= open_files(tmp_path) <= 4


def test_a_file_that_is_replaced_while_it_is_read_is_refused(files, tmp_path):
    copy = Path(shutil.copy(files[0], tmp_path / "t.h5"))
    with Shard(copy) as shard:
        shard.close()
        shutil.copy(files[1], tmp_path / "other.h5")
        (tmp_path / "other.h5").replace(copy)
        with pytest.raises(DatasetError, match=r"t\.h5: the file was replaced or altered while"):
            shard.read()


def test_blocks_are_windows_of_bounded_size(files):
    dataset = TraceDataset(files)
    blocks = list(dataset.blocks(nbytes=5_000))
    assert len(blocks) > 2 * PARTS
    assert max(len(block) for block in blocks) < COUNT
    for name in ("seed", "log_prior"):
        np.testing.assert_array_equal(np.concatenate([block.traces[name] for block in blocks]), dataset.column(name))
    assert sum(len(block) for block in blocks) == len(dataset) == TOTAL
    np.testing.assert_array_equal(np.concatenate([block.entries.lengths for block in blocks]), dataset.lengths)
