# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verification finds what is wrong, where it is, and everything that is wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from unit.traces_altered import altered, put, reseal
from unit.traces_support import DETECTOR, PROVENANCE, part

from etalumis.distributions import BY_CODE, ArrayDistribution, Beta, Binomial, Categorical, Normal, Poisson, Uniform
from etalumis.errors import DatasetError
from etalumis.models import FunctionModel, examples, observe, sample, tag
from etalumis.traces import densities
from etalumis.traces.block import join
from etalumis.traces.checking.shard import verify_shard, windows
from etalumis.traces.checking.verify import verify
from etalumis.traces.format import ALL, CONTROLLED_ONLY, Checksum, file_checksum
from etalumis.traces.index import index_digest, read_index
from etalumis.traces.plain.convert import from_plain
from etalumis.traces.plain.export import to_plain
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.recording import Recording
from etalumis.traces.sorting.sort import sort
from etalumis.traces.writer import open_shard

COUNT = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def file(folder):
    return part(folder, 0, COUNT)


@pytest.fixture(scope="module")
def with_rejected(folder):
    path = folder / "all.h5"
    generate(DETECTOR, path, PROVENANCE, 0, COUNT, recording=Recording(ALL))
    return path


@pytest.fixture(scope="module")
def controlled(folder):
    path = folder / "controlled.h5"
    generate(DETECTOR, path, PROVENANCE, 0, COUNT, recording=Recording(CONTROLLED_ONLY))
    return path


@pytest.fixture(scope="module")
def sorted_set(folder, file):
    sort([file, part(folder, 1, COUNT)], folder / "sorted", 50)
    return folder / "sorted"


def refused(*paths, quick=False):
    with pytest.raises(DatasetError) as caught:
        verify(paths, quick)
    return str(caught.value)


def test_good_files_of_every_kind_pass(file, with_rejected, controlled, sorted_set):
    assert verify([file, with_rejected, controlled, sorted_set]) == 5 * COUNT
    assert verify([file, with_rejected, controlled, sorted_set], quick=True) == 5 * COUNT


@pytest.mark.parametrize("name", examples.ALL)
def test_example_models_pass(name, tmp_path):
    generate(examples.model(name), tmp_path / "t.h5", PROVENANCE, 0, 40, recording=Recording(ALL))
    assert verify([tmp_path / "t.h5"]) == 40


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("entries/value", put(9, np.nan), r"'entries/value': trace 1 has the value nan at address .*Uniform__1"),
        ("entries/value", put(9, -40.0), r"'entries/value' of trace 1 is wrong: expected a value in the support"),
        ("entries/flags", put(3, 8), r"'entries/flags' of trace 0 is wrong: .* found 8 in entry 3"),
        ("entries/distribution", put(0, 2), r"'traces/log_prior' of trace 0|'entries/value' of trace 0"),
        ("traces/log_prior", put(7, np.inf), r"'traces/log_prior': trace 7 has the value inf"),
        ("traces/log_prior", put(7, 0.25), r"'traces/log_prior' of trace 7 is wrong: expected -\d.*, found 0\.25"),
        ("traces/log_likelihood", put(5, -np.inf), r"'traces/log_likelihood': trace 5 has the value -inf; expected"),
        ("traces/type", put((4, 2), 77), r"'traces/type' of trace 4 is wrong: expected \w{32}, .* found \w{32}"),
        ("traces/draws", put(6, 2), r"'traces/draws' of trace 6 is wrong: expected at least \d+, .* found 2"),
        ("traces/offset", put(0, 1), r"'traces/offset' is wrong: expected 0 in its first row, found 1"),
        ("traces/offset", put(3, 0), r"'traces/offset' of trace 2 is wrong: expected offsets that do not decrease"),
        ("traces/offset", put(COUNT, 10_000), r"'entries/address' is wrong: expected 10000 rows, as traces/offset"),
        ("observations/calorimeter/mean", put(4, np.nan), r"calorimeter/mean': trace 1 has the value nan"),
        ("observations/calorimeter/step", put(4, 120), r"calorimeter/step' of trace 1 .* below 120, found one to 1\d+"),
        ("observations/calorimeter/step", put(4, 0), r"trace 1 .*every element once, found one to \d+ again"),
        ("observations/calorimeter/stddev", put(8, 0.0), r"stddev': trace 8 has the value 0\.0; expected a positive"),
        ("observations/calorimeter/offset", put(2, 1), r"calorimeter/offset' of trace 1 .*not decrease"),
        ("distributions/parameters", put(0, -1.0), r"distributions/parameters' is wrong: distribution number 0: Categ"),
        ("distributions/code", put(0, 99), r"parameters' is wrong: distribution number 0: distribution 99"),
    ],
)  # fmt: skip
def test_an_invalid_column_is_reported_with_its_trace(file, tmp_path, column, change, message):
    path = altered(file, tmp_path / "wrong.h5", column, change)
    before = path.read_bytes()
    error = refused(path)
    assert error.startswith(f"{path}: ")
    with pytest.raises(DatasetError, match=message):
        raise DatasetError(error)
    assert path.read_bytes() == before


