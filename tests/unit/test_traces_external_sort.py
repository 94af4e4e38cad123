# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sorting in little memory, by several ranks, of any files, against a slow sorting of everything in memory."""

import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.sort_support import PROVENANCE, Threads, bytes_of, random_files, slow_sort

from etalumis.errors import DatasetError, StorageError
from etalumis.files import locked
from etalumis.traces.reading.shard import Shard
from etalumis.traces.segments import Segment
from etalumis.traces.sorting import order as sort_order
from etalumis.traces.sorting import sort as sort_module
from etalumis.traces.sorting import sort_plan as sort_plan
from etalumis.traces.sorting.collective import SingleRank
from etalumis.traces.sorting.input_reader import InputReader
from etalumis.traces.sorting.inputs import Portion, SortInputs
from etalumis.traces.sorting.keys import Groups, RankKeys
from etalumis.traces.sorting.sort import sort
from etalumis.traces.sorting.splitters import select
from etalumis.traces.writer import open_shard

IN_MEMORY = 10**9


@pytest.fixture
def limits(monkeypatch):
    """Set how many bytes of traces a rank may hold, and how many traces are appended at a time."""

    def set_limits(segment_bytes, slice_traces=4, portion_traces=1 << 18, stretch=1):
        monkeypatch.setattr(sort_module, "segment_bytes", lambda memory_mb, traces: segment_bytes)
        monkeypatch.setattr(sort_order, "_MIN_DIRECT_READ_TRACES", stretch)
        monkeypatch.setattr(sort_order, "_EXCHANGE_BATCH_TRACES", 20)
        monkeypatch.setattr(sort_plan, "SLICE_TRACES", slice_traces)
        monkeypatch.setattr(sort_plan, "PORTION_TRACES", portion_traces)

    return set_limits


def sort_on(ranks, files, output, shard_traces, step=sort):
    Threads(ranks).run(lambda comm: step(files, output, shard_traces, comm=comm))


