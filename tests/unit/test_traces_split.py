# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Splits by seed: a function of (seed, trace) alone, whole files, nothing overwritten."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.traces_support import DETECTOR, PROVENANCE, part

from etalumis.cli import main
from etalumis.errors import ConfigError, DatasetError, StorageError
from etalumis.files import locked
from etalumis.traces.block import Expected
from etalumis.traces.checking.shard import windows
from etalumis.traces.checking.verify import verify
from etalumis.traces.ragged import Ragged
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording.generate import generate
from etalumis.traces.sorting.sort import sort
from etalumis.traces.split import assign, split

SHARES = {"train": 0.8, "valid": 0.15, "test": 0.05}
SEED = 5
MASK = (1 << 64) - 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    return [part(folder, number, 150) for number in range(3)]


def splitmix64(state):
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def reference(trace_seed, shares, seed):
    u = (splitmix64(splitmix64(seed & MASK) ^ (trace_seed & MASK)) >> 11) / 2**53
    total = 0.0
    for number, share in enumerate(shares.values()):
        total += share
        if u < total:
            return number
    return len(shares) - 1


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=50), st.integers(-(2**63), 2**64 - 1))
def test_assignment_agrees_with_integer_arithmetic(seeds, seed):
    found = assign(np.array(seeds, np.int64), SHARES, seed)
    assert found.tolist() == [reference(one, SHARES, seed) for one in seeds]


def test_the_generator_is_splitmix64():
    # first outputs of the published C program for the states 0 and 1234567
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    assert splitmix64(1234567) == 6457827717110365317


def test_shares_and_independence():
    count = 200_000
    seeds = np.random.default_rng(1).integers(2**63 - 1, size=count)
    for trace_seeds in (seeds, np.arange(count)):  # foreign sets number their traces
        one, other = assign(trace_seeds, SHARES, 1), assign(trace_seeds, SHARES, 2)
        for number, share in enumerate(SHARES.values()):
            sigma = math.sqrt(share * (1 - share) / count)
            assert abs(np.mean(one == number) - share) < 5 * sigma
            both = np.mean((one == number) & (other == number))
            assert abs(both - share**2) < 5 * math.sqrt(share**2 * (1 - share**2) / count)


def seeds_of(path):
    with Shard(path) as shard:
        return shard.whole("traces/seed")


def assert_same(found, expected):
    """Compare blocks, independent of how they number addresses and priors."""
    assert np.array_equal(found.entries.offset, expected.entries.offset)
    for name in ("value", "flags"):
        np.testing.assert_array_equal(found.entries.columns[name], expected.entries.columns[name])
    names = [[x.dictionary.addresses.name(n) for n in x.entries.columns["address"]] for x in (found, expected)]
    assert names[0] == names[1]
    for name, column in expected.traces.items():
        np.testing.assert_array_equal(found.traces[name], column)
    for name, tag in expected.tags.items():
        mine = found.tags[name]
        pair = [x.columns["content"] if isinstance(x, Ragged) else x for x in (mine, tag)]
        np.testing.assert_array_equal(*pair)
    for name, observation in expected.observations.items():
        mine = found.observations[name]
        assert isinstance(mine, Expected)
        for column, values in observation.image.columns.items():
            np.testing.assert_array_equal(mine.image.columns[column], values)


@pytest.mark.parametrize("window_bytes", [1 << 26, 3_000])
def test_every_trace_is_in_one_split_unchanged_and_in_order(files, tmp_path, monkeypatch, window_bytes):
    monkeypatch.setattr("etalumis.traces.split.windows", lambda shard: windows(shard, window_bytes))
    counts = split(files[:1], tmp_path / "out", SHARES, SEED)
    assert sum(counts.values()) == 150
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    with Shard(files[0]) as source:
        whole = source.read()
        number = assign(whole.traces["seed"], SHARES, SEED)
        for i, name in enumerate(SHARES):
            with Shard(tmp_path / "out" / f"{name}.h5") as shard:
                assert len(shard) == counts[name] == int((number == i).sum())
                assert shard.provenance == replace(source.provenance, split=name)
                assert_same(shard.read(), whole.take(np.flatnonzero(number == i)))
    assert verify(list((tmp_path / "out").glob("*.h5"))) == 150


def test_windows_do_not_change_the_bytes(files, tmp_path, monkeypatch):
    split(files, tmp_path / "large", SHARES, SEED)
    monkeypatch.setattr("etalumis.traces.split.windows", lambda shard: windows(shard, 3_000))
    split(files, tmp_path / "small", SHARES, SEED)
    for name in SHARES:
        assert (tmp_path / "large" / f"{name}.h5").read_bytes() == (tmp_path / "small" / f"{name}.h5").read_bytes()