def undefined():
    x = sample(Uniform(-1.0, 1.0))
    for value in (np.nan, np.inf, -np.inf):
        tag(f"pair {value}", [x, value])
        tag(f"rows {value}", [[x, value], [value, value]])
        tag(f"number {value}", value if x > 0 else x)
    observe(ArrayDistribution(Normal.code, (np.full(80, x), np.asarray(0.5))), "image")


def test_a_tag_may_hold_any_number(tmp_path):
    """What the writer accepts, the checker accepts, in every form of a set."""
    generate(FunctionModel(undefined, "undefined"), tmp_path / "t.h5", PROVENANCE, 0, 20)
    sort([tmp_path / "t.h5"], tmp_path / "sorted", 8)
    to_plain([tmp_path / "t.h5"], tmp_path / "plain.h5")
    from_plain(tmp_path / "plain.h5", tmp_path / "back.h5")
    assert verify([tmp_path / "t.h5", tmp_path / "back.h5", tmp_path / "sorted"]) == 60
    written, back = TraceDataset(tmp_path / "t.h5"), TraceDataset(tmp_path / "back.h5")
    for index in range(20):
        tags = written.trace(index).tags
        assert not np.isfinite(tags["pair inf"]).all()
        assert back.trace(index).tags.keys() == tags.keys()
        for name, value in tags.items():
            np.testing.assert_array_equal(back.trace(index).tags[name], value)


@pytest.mark.parametrize("column", ["log_likelihood", "log_prior"])
def test_what_the_checker_refuses_the_writer_refuses(file, tmp_path, column):
    with Shard(file) as shard:
        block = shard.read()
        block.traces[column] = np.where(np.arange(COUNT) == 5, -np.inf, block.traces[column])
        with (
            pytest.raises(DatasetError, match=rf"'traces/{column}': trace 5 has the value -inf"),
            open_shard(tmp_path / "t.h5", shard.provenance) as writer,
        ):
            writer.append(block)
    assert not (tmp_path / "t.h5").exists()


def test_a_standard_deviation_of_zero_is_refused_by_the_writer(file, tmp_path):
    with Shard(file) as shard:
        block = shard.read()
        block.observations["calorimeter"].stddev[7] = 0.0
        with (
            pytest.raises(DatasetError, match=r"calorimeter/stddev': trace 7 has the value 0\.0; expected a positive"),
            open_shard(tmp_path / "t.h5", shard.provenance) as writer,
        ):
            writer.append(block)


def one_tag_absent(file, tmp_path):
    return altered(file, tmp_path / "absent.h5", "tags/pair", put(3, np.nan))


def test_a_tag_may_be_absent(file, tmp_path):
    assert verify([one_tag_absent(file, tmp_path)]) == COUNT


@pytest.mark.parametrize(
    ("column", "place", "value", "message"),
    [
        ("offset", 3, 10_000, r"'rejected/offset' of trace 3|'rejected/.*' is wrong"),
        (
            "position",
            0,
            4_000,
            r"'rejected/position' of trace \d+ .*expected at most \d+, the number of accepted entries",
        ),
        ("position", -1, 0, r"'rejected/position' of trace \d+ .*not decrease within a trace, found 0"),
        (
            "repetition",
            0,
            4_000,
            r"'rejected/repetition' of trace \d+ .* less than \d+, the number of draws of its trace",
        ),
        ("value", 0, np.nan, r"'rejected/value': trace \d+ has the value nan"),
        ("value", 0, 7.0, r"'rejected/value' of trace \d+ is wrong: expected a value in the support of its prior"),
        ("flags", 0, 64, r"'rejected/flags' of trace \d+ .* found 64"),
        ("address", 0, 400, r"'rejected/address' refers to id 400"),
    ],
)
def test_rejected_repetitions_are_checked(with_rejected, tmp_path, column, place, value, message):
    error = refused(altered(with_rejected, tmp_path / "wrong.h5", f"rejected/{column}", put(place, value)))
    with pytest.raises(DatasetError, match=message):
        raise DatasetError(error)


