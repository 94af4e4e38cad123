# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reading ahead, PyTorch's loaders, and memory that does not grow with the dataset."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from unit.traces_support import part

from etalumis.layers import build
from etalumis.traces.block import Expected, join
from etalumis.traces.ragged import Ragged
from etalumis.traces.reading.cache import ChunkCache
from etalumis.traces.reading.chunks import _Index
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.loading import BatchDataset, as_batch, as_is, as_tensors
from etalumis.traces.reading.prefetch import Prefetcher, read_ahead
from etalumis.traces.reading.shard import Shard
from etalumis.traces.writer import open_shard

COUNT = 50


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    return [part(folder, number, COUNT) for number in range(2)]


def background_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_results_are_in_order_and_prefetching_is_bounded(ahead):
    begun = []

    def read(number):
        begun.append(number)
        return number**2

    for number, result in enumerate(read_ahead(read, ((i,) for i in range(20)), ahead)):
        assert result == number**2
        assert len(begun) <= number + 1 + ahead
    assert begun == list(range(20))


def test_the_next_result_is_read_while_the_current_one_is_used():
    """Reading number 1 is begun, and waited for, before number 0 is given back by its user."""
    second = threading.Event()

    def read(number):
        if number == 1:
            second.set()
        return number

    results = read_ahead(read, [(0,), (1,), (2,)], 1)
    assert next(results) == 0
    assert second.wait(30)
    assert list(results) == [1, 2]


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_is_raised_in_place_of_its_result(ahead):
    def read(number):
        if number == 3:
            raise OSError("number 3 is lost")
        return number

    results = read_ahead(read, ((i,) for i in range(9)), ahead)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="number 3 is lost"):
        next(results)
    assert background_threads() == []


def test_the_thread_ends_if_the_loop_is_left_early():
    results = read_ahead(lambda number: number, ((i,) for i in range(1000)), 4)
    assert next(results) == 0
    assert len(background_threads()) == 1
    results.close()
    assert background_threads() == []
    with Prefetcher(lambda: time.sleep(0.01)) as prefetcher:
        prefetcher.ask()
        prefetcher.ask()
        assert len(background_threads()) == 1
    assert background_threads() == []


def batches_of(loader):
    return [(batch.observation.copy(), batch.value.copy(), batch.layer.copy(), batch.offset.copy()) for batch in loader]