def test_adding_traces_moves_no_others(files, tmp_path):
    split(files[:1], tmp_path / "old", SHARES, SEED)
    split(files, tmp_path / "new", SHARES, SEED)
    sort(files[::-1], tmp_path / "sorted", 100)
    split([tmp_path / "sorted"], tmp_path / "from-sorted", SHARES, SEED)
    for name in SHARES:
        old, new = (set(seeds_of(tmp_path / folder / f"{name}.h5").tolist()) for folder in ("old", "new"))
        assert old < new
        assert set(seeds_of(tmp_path / "from-sorted" / f"{name}.h5").tolist()) == new


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.9, "valid": 0.2}, "train=0.9 valid=0.2 sum to 1.1, not to 1"),
        ({"train": 0.9}, "sum to 0.9, not to 1"),
        ({"train": 1.5, "valid": -0.5}, "split 'train': expected a share greater than 0 and at most 1, found 1.5"),
        ({"train": 1.0, "valid": 0.0}, "split 'valid': expected a share greater than 0"),
        ({"train": float("nan")}, "split 'train': expected a share greater than 0"),
        ({"../train": 1.0}, "split '../train': expected a name of letters"),
    ],
)
def test_invalid_shares_are_refused(files, tmp_path, shares, message):
    with pytest.raises(ConfigError) as caught:
        split(files, tmp_path / "out", shares, SEED)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_shares_may_sum_to_one_up_to_rounding(files, tmp_path):
    counts = split(files, tmp_path / "out", {f"fold-{i}": 0.1 for i in range(10)}, SEED)
    assert sum(counts.values()) == 450


def test_an_empty_split_is_refused(files, tmp_path):
    with pytest.raises(DatasetError, match=r"none of the 150 traces would be in test; give it a larger share"):
        split(files[:1], tmp_path / "out", {"train": 1 - 1e-7, "test": 1e-7}, SEED)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(files, tmp_path):
    (tmp_path / "out").mkdir()
    split(files[:1], tmp_path / "out", SHARES, SEED)  # an empty folder will do
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(DatasetError, match=r"out: not empty \(it holds \w+\.h5\); choose a new folder"):
        split(files[:1], tmp_path / "out", SHARES, SEED)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="file: is a file; expected a folder"):
        split(files[:1], tmp_path / "file", SHARES, SEED)


def test_an_error_leaves_no_files_and_the_next_call_succeeds(files, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk went away")

    with monkeypatch.context() as patched:
        patched.setattr("etalumis.traces.split.complete_tags", fail)
        with pytest.raises(OSError, match="went away"):
            split(files, tmp_path / "out", SHARES, SEED)
    assert list(tmp_path.iterdir()) == []
    # what kill -9 leaves
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / ".train.h5.x.tmp").write_bytes(b"half a file")
    split(files, tmp_path / "out", SHARES, SEED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test.h5", "train.h5", "valid.h5"]


def test_a_second_writer_is_refused(files, tmp_path):
    with locked(tmp_path / "out", "writing"), pytest.raises(DatasetError, match=r"out: process \d+ is writing it"):
        split(files, tmp_path / "out", SHARES, SEED)


def test_files_of_another_configuration_are_mixed_on_request(files, tmp_path):
    other = tmp_path / "other.h5"
    generate(DETECTOR, other, replace(PROVENANCE, config_digest="c1"), 1000, 50)
    assert sum(split([files[0], other], tmp_path / "out", SHARES, SEED, mix=True).values()) == 200
    with Shard(tmp_path / "out" / "train.h5") as shard:
        assert shard.provenance.config_digest == "mixed"


def test_on_the_command_line(files, tmp_path, capsys):
    call = ["traces", "split", "--input", *map(str, files), "--output", str(tmp_path / "out"), "--seed", "5"]
    assert main([*call, "--share", "train=0.8", "valid=0.15", "test=0.05"]) == 0
    shown = capsys.readouterr().out
    total = 0
    for name in SHARES:
        with Shard(tmp_path / "out" / f"{name}.h5") as shard:
            assert f"{name}.h5  {len(shard)} traces ({len(shard) / 450:.2%})" in shown
            total += len(shard)
    assert total == 450
    assert main([*call, "--share", "train=0.8", "train=0.2"]) == 1
    assert "expected unique names" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*call, "--share", "train"])
    assert "expected NAME=SHARE, such as valid=0.01, found train" in capsys.readouterr().err