def test_a_complete_record_has_all_draws(with_rejected, tmp_path):
    error = refused(altered(with_rejected, tmp_path / "wrong.h5", "traces/draws", put(6, 900)))
    assert "'traces/draws' of trace 6 is wrong: expected " in error
    assert "at least" not in error


def test_the_attribute_kept_agrees_with_the_entries(file, with_rejected, controlled, tmp_path):
    def marked(source, kept):
        path = Path(shutil.copy(source, tmp_path / "said.h5"))
        with h5py.File(path, "r+") as opened:
            opened.attrs["kept"] = kept
            reseal(opened)
        return path

    assert "expected controlled entries only" in refused(marked(file, CONTROLLED_ONLY))
    assert "'rejected/address' is wrong: this format has no such column" in refused(marked(with_rejected, "accepted"))
    assert "'rejected/address' is wrong: expected a column of this name" in refused(marked(file, ALL))
    # without the uncontrolled entries the log priors cannot be recomputed, and a file that claims to have all is wrong
    assert "'traces/log_prior' of trace 0" in refused(marked(controlled, "accepted"))


def test_extra_missing_and_short_columns(file, tmp_path):
    path = Path(shutil.copy(file, tmp_path / "t.h5"))
    with h5py.File(path, "r+") as opened:
        opened["entries/extra"] = np.zeros(3)
        checksum = Checksum()
        checksum.update(np.zeros(3))
        opened["entries/extra"].attrs["checksum"] = checksum.hex()
        reseal(opened)
    assert "'entries/extra' is wrong: this format has no such column" in refused(path, quick=True)
    path = Path(shutil.copy(file, tmp_path / "t.h5"))
    with h5py.File(path, "r+") as opened:
        opened["traces/seed"].resize(COUNT - 1, axis=0)
        checksum = Checksum()
        checksum.update(opened["traces/seed"][()])
        opened["traces/seed"].attrs["checksum"] = checksum.hex()
        reseal(opened)
    assert f"'traces/seed' is wrong: expected {COUNT} rows, found {COUNT - 1}" in refused(path, quick=True)


def test_all_bad_files_are_named(file, sorted_set, tmp_path):
    one = altered(file, tmp_path / "one.h5", "traces/draws", put(0, 0))
    two = tmp_path / "two.h5"
    two.write_bytes(file.read_bytes()[:5000])
    error = refused(one, file, two, sorted_set)
    assert error.startswith("2 of 9 files or sets are bad or cannot be read:\n")
    assert f"{one}: column 'traces/draws' of trace 0" in error
    assert f"{two}: the file cannot be read: it is truncated" in error
    assert str(file) not in error


def test_quick_reads_no_traces(file, tmp_path):
    path = altered(file, tmp_path / "t.h5", "traces/log_prior", put(0, 5.0))
    assert verify([path], quick=True) == COUNT
    assert "traces/log_prior" in refused(path)


def test_the_same_file_twice(file):
    assert "the same trace file was given twice" in refused(file, file)


@pytest.fixture
def copied(sorted_set, tmp_path):
    """A copy of the sorted set, and a function that rewrites its index."""
    copy = tmp_path / "copied"
    shutil.copytree(sorted_set, copy)

    def write(change):
        index = json.loads((copy / "index.json").read_text())
        change(index)
        index["digest"] = index_digest(index)  # as one who alters it on purpose would
        (copy / "index.json").write_text(json.dumps(index))
        return copy

    return copy, write


def replaced_shard(folder, write, number, block):
    """Write other traces into a shard, and put its checksum and size into the index."""
    path = folder / f"shard-{number:05d}.h5"
    with Shard(path) as shard:
        provenance = shard.provenance
    with open_shard(path, provenance) as writer:
        writer.append(block)
    with Shard(path) as shard:
        row = {"checksum": shard.checksum, "bytes": path.stat().st_size, "entries": shard.entries}
    write(lambda index: index["shards"][number].update(row))


def read(path):
    with Shard(path) as shard:
        return shard.read()


def test_traces_out_of_order(copied):
    folder, write = copied
    block = read(folder / "shard-00001.h5")
    replaced_shard(folder, write, 1, block.take(np.r_[1, 0, 2 : len(block)]))
    assert "shard-00001.h5: column 'traces/seed' of trace 1 is wrong: expected the sorted order: trace 0" in refused(
        folder
    )