def assert_same_batches(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def index_lists(seed):
    rng = np.random.default_rng(seed)
    return [rows.tolist() for rows in np.array_split(rng.permutation(2 * COUNT), 9)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with fewer cores
@pytest.mark.parametrize(
    ("workers", "method", "collates"),
    [(1, "fork", (as_is, as_tensors)), (3, "fork", (as_is, as_tensors)), (1, "spawn", (as_tensors,))],
    ids=["one", "three", "spawned"],
)
def test_a_loader_gives_the_same_batches_with_any_number_of_workers(files, workers, method, collates):
    layers = build(files)
    dataset = BatchDataset(TraceDataset(files, layers), seed=5)
    dataset.set_epoch(3)
    lists = index_lists(1)
    expected = [TraceDataset(files, layers).batch(np.array(rows), (5, 3)) for rows in lists]
    alone = DataLoader(dataset, batch_sampler=lists, collate_fn=as_is)
    assert_same_batches(batches_of(alone), batches_of(expected))
    for collate in collates:
        many = DataLoader(
            dataset, batch_sampler=lists, collate_fn=collate, num_workers=workers, multiprocessing_context=method
        )
        found = [as_batch(batch) if isinstance(batch, dict) else batch for batch in many]
        assert_same_batches(batches_of(found), batches_of(expected))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_persistent_workers_see_the_next_epoch(files):
    dataset = BatchDataset(TraceDataset(files), seed=5)
    loader = DataLoader(
        dataset,
        batch_sampler=index_lists(2),
        collate_fn=as_is,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(batches_of(loader))
        expected = [dataset.traces.batch(np.array(rows), (5, epoch)) for rows in index_lists(2)]
        assert_same_batches(epochs[-1], batches_of(expected))
    assert (epochs[0][0][0] == epochs[1][0][0]).mean() < 0.01


def test_a_loader_with_samplers_of_torch(files):
    dataset = BatchDataset(TraceDataset(files))
    assert len(dataset) == 2 * COUNT
    sampler = BatchSampler(RandomSampler(dataset), batch_size=16, drop_last=False)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=as_is)
    assert [len(batch) for batch in loader] == [16] * 6 + [4]
    assert len(dataset[3]) == 1


def test_the_cache_is_bounded_and_evicts_the_least_recently_used():
    cache = ChunkCache(100)
    chunks = {number: np.full(30, number, np.uint8) for number in range(5)}
    for number in range(3):
        cache.put((0, number), chunks[number])
    assert cache.get((0, 0)) is chunks[0]
    cache.put((0, 3), chunks[3])  # 1 was used longest ago
    assert cache.get((0, 1)) is None
    assert [cache.get((0, number)) is chunks[number] for number in (0, 2, 3)] == [True] * 3
    cache.put((0, 3), chunks[3])
    cache.put((0, 4), np.zeros(101, np.uint8))
    assert cache.get((0, 4)) is None
    assert cache.nbytes == 90


def test_images_do_not_evict_columns_that_are_reused(tmp_path, monkeypatch):
    """After reading every image once with room for few, what is small is still there: none of it is inflated again."""
    path = part(tmp_path, 0, 2000)
    dataset = TraceDataset(path, cache_mb=1)
    decoded = []
    chunk = _Index.chunk

    def recorded(self, descriptor, number, shape):
        decoded.append(shape)
        return chunk(self, descriptor, number, shape)

    order = np.random.default_rng(0).permutation(len(dataset))
    for start in range(0, len(order), 100):
        dataset.batch(order[start : start + 100], (1,))
    shard = dataset._shards[0]
    small = [shard.column(name) for name in ("traces/offset", "traces/seed", "entries/flags")]
    monkeypatch.setattr(_Index, "chunk", recorded)
    for column in small:
        for number in range(column.chunks):
            column.chunk(number)
    assert decoded == []
    large = shard.column("entries/value")
    assert large.cache is not small[0].cache


READ = """
import resource, sys
from pathlib import Path
import numpy as np
from etalumis.traces.reading.chunks import _Index
from etalumis.traces.reading.dataset import TraceDataset

dataset = TraceDataset(Path(sys.argv[1]), cache_mb=4)
order = np.random.default_rng(0).permutation(len(dataset))
for indices in (np.arange(len(dataset)), order[:3_000]):
    for start in range(0, len(indices), 500):
        dataset.batch(indices[start : start + 500], (1,))
for block in dataset.blocks(1 << 22):
    len(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, dataset.index_nbytes)
"""


def peak_of_reading(path):
    result = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    peak_kb, index_bytes = map(int, result.stdout.split())
    return 1024 * peak_kb, index_bytes


def test_memory_of_reading_does_not_grow_with_the_dataset(files, tmp_path):
    """Ten thousand and sixty thousand traces, every one of them read."""
    peaks, index = {}, {}
    for copies in (10_000 // COUNT, 60_000 // COUNT):
        path = tmp_path / f"{copies}.h5"
        nbytes = write_copies(files[0], path, copies)
        peaks[copies], index[copies] = peak_of_reading(path)
    growth = max(peaks.values()) - min(peaks.values())
    assert nbytes > 50e6
    assert growth < 10e6 < 0.2 * nbytes
    assert max(index.values()) / 60_000 < 10  # bytes a trace


def write_copies(source, path, copies):
    """Write the traces of a file again and again, with images that have no zeros; return their bytes in memory."""
    rng = np.random.default_rng(6)
    with Shard(source) as shard, open_shard(path, shard.provenance) as writer:
        block = join([shard.read()] * 50)
        count, size = len(block), block.layouts[0].size
        content = {
            "step": np.tile(np.minimum(np.arange(size), 1).astype(np.uint16), count),
            "mean": rng.random(count * size, np.float32),
        }
        image = Ragged(np.arange(count + 1) * size, content)
        block.observations["calorimeter"] = Expected(image, block.observations["calorimeter"].stddev)
        for _ in range(copies // 50):
            writer.append(block)
    with Shard(path) as shard:
        return shard.nbytes
