# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Damaged files, and files with wrong content under valid checksums: readers name file, column and trace.

That every verb refuses them as well is tested in test_traces_bad_files.py.
"""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from unit.reading_support import LAYOUTS, copy_in_layout
from unit.traces_altered import change_column, put
from unit.traces_support import part

from etalumis.errors import DatasetError
from etalumis.traces.checking.verify import verify
from etalumis.traces.plain.export import to_plain
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard

COUNT = 60
ROWS = 16
DICTIONARY = ("addresses/", "names/", "distributions/")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A trace file whose chunks are small, so that every column has several."""
    folder = tmp_path_factory.mktemp("traces")
    return copy_in_layout(part(folder, 0, COUNT), folder / "small.h5", ROWS, LAYOUTS["shuffle, gzip"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trace file as it is written."""
    return part(tmp_path_factory.mktemp("whole"), 0, COUNT)


def columns_of(path):
    with Shard(path) as shard:
        return shard.columns


def chunks_of(path, name):
    """Return (first row, place, size) of every chunk."""
    found = []
    with h5py.File(path) as file:
        file[name].id.chunk_iter(lambda s: found.append((s.chunk_offset[0], s.byte_offset, s.size)))
    return found


def flip(path, place, bit):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def trace_of(path, name, row):
    """Return the trace that a row belongs to, from the offsets as HDF5 reads them."""
    group = name.rpartition("/")[0]
    with h5py.File(path) as file:
        if name.endswith("/offset") or len(file[name]) == COUNT:
            return min(row, COUNT - 1)
        offset = file["traces/offset" if group == "entries" else f"{group}/offset"][()]
    return max(trace for trace in range(COUNT) if offset[trace] <= row)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(whole, tmp_path, share):
    content = whole.read_bytes()
    path = tmp_path / "t.h5"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=r"t\.h5.*truncated, altered or not a valid trace file"):
        TraceDataset(path)


def test_an_altered_byte_of_a_file_is_found_or_harmless(whole, tmp_path):
    content = whole.read_bytes()
    expected = {name: np.asarray(h5py.File(whole)[name][()]) for name in Shard(whole).columns}
    rng = np.random.default_rng(5)
    found = 0
    for position in rng.choice(len(content), 30, replace=False).tolist():
        altered = bytearray(content)
        altered[position] ^= 1 << int(rng.integers(8))
        path = tmp_path / "t.h5"
        path.write_bytes(altered)
        try:
            verify([path])
        except DatasetError as error:
            assert "t.h5" in str(error)  # noqa: PT017 - both outcomes are right, the message must name the file
            found += 1
        else:
            with h5py.File(path) as file:
                for name, column in expected.items():
                    np.testing.assert_array_equal(file[name][()], column)
    assert found > 2


def test_an_altered_bit_of_any_chunk_is_found_and_named(file, tmp_path):
    """Or it is one of the few bits that fill up the last byte of what is deflated, and nothing is altered."""
    rng = np.random.default_rng(3)
    content, path, harmless, chunks = file.read_bytes(), tmp_path / "t.h5", 0, 0
    with Shard(file) as sound:
        for name in sound.columns:
            several = len(chunks_of(file, name)) > 1 and not name.startswith(DICTIONARY)
            for first, place, size in chunks_of(file, name):
                chunks += 1
                altered = bytearray(content)
                altered[place + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
                path.write_bytes(altered)
                where = f", from trace {trace_of(file, name, first)} on" if several else ""
                harmless += reads_as_before(path, sound, name, first, rf"t\.h5: column '{name}'{where}")
    assert chunks > 100
    assert harmless < chunks / 25


def reads_as_before(path, sound, name, first, message):
    """Return whether rows of an altered chunk are what they were; otherwise that must be said."""
    stop = min(first + ROWS, sound.rows(name))
    try:
        with Shard(path) as shard:
            np.testing.assert_array_equal(shard.slice(name, first, stop), sound.slice(name, first, stop))
    except DatasetError as error:
        assert re.search(message, str(error)), error  # noqa: PT017 - both outcomes are right
        return False
    return True


@pytest.mark.parametrize("place", [-1, -4, 0, 1])
def test_altered_ends_of_a_chunk_are_found(file, tmp_path, place):
    """The last bytes are the checksum of the deflated bytes, the first ones say how they were deflated."""
    first, start, size = chunks_of(file, "entries/value")[2]
    for bit in range(8):
        path = Path(shutil.copy(file, tmp_path / "t.h5"))
        flip(path, start + place % size, bit)
        with pytest.raises(DatasetError, match="column 'entries/value'"), Shard(path) as shard:
            shard.slice("entries/value", first, first + 3)


NEEDED = [
    "traces/offset", "traces/seed", "entries/address", "entries/value", "entries/distribution", "entries/flags",
    "observations/calorimeter/offset", "observations/calorimeter/step", "observations/calorimeter/mean",
    "observations/calorimeter/stddev",
]  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_a_batch_names_the_damaged_column_and_other_batches_are_read(file, tmp_path, name):
    path = Path(shutil.copy(file, tmp_path / "t.h5"))
    first, place, size = chunks_of(file, name)[1]
    flip(path, place + size // 2, 2)
    dataset = TraceDataset(path)
    trace = trace_of(file, name, first + 1)
    with pytest.raises(DatasetError, match=rf"t\.h5: column '{name}', from trace {trace_of(file, name, first)} on"):
        dataset.batch(np.arange(max(trace - 2, 0), trace + 1), (0,))
    assert len(dataset.batch(np.array([0]), (0,))) == 1


def test_a_column_that_a_batch_does_not_need_is_not_read(file, tmp_path):
    path = Path(shutil.copy(file, tmp_path / "t.h5"))
    for name in set(columns_of(file)) - set(NEEDED):
        if not name.startswith(DICTIONARY):
            for _, place, size in chunks_of(file, name):
                flip(path, place + size // 2, 1)
    assert len(TraceDataset(path).batch(np.arange(COUNT), (0,))) == COUNT
    with pytest.raises(DatasetError, match="cannot be read"):
        TraceDataset(path).trace(3)


def test_damaged_offsets_do_not_hide_what_else_is_damaged(file, tmp_path):
    path = Path(shutil.copy(file, tmp_path / "t.h5"))
    for name in ("traces/offset", "entries/value"):
        for _, place, size in chunks_of(file, name):
            flip(path, place + size // 2, 1)
    with Shard(path) as shard, pytest.raises(DatasetError, match=r"column 'entries/value' cannot be read"):
        shard.slice("entries/value", 0, 5)


def test_a_column_of_one_chunk_has_its_checksum_checked(tmp_path):
    """Altered through HDF5: the deflated bytes are sound."""
    path = part(tmp_path, 0, COUNT)
    with h5py.File(path, "r+") as file:
        file["entries/value"][5] += 1e-12
    with pytest.raises(DatasetError, match="column 'entries/value' was altered: expected checksum"):
        TraceDataset(path).batch(np.array([2]), (0,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["entries/value", "observations/calorimeter/mean", "observations/calorimeter/stddev"])
def test_numbers_that_are_not_finite_are_reported_with_their_trace(file, tmp_path, name, value):
    path = Path(shutil.copy(file, tmp_path / "t.h5"))

    change_column(path, name, put(50, value))
    trace = trace_of(file, name, 50)
    dataset = TraceDataset(path)
    with pytest.raises(DatasetError, match=rf"t\.h5: column '{name}': trace {trace} has the value {value}"):
        dataset.batch(np.array([0, trace, 1]), (0,))
    assert np.isfinite(dataset.batch(np.array([0, 1, COUNT - 1]), (0,)).observation).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("entries/address", 60_000, "column 'entries/address' refers to id 60000, but the dictionary has"),
        ("entries/distribution", 60_000, "column 'entries/distribution' refers to id 60000, but"),
        (
            "observations/calorimeter/step",
            120,
            r"step': trace \d+ has steps to element \d+, but the image has 120 elements",
        ),
        ("traces/offset", 100_000, r"column 'entries/\w+'.*rows \d+ to 100000 were requested, but it has"),
        ("traces/offset", -5, r"column 'entries/\w+'.*rows -?\d+ to -?\d+ were requested, but it has"),
    ],
)
def test_indices_out_of_range_are_refused(file, tmp_path, name, value, message):
    path = Path(shutil.copy(file, tmp_path / "t.h5"))

    change_column(path, name, put(20, value))
    with pytest.raises(DatasetError, match=rf"{re.escape(str(path))}: .*{message}"):
        TraceDataset(path).batch(np.arange(COUNT), (0,))
    with pytest.raises(DatasetError, match=re.escape(str(path))):
        to_plain([path], tmp_path / "plain.npz")
    assert not (tmp_path / "plain.npz").exists()


@pytest.mark.parametrize(
    ("name", "where", "value", "message"),
    [
        ("observations/calorimeter/step", None, 120, r"step': trace 2 has steps to element \d+, but the image has 120"),
        ("observations/calorimeter/offset", 3, 1, r"calorimeter/\w+'"),
        ("traces/offset", 3, 1, r"'(entries|traces)/\w+'"),
    ],
)
def test_reading_one_trace_checks_its_indices(file, tmp_path, name, where, value, message):
    path = Path(shutil.copy(file, tmp_path / "t.h5"))
    with h5py.File(path) as opened:
        row = int(opened["observations/calorimeter/offset"][2]) if where is None else where

    change_column(path, name, put(row, value))
    for reader in (lambda data: data.trace(2), lambda data: data.batch(np.array([2]), (0,))):
        with pytest.raises(DatasetError, match=rf"{re.escape(str(path))}: column .*{message}"):
            reader(TraceDataset(path))
    if where is not None:
        with (
            Shard(path) as shard,
            pytest.raises(DatasetError, match=rf"{re.escape(str(path))}: column '{name}' was .*2"),
        ):
            shard.read(1, COUNT)


def test_a_file_that_is_truncated_after_opening(file, tmp_path):
    """Its size is not what it was; without that check the reading would end too early."""
    path = Path(shutil.copy(file, tmp_path / "t.h5"))
    with Shard(path) as shard:
        shard.close()
        with path.open("r+b") as cut:
            cut.truncate(path.stat().st_size // 2)
        with pytest.raises(DatasetError, match="was replaced or altered"):
            shard.read()
    path = Path(shutil.copy(file, tmp_path / "u.h5"))
    with Shard(path) as shard:
        assert len(shard.read(0, 3)) == 3  # open now
        with path.open("r+b") as cut:
            cut.truncate(100)
        with pytest.raises(
            DatasetError, match=r"u\.h5: column '.*' cannot be read|u\.h5: column '.*, from trace \d+ on, cannot"
        ):
            shard.read()