def test_shards_out_of_order_although_each_is_sorted(copied):
    folder, write = copied
    one, two = (read(folder / f"shard-0000{number}.h5") for number in (0, 1))
    replaced_shard(folder, write, 0, two)
    replaced_shard(folder, write, 1, one)
    error = refused(folder)
    assert "shard-00001.h5: column 'traces/seed' of trace 0 is wrong: expected the sorted order" in error
    assert "the last trace of" in error


def test_a_duplicate_trace(copied):
    folder, write = copied
    block = read(folder / "shard-00000.h5")
    replaced_shard(folder, write, 0, block.take(np.r_[0:5, 4, 6 : len(block)]))
    assert "trace 5 is wrong: duplicate trace: trace 4 has type number 0" in refused(folder)


def test_a_duplicate_trace_in_another_shard(copied):
    folder, write = copied
    with Shard(folder / "shard-00000.h5") as a, Shard(folder / "shard-00001.h5", a.dictionary) as b:
        mixed = join([a.read(len(a) - 1, len(a)), b.read(1, len(b))])
    replaced_shard(folder, write, 1, mixed)
    assert "trace 0 is wrong: duplicate trace: the last trace of" in refused(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.update(traces=i["traces"] + 1), "'traces' is wrong: found 241, but the shards contain 240"),
        (lambda i: i.update(entries=1), "'entries' is wrong: found 1, but the shards contain"),
        (lambda i: i.update(addresses=1), "'addresses' is wrong: found 1, but the shards use"),
        (lambda i: i["shards"][2].update(traces=3), "'shards[2].traces' is wrong: found 3, but"),
        (lambda i: i["shards"][2].update(bytes=3), "'shards[2].bytes' is wrong: found 3, but"),
        (lambda i: i["types"][1].update(first=1), "'types[1].first' is wrong: expected"),
        (lambda i: i["types"][0].update(shards=[0, 0]), "'types[0].shards' is wrong: expected [0, "),
        (lambda i: i["types"][0].update(lengths=[1, 2]), "'types[0].lengths' is wrong: expected ["),
        (lambda i: i["types"].reverse(), "'types' is wrong: expected every type once, ordered by frequency"),
        (lambda i: i["types"].pop(), "'types' is wrong: it lacks"),
        (lambda i: i["lengths"]["counts"].pop(), "'lengths' is wrong: it is not the histogram"),
        (lambda i: i.pop("types"), "'types' is wrong: expected a value of type list, found None"),
        (lambda i: i["types"].__setitem__(0, 7), "'types[0]' is wrong: expected an object, found 7"),
        (lambda i: i["shards"][0].update(checksum="0" * 32), "shard-00000.h5: its checksum is "),
        (lambda i: i.update(simulator_build_id="b1"), "'simulator_build_id' is wrong: found 'b1', but that of"),
        (lambda i: i.update(model="m"), "'model' is wrong: found 'm', but that of"),
        (lambda i: i.update(settings="{}"), "'settings' is wrong: found '{}', but that of"),
        (lambda i: i.pop("noise"), "'noise' is wrong: found None, but that of"),
    ],
)
def test_an_incorrect_index_is_reported(copied, change, message):
    _, write = copied
    assert message in refused(write(change))