@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=3).filter(sum),
    shard_traces=st.integers(1, 60),
    segment_bytes=st.sampled_from([1, 700, 4000, IN_MEMORY]),
    portion_traces=st.sampled_from([5, 1 << 18]),
    ranks=st.integers(1, 4),
    rejected=st.booleans(),
    crowded=st.booleans(),
)
def test_sorting_agrees_with_the_reference_for_any_memory_and_ranks(
    tmp_path_factory, limits, seed, counts, shard_traces, segment_bytes, portion_traces, ranks, rejected, crowded
):
    folder = tmp_path_factory.mktemp("any")
    shard_traces = max(shard_traces, sum(counts) // 4)
    limits(segment_bytes, portion_traces=portion_traces)
    files = random_files(folder, seed, counts, rejected, spread=sum(counts) if crowded else None)
    slow_sort(files, folder / "slow", shard_traces)
    sort_on(ranks, files, folder / "sorted", shard_traces)
    assert bytes_of(folder / "sorted", "shard-*") == bytes_of(folder / "slow")
    assert sorted(p.name for p in (folder / "sorted").iterdir() if p.suffix != ".h5") == ["index.json", "plan.json"]
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(("segment_bytes", "ranks"), [(IN_MEMORY, 1), (2000, 1), (2000, 3)])
def test_merging_equals_sorting_everything_at_once(tmp_path, limits, segment_bytes, ranks, monkeypatch):
    limits(IN_MEMORY)
    files = random_files(tmp_path, 3, [50, 60, 40, 30])
    sort(files, tmp_path / "at-once", 50)
    sort(files[:1], tmp_path / "one", 40)
    sort(files[1:3], tmp_path / "two", 60)
    inputs = [tmp_path / "two", files[3], tmp_path / "one" / "index.json"]
    before = {path: bytes_of(path) for path in (tmp_path / "one", tmp_path / "two")}
    limits(segment_bytes)
    spilled = []
    monkeypatch.setattr(sort_module.FirstPass, "_write", recording_calls(spilled, sort_module.FirstPass._write))
    sort_on(ranks, inputs, tmp_path / "merged", 50)
    expected, found = bytes_of(tmp_path / "at-once"), bytes_of(tmp_path / "merged")
    assert expected.pop("plan.json") != found.pop("plan.json")  # it names the inputs
    assert found == expected
    assert {path: bytes_of(path) for path in before} == before
    if segment_bytes == IN_MEMORY:
        assert not spilled
    else:  # only the file that was not sorted goes through a spill file
        assert {inputs_file(inputs, portion) for portion in spilled} == {files[3]}


def recording_calls(seen, method):
    def recorded(self, path, portion, max_bytes):
        seen.append(portion)
        return method(self, path, portion, max_bytes)

    return recorded


def inputs_file(paths, portion):
    return SortInputs(paths).files[portion.file].path


def test_large_sets_are_sorted_in_loads_of_bounded_memory(tmp_path, limits, monkeypatch):
    limits(3000)
    files = random_files(tmp_path, 5, [80, 70])
    loads = []
    allocate = Segment.allocate

    def recorded(schema, traces, rows):
        loads.append(schema.nbytes(traces, rows))
        return allocate(schema, traces, rows)

    monkeypatch.setattr(Segment, "allocate", recorded)
    sort(files, tmp_path / "sorted", 50)
    # sizes of buckets are estimated from the mean of each group: 250 bytes per trace, at most 4 traces too many
    assert len(loads) > 10
    assert max(loads) < 3000 + 4 * 300


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_keys_at_any_position_are_found(tmp_path, ranks):
    files = random_files(tmp_path, 8, [70, 50, 30], spread=80)
    inputs = SortInputs(files)
    portions = [Portion(number, 0, file.traces) for number, file in enumerate(inputs.files)]
    groups = Groups(RankKeys(InputReader(inputs), portions).counts)
    with_groups = sorted(
        (int(group), seed) for path in files for group, seed in zip(*keys_of(path, groups), strict=True)
    )

    def check(comm):
        keys = RankKeys(InputReader(inputs), portions[comm.Get_rank() :: ranks])
        found = select(keys.seeds(groups), groups, range(150), comm)
        assert list(zip(found.groups.tolist(), found.seeds.tolist(), strict=True)) == with_groups
        places = found.buckets(found.groups, found.seeds)
        assert places.tolist() == list(range(1, 151))  # the bucket behind each splitter begins with it

    Threads(ranks).run(check)


def keys_of(path, groups):
    with Shard(path) as shard:
        types, seeds = shard.whole("traces/type"), shard.whole("traces/seed")
        return groups.ranks_of(types, np.diff(shard.whole("traces/offset"))), seeds.tolist()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("segment_bytes", [2000, IN_MEMORY])
def test_duplicate_traces_are_found_on_any_rank(tmp_path, limits, ranks, segment_bytes):
    limits(segment_bytes)
    files = random_files(tmp_path, 4, [40, 30, 50])
    with Shard(files[2]) as shard, open_shard(tmp_path / "again.h5", shard.provenance) as writer:
        writer.append(shard.read(10, 17))
    with pytest.raises(DatasetError, match=r"part-002\.h5 and .*again\.h5: 7 traces are in the dataset twice"):
        sort_on(ranks, [*files, tmp_path / "again.h5"], tmp_path / "sorted", 25)
    assert not (tmp_path / "sorted").exists()


@pytest.mark.parametrize(
    ("ranks", "segment_bytes", "portion_traces", "first"),
    [(1, 2000, 1 << 18, 0), (1, 2000, 20, 1), (2, 2000, 20, 2), (2, IN_MEMORY, 1 << 18, 3), (1, IN_MEMORY, 20, 4)],
)
def test_an_altered_input_leaves_nothing_behind(tmp_path, limits, ranks, segment_bytes, portion_traces, first):
    limits(segment_bytes, portion_traces=portion_traces)
    files = random_files(tmp_path, 6, [60, 50], rejected=True)
    with h5py.File(files[1]) as file:
        columns = []
        file.visititems(lambda name, item: columns.append(name) if isinstance(item, h5py.Dataset) else None)
    content = files[1].read_bytes()
    for column in columns[first::10]:
        with h5py.File(files[1], "r+") as file:
            # a valid chunk with another value: only the checksum of the column knows
            values = file[column][()]
            values.reshape(-1).view(np.uint8)[-1] ^= 1
            file[column][...] = values
        with pytest.raises(DatasetError, match=r"part-001\.h5.*"):
            sort_on(ranks, files, tmp_path / "sorted", 25)
        assert not (tmp_path / "sorted").exists(), column
        files[1].write_bytes(content)


def test_an_altered_sorted_input_is_found_before_anything_is_written(tmp_path, limits):
    limits(2000)
    files = random_files(tmp_path, 6, [60, 50])
    sort(files, tmp_path / "set", 110)
    shard = tmp_path / "set" / "shard-00000.h5"
    with h5py.File(shard, "r+") as file:
        file["tags/momentum"][100] = 0
    with pytest.raises(DatasetError, match=r"shard-00000\.h5: column 'tags/momentum' was altered"):
        sort([tmp_path / "set"], tmp_path / "merged", 25)
    assert not (tmp_path / "merged").exists()


def test_other_builds_are_mixed_only_on_request(tmp_path, limits):
    limits(2000)
    mine, other = random_files(tmp_path, 2, [30]), tmp_path / "other.h5"
    (tmp_path / "more").mkdir()
    with Shard(random_files(tmp_path / "more", 3, [20])[0]) as shard:
        source = replace(PROVENANCE, simulator_build_id="b1", settings='{"noise_gev": 0.2}')
        with open_shard(other, source) as writer:
            writer.append(shard.read())
    with pytest.raises(DatasetError, match=r"other\.h5: its simulator_build_id is 'b1'.*noise_gev: 0\.2"):
        sort([*mine, other], tmp_path / "sorted", 20)
    sort([*mine, other], tmp_path / "sorted", 20, mix=True)
    with Shard(tmp_path / "sorted" / "shard-00000.h5") as shard:
        assert shard.provenance.simulator_build_id == "mixed"
    # a set that is mixed is one set: it needs no request when it is read or sorted again
    sort([tmp_path / "sorted"], tmp_path / "again", 20)
    assert bytes_of(tmp_path / "again", "shard-*") == bytes_of(tmp_path / "sorted", "shard-*")


def test_inputs_without_traces_are_refused(tmp_path):
    with open_shard(tmp_path / "empty.h5", PROVENANCE):
        pass
    with pytest.raises(DatasetError, match=r"empty\.h5: the inputs contain no traces"):
        sort([tmp_path / "empty.h5"], tmp_path / "sorted", 20)
    assert not (tmp_path / "sorted").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_two_sorts_into_one_folder_are_refused(tmp_path, ranks):
    files = random_files(tmp_path, 2, [30])
    with (
        locked(tmp_path / "sorted", "sorting into"),
        pytest.raises(DatasetError, match=r"sorted: process \d+ is sorting into it at the moment"),
    ):
        sort_on(ranks, files, tmp_path / "sorted", 20)
    assert not (tmp_path / "sorted").exists()
    sort_on(ranks, files, tmp_path / "sorted", 20)


FULL = """
import resource, signal, sys
from pathlib import Path
from etalumis.errors import StorageError
from etalumis.traces.sorting.sort import sort
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
try:
    sort([Path(p) for p in sys.argv[4:]], Path(sys.argv[2]), 700, int(sys.argv[3]))
except StorageError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("max_bytes", "memory_mb", "stopped"), [(60_000, 1, "spill-00000.raw"), (60_000, 500, "shard-00000.h5")]
)
def test_a_full_disk_is_reported_and_the_same_command_resumes(tmp_path, max_bytes, memory_mb, stopped):
    files = random_files(tmp_path, 7, [1000, 900])
    before = [path.read_bytes() for path in files]
    output = tmp_path / "sorted"

    def run(limit):
        command = [sys.executable, "-c", FULL, str(limit), output, str(memory_mb), *files]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = run(max_bytes)
    assert done.returncode == 1
    assert stopped in done.stderr
    assert "File too large" in done.stderr or "errno = 27" in done.stderr
    assert "MB for spill files and shards" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in output.iterdir()] == ["plan.json"]
    assert [path.read_bytes() for path in files] == before
    done = run(resource.RLIM_INFINITY)
    assert done.returncode == 0, done.stderr
    sort(files, tmp_path / "undisturbed", 700)
    assert bytes_of(output) == bytes_of(tmp_path / "undisturbed")


def test_a_shard_is_the_same_for_any_grouping_of_its_traces_into_files(tmp_path, limits):
    limits(2000)
    files = random_files(tmp_path, 9, [60, 50])
    parts = []
    for path in files:
        with Shard(path) as shard:
            for number, rows in enumerate(np.array_split(np.random.default_rng(0).permutation(len(shard)), 3)):
                parts.append(tmp_path / f"{path.stem}-{number}.h5")
                with open_shard(parts[-1], shard.provenance) as writer:
                    writer.append(shard.read().take(rows))
    sort(files, tmp_path / "one", 25, comm=SingleRank())
    sort(parts[::-1], tmp_path / "other", 25)
    assert bytes_of(tmp_path / "one", "shard-*") == bytes_of(tmp_path / "other", "shard-*")
    assert bytes_of(tmp_path / "one", "index.json") == bytes_of(tmp_path / "other", "index.json")


def test_a_folder_of_another_sort_is_refused(tmp_path, limits):
    limits(2000)
    files = random_files(tmp_path, 9, [60, 50])
    sort(files, tmp_path / "sorted", 25)
    before = bytes_of(tmp_path / "sorted")
    with pytest.raises(DatasetError, match="shards of another size"):
        sort(files, tmp_path / "sorted", 30)
    with pytest.raises(StorageError, match="is a file; expected a folder"):
        sort(files, files[0], 30)
    (tmp_path / "sorted" / "shard-00001.h5").unlink()
    with pytest.raises(DatasetError, match=r"shard-00001\.h5: missing, but listed in .*index\.json"):
        sort(files, tmp_path / "sorted", 25)
    shutil.rmtree(tmp_path / "sorted")
    sort(files, tmp_path / "sorted", 25)
    assert bytes_of(tmp_path / "sorted") == before


@pytest.mark.parametrize(("ranks", "again"), [(1, []), (2, ["part-000.h5"]), (3, ["part-000.h5"])])
def test_only_a_file_divided_between_ranks_is_read_again(tmp_path, limits, monkeypatch, ranks, again):
    limits(2000, portion_traces=20)
    files = random_files(tmp_path, 5, [90])
    seen = []
    check_content = Shard.check_content

    def recorded(self):
        seen.append(self.path)
        check_content(self)

    monkeypatch.setattr(Shard, "check_content", recorded)
    sort_on(ranks, files, tmp_path / "sorted", 30)
    assert [path.name for path in seen] == again


PEAK = """
import sys
from pathlib import Path
from etalumis.traces.sorting.sort import sort
sort([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), 20_000, 20)
# ru_maxrss would be that of the process which started this one, where that is larger
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_number_of_traces(tmp_path):
    files = random_files(tmp_path, 1, [25_000] * 8)

    def peak_mb(count):
        command = [sys.executable, "-c", PEAK, tmp_path / f"of-{count}", *files[:count]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return int(done.stdout) / 1000

    with Shard(files[0]) as shard:
        more_mb = 6 * shard.nbytes / 1e6
    assert more_mb > 30
    # both are more than the segment of 20 MB / 4 * 0.7 may hold; the keys are 20 bytes of a trace, that is 3 MB
    assert peak_mb(8) - peak_mb(2) < more_mb / 3