def places_of(value, path=()):
    """Yield the path of every value that is no object and no list."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_of(item, (*path, key))
    else:
        yield path


def test_any_altered_value_of_an_index_is_found(copied):
    folder, _ = copied
    path = folder / "index.json"
    good = json.loads(path.read_text())
    assert read_index(path) == good
    path.write_text(json.dumps(good, indent=None, sort_keys=True))  # the same values
    assert read_index(path) == good
    places = [place for place in places_of(good) if place[0] not in ("format", "version")]
    assert len(places) > 50
    for place in places:
        index = json.loads(json.dumps(good))
        row = index
        for key in place[:-1]:
            row = row[key]
        row[place[-1]] = row[place[-1]] + 1 if isinstance(row[place[-1]], int) else row[place[-1]] + "x"
        path.write_text(json.dumps(index))
        with pytest.raises(DatasetError, match=r"index\.json: the index was altered: .*; sort the traces again"):
            read_index(path)
    del good["digest"]
    for content in (good, good | {"traces": float("nan")}):
        path.write_text(json.dumps(content))
        with pytest.raises(DatasetError, match="the index was altered: its digest is None"):
            read_index(path)


def test_counts_of_types_are_compared_with_the_traces(copied):
    _, write = copied

    def moved(index):
        # the totals still fit, the order too
        index["types"][0]["traces"] += 1
        index["types"][1]["traces"] -= 1
        index["types"][1]["first"] += 1

    assert "'types[0].traces' is wrong" in refused(write(moved))


def test_shards_that_are_missing_or_bad_are_all_named(copied):
    folder, _ = copied
    (folder / "shard-00001.h5").unlink()
    (folder / "shard-00003.h5").write_bytes(b"nothing of the kind")
    error = refused(folder)
    assert "2 of 6 files or sets are bad or cannot be read" in error
    assert "shard-00001.h5: missing, but" in error
    assert "shard-00003.h5: the file cannot be read" in error
    assert "'traces' is wrong" not in error  # which follows from the others


def test_windows_cover_every_trace_once(file):
    with Shard(file) as shard:
        for nbytes in (1, 500, 5_000, 1 << 30):
            ranges = list(windows(shard, nbytes))
            assert [row for start, stop in ranges for row in range(start, stop)] == list(range(len(shard)))
        assert len(list(windows(shard, 1))) == len(shard)


def test_windows_without_rows_of_a_tag_or_an_image_pass(with_rejected, monkeypatch):
    with Shard(with_rejected) as shard:
        seen: list[int] = []
        monkeypatch.setattr("etalumis.traces.checking.shard.windows", lambda shard: windows(shard, 1))
        verify_shard(shard, seen=seen.append)
        assert seen == [1] * COUNT
        assert any(len(shard.read(i, i + 1).tags["particles"].columns["content"]) == 0 for i in range(COUNT))


def test_small_windows_find_the_same_problems(file, tmp_path, monkeypatch):
    path = altered(file, tmp_path / "t.h5", "traces/log_prior", put(70, 5.0))
    whole = refused(path)
    with Shard(path) as shard:
        monkeypatch.setattr("etalumis.traces.checking.shard.windows", lambda shard: windows(shard, 2_000))
        with pytest.raises(DatasetError) as caught:
            verify_shard(shard)
    assert "of trace 70" in whole
    assert str(caught.value) == whole


KINDS = [
    (Normal.code, (0.5, 2.0)), (Uniform.code, (-1.0, 3.0)), (Categorical.code, (0.2, 0.0, 0.8)), (Poisson.code, (3.0,)),
    (5, (0.3,)), (Beta.code, (2.0, 3.0)), (7, (1.5,)), (8, (2.0, 0.5)), (9, (0.1, 0.4)), (Binomial.code, (5.0, 0.4)),
    (11, (1.0, 2.0)), (12, (2.5, 0.6)), (13, (3.0, 0.5, 2.0)),
]  # fmt: skip


def test_log_densities_are_those_of_the_distributions_one_by_one():
    assert sorted(code for code, _ in KINDS) == sorted(BY_CODE)
    rng = np.random.default_rng(3)
    numbers = rng.integers(len(KINDS), size=3000)
    # inside and outside of every support, whole numbers and others
    values = np.where(rng.random(3000) < 0.5, rng.integers(-2, 8, 3000).astype(float), rng.normal(0.5, 3.0, 3000))
    found = densities.PriorTable(KINDS).log_prob(numbers, values)
    expected = [densities.prior(*KINDS[n]).log_prob(x) for n, x in zip(numbers.tolist(), values.tolist(), strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.isneginf(found).sum() < 2500


def test_types_and_log_priors_are_those_that_were_recorded(file):
    with Shard(file) as shard:
        block = shard.read()
    columns = block.entries.columns
    density = densities.PriorTable(block.dictionary.distributions).log_prob(columns["distribution"], columns["value"])
    np.testing.assert_array_equal(densities.log_priors(block.entries, density), block.traces["log_prior"])
    types = densities.trace_types(block.dictionary.addresses.names(), block.entries)
    np.testing.assert_array_equal(types, block.traces["type"])
    dataset = TraceDataset(file)
    assert len({row.tobytes() for row in types}) == len(dataset.type_table)


def test_a_file_without_traces_passes(tmp_path):
    with open_shard(tmp_path / "none.h5", replace(PROVENANCE, split="")):
        pass
    assert verify([tmp_path / "none.h5"]) == 0
    with h5py.File(tmp_path / "none.h5") as opened:
        assert opened.attrs["checksum"] == file_checksum(opened)
