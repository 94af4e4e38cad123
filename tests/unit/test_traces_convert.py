# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Import of foreign sets through the plain layout, and the way back."""

import json
import math

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.traces_altered import put
from unit.traces_support import DETECTOR, PROVENANCE, part

from etalumis import seeds
from etalumis.address import trace_type
from etalumis.cli import main
from etalumis.distributions import Categorical, Normal, Uniform
from etalumis.errors import DatasetError
from etalumis.files import locked
from etalumis.models import examples
from etalumis.traces import densities
from etalumis.traces.checking.verify import verify
from etalumis.traces.format import ALL, CONTROLLED_ONLY
from etalumis.traces.plain import convert
from etalumis.traces.plain import export as to_plain
from etalumis.traces.plain import layout as plain
from etalumis.traces.plain.convert import from_plain
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.recording import Recording
from etalumis.traces.sorting.sort import sort

KINDS = ("h5", "npz")


def foreign():
    """Three traces as another program might have them: two addresses, or three; an image, a list of numbers, tags."""
    image = np.zeros((3, 2, 4))
    image[0, 1, 2], image[2, 0, 0], image[2, 1, 3] = 1.5, -2.0, 3.25
    return {
        "addresses": ["kind__Categorical(len_probs:3)__1", "mu__Normal__1", "mu__Normal__2"],
        "names": ["kind", "", "µ₂"],
        "distributions": [
            '{"kind": "Categorical", "probs": [2, 1, 1]}',
            '{"kind": "Normal", "mean": 0, "stddev": 2.5}',
            '{"kind": "Normal", "mean": 1, "stddev": 0.5}',
        ],
        "offset": np.array([0, 2, 5, 6]),
        "address": np.array([0, 1, 0, 1, 2, 0]),
        "value": np.array([0.0, 1.25, 1.0, -3.0, 0.75, 2.0]),
        "distribution": np.array([0, 1, 0, 1, 2, 0]),
        "expected/image": image,
        "stddev/image": np.array([0.5, 0.25, 1.0]),
        "observation/lengths": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "tag/energy": np.array([1.0, np.nan, 3.0]),
        "tag/pair": np.arange(6.0).reshape(3, 2),
        "tag/track/offset": np.array([0, 2, 2, 3]),
        "tag/track/content": np.arange(9.0).reshape(3, 3),
        "tag/square": np.arange(12.0).reshape(3, 2, 2),
    }


def write(path, content):
    """Write a plain file from docs/file-formats.md alone."""
    if path.suffix == ".npz":
        np.savez(path, **content)
        return path
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            file[key] = value
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window_bytes", [1 << 26, 1])
def test_import_of_a_plain_file(tmp_path, monkeypatch, kind, window_bytes):
    monkeypatch.setattr(convert, "WINDOW_BYTES", window_bytes)
    source, target = write(tmp_path / f"foreign.{kind}", foreign()), tmp_path / "out" / "traces.h5"
    assert from_plain(source, target, model="theirs", split="train", seed=4) == 3
    assert verify([target]) == 3
    dataset = TraceDataset(target)
    assert dataset.provenance.model == "theirs"
    assert dataset.provenance.split == "train"
    assert [layout.name for layout in dataset.layouts] == ["image", "lengths"]
    given = foreign()
    priors = [Categorical((2, 1, 1)), Normal(0.0, 2.5), Normal(1.0, 0.5)]
    for i in range(3):
        rows = slice(given["offset"][i], given["offset"][i + 1])
        stored = dataset.trace(i)
        assert stored.addresses == [given["addresses"][n] for n in given["address"][rows]]
        assert stored.names == [given["names"][n] for n in given["address"][rows]]
        assert stored.values == given["value"][rows].tolist()
        assert stored.distributions == [priors[n] for n in given["distribution"][rows]]
        assert stored.flags == [1] * len(stored.values)
        np.testing.assert_array_equal(stored.expected["image"], given["expected/image"][i])
        np.testing.assert_array_equal(stored.expected["lengths"], given["observation/lengths"][i])
        assert stored.stddev == {"image": given["stddev/image"][i], "lengths": None}
        assert stored.seed == seeds.derive(4, "convert/train", i)
        assert stored.index == i
        expected = sum(priors[n].log_prob(x) for n, x in zip(given["distribution"][rows], stored.values, strict=True))
        assert stored.log_prior == pytest.approx(expected, rel=1e-15)
        np.testing.assert_array_equal(stored.tags["energy"], given["tag/energy"][i])
        np.testing.assert_array_equal(stored.tags["pair"], given["tag/pair"][i])
        np.testing.assert_array_equal(stored.tags["square"], given["tag/square"][i])
        track = slice(given["tag/track/offset"][i], given["tag/track/offset"][i + 1])
        np.testing.assert_array_equal(stored.tags["track"], given["tag/track/content"][track])
        assert dataset.type_table[dataset.types[i]] == trace_type(stored.addresses).hex()
    assert math.isnan(dataset.column("log_likelihood")[0])
    np.testing.assert_array_equal(dataset.column("draws"), [2, 3, 1])


def test_optional_keys_are_used(tmp_path):
    content = foreign() | {
        "controlled": np.array([1, 0, 1, 1, 1, 1], bool),
        "replaced": np.array([0, 1, 0, 0, 0, 0], np.uint8),
        "seed": np.array([7, 5, 6]),
        "index": np.array([10, 11, 12]),
        "draws": np.array([2, 9, 1]),
        "log_likelihood": np.array([-1.0, np.nan, -3.0]),
        "observations": ["lengths", "image"],
        "provenance": json.dumps({"model": "theirs", "noise": "normal", "run_seed": 3}),
        "stddev/image": np.array(0.125),
    }
    from_plain(write(tmp_path / "f.h5", content), tmp_path / "t.h5")
    dataset = TraceDataset(tmp_path / "t.h5")
    assert verify([tmp_path / "t.h5"]) == 3
    assert [layout.name for layout in dataset.layouts] == ["lengths", "image"]
    assert dataset.trace(0).flags == [1, 2]
    assert dataset.trace(2).stddev["image"] == 0.125
    for key in ("seed", "index", "draws", "log_likelihood"):
        np.testing.assert_array_equal(dataset.column(key), content[key])
    assert (dataset.provenance.model, dataset.provenance.noise, dataset.provenance.run_seed) == ("theirs", "normal", 3)
    assert dataset.type_table[dataset.types[0]] == trace_type([content["addresses"][0]]).hex()


def make(name, folder):
    """Create a dataset of one of the kinds that this package writes; return its path."""
    path = folder / f"{name}.h5"
    if name in ("all", "controlled"):
        generate(DETECTOR, path, PROVENANCE, 0, 60, recording=Recording(ALL if name == "all" else CONTROLLED_ONLY))
    elif name == "noisy":
        generate(DETECTOR, path, PROVENANCE, 0, 60, recording=Recording(observation="noisy"))
    elif name == "sorted":
        sort([part(folder, number, 40) for number in (0, 1)], folder / "sorted", 30)
        return folder / "sorted"
    elif name == "detector":
        return part(folder, 0, 60)
    else:
        generate(examples.model(name), path, PROVENANCE, 0, 40)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["detector", "all", "controlled", "noisy", "sorted", *examples.ALL])
def test_export_and_import_give_the_same_bytes(name, kind, tmp_path, monkeypatch):
    source = make(name, tmp_path)
    monkeypatch.setattr(to_plain, "WINDOW_BYTES", 20_000)
    monkeypatch.setattr(convert, "WINDOW_BYTES", 10_000)
    count = to_plain.to_plain([source], tmp_path / f"plain.{kind}")
    assert from_plain(tmp_path / f"plain.{kind}", tmp_path / "back.h5") == count == verify([tmp_path / "back.h5"])
    if source.suffix == ".h5":
        assert (tmp_path / "back.h5").read_bytes() == source.read_bytes()
        return
    there, back = TraceDataset(source), TraceDataset(tmp_path / "back.h5")
    for key in ("seed", "index", "draws", "log_prior", "log_likelihood"):
        np.testing.assert_array_equal(there.column(key), back.column(key))
    for i in range(count):
        one, other = there.trace(i), back.trace(i)
        assert (one.addresses, one.names, one.values, one.distributions, one.flags) == (
            other.addresses, other.names, other.values, other.distributions, other.flags,
        )  # fmt: skip
        np.testing.assert_array_equal(one.expected["calorimeter"], other.expected["calorimeter"])


def test_an_exported_file_can_be_read_with_h5py_alone(tmp_path):
    source = part(tmp_path, 0, 50)
    to_plain.to_plain([source], tmp_path / "plain.h5")
    dataset = TraceDataset(source)
    with h5py.File(tmp_path / "plain.h5") as file:
        addresses = file["addresses"].asstr()[()]
        for i in (0, 17, 49):
            stored = dataset.trace(i)
            rows = slice(*file["offset"][i : i + 2])
            assert addresses[file["address"][rows]].tolist() == stored.addresses
            assert file["value"][rows].tolist() == stored.values
            priors = [json.loads(file["distributions"][n]) for n in file["distribution"][rows]]
            assert [prior["kind"] for prior in priors] == [prior.kind for prior in stored.distributions]
            uniform = next(prior for prior in stored.distributions if isinstance(prior, Uniform))
            assert {"kind": "Uniform", "low": uniform.low, "high": uniform.high} in priors
            np.testing.assert_array_equal(file["expected/calorimeter"][i], stored.expected["calorimeter"])
            assert file["stddev/calorimeter"][i] == stored.stddev["calorimeter"]
            np.testing.assert_array_equal(file["tag/pair"][i], stored.tags["pair"])


def without(*keys):
    return lambda content: [content.pop(key) for key in keys]


def setting(key, value):
    return lambda content: content.__setitem__(key, value)


def at(key, place, value):
    return lambda content: put(place, value)(content[key])


def string(key, number, text):
    return lambda content: content[key].__setitem__(number, text)


WRONG = [
    (without("offset"), "key 'offset': expected this key"),
    (setting("values", np.zeros(6)), "key 'values': the plain layout has no such key; did you mean 'value'?"),
    (setting("tags/energy", np.zeros(3)), "key 'tags/energy': the plain layout has no such key; did you mean 'tag/ene"),
    (setting("offset", np.array([0])), "key 'offset': expected shape (traces + 1,), with at least one trace, found"),
    (at("offset", 0, 1), "key 'offset': expected 0 first, found 1"),
    (at("offset", 2, 1), "key 'offset' of trace 1: expected offsets that do not decrease, at most 6, found 2, 1"),
    (at("offset", 3, 5), "key 'offset': expected 6 last, the length of 'value', found 5"),
    (setting("address", np.zeros(5, int)), "key 'address': expected shape (6,), as 'value' has, found (5,)"),
    (setting("address", np.zeros(6)), "key 'address': expected integers, found the type float64"),
    (at("address", 3, 3), "key 'address' of trace 1: expected a number from 0 to 2, found 3 in row 1 of the trace"),
    (at("address", 3, -1), "key 'address' of trace 1: expected a number from 0 to 2, found -1"),
    (at("address", 4, 1), "key 'address' of trace 1: expected unique addresses in a trace, found 'mu__Normal__1'"),
    (at("distribution", 5, 9), "key 'distribution' of trace 2: expected a number from 0 to 2, found 9"),
    (at("distribution", 2, 1), "key 'distribution' of trace 1: expected one kind of prior (and number of categories)"),
    (at("value", 1, np.nan), "key 'value' of trace 0: expected a finite number, found nan at address 'mu__Normal__1'"),
    (at("value", 5, 3.0), "key 'value' of trace 2: expected a value in the support of its prior"),
    (setting("value", ["a"] * 6), "key 'value': expected numbers, found the type"),
    (string("addresses", 1, "mu"), "key 'addresses': expected BASE__INSTANCE with an instance number from 1"),
    (string("addresses", 1, "mu__0"), "such as 'mu__Normal__1', found 'mu__0'"),
    (string("addresses", 1, "mu__Normal__2"), "key 'addresses': expected unique addresses, found 'mu__Normal__2'"),
    (setting("addresses", np.arange(3)), "key 'addresses': expected strings, found the type"),
    (setting("names", ["a"]), "key 'names': expected 3 strings, one per address, found 1"),
    (string("distributions", 1, "Normal(0, 1)"), "key 'distributions': number 1: expected JSON, found 'Normal(0, 1)'"),
    (string("distributions", 1, '{"kind": "Gauss"}'), "number 1: expected a kind of Normal, Uniform, Categorical"),
    (string("distributions", 1, '{"kind": "Normal", "mean": 0}'), "number 1: expected Normal with mean, stddev, found"),
    (string("distributions", 1, '{"kind": "Normal", "mean": 0, "stddev": -1}'), "a finite mean and stddev > 0"),
    (string("distributions", 1, '{"kind": "Normal", "mean": "0", "stddev": 1}'), "number 1: expected numbers, found"),
    (setting("controlled", np.full(6, 2)), "key 'controlled': expected 0 or 1, found 2"),
    (setting("seed", np.array([3, 4, 3])), "key 'seed' of trace 2: expected unique seeds, found that of trace 0"),
    (setting("seed", np.array([3, -4, 5])), "key 'seed' of trace 1: expected a number from 0, found -4"),
    (setting("seed", np.array([3])), "key 'seed': expected shape (3,), one number per trace, found (1,)"),
    (setting("draws", np.array([2, 2, 1])), "key 'draws' of trace 1: expected at least 3, the number of entries"),
    (setting("log_prior", np.zeros(3)), "key 'log_prior' of trace 0: expected -"),
    (setting("log_likelihood", np.full(3, np.inf)), "key 'log_likelihood' of trace 0: expected a finite number"),
    (at("expected/image", (1, 0, 0), np.inf), "key 'expected/image' of trace 1: expected finite numbers, found inf"),
    (at("expected/image", (1, 0, 0), 1e60), "key 'expected/image' of trace 1: expected finite numbers, found inf"),
    (at("observation/lengths", (2, 1), np.nan), "key 'observation/lengths' of trace 2: expected finite numbers"),
    (setting("expected/image", np.zeros((2, 2, 4))), "key 'expected/image': expected an array of shape (3, ...)"),
    (setting("observation/image", np.zeros((3, 2))), "either this or 'observation/image', found both"),
    (without("stddev/image"), "key 'stddev/image': expected one number, or an array of shape (3,), found none"),
    (at("stddev/image", 1, 0.0), "key 'stddev/image' of trace 1: expected a finite number above 0, found 0.0"),
    (setting("stddev/lengths", np.ones(3)), "key 'stddev/lengths': expected 'expected/lengths' as well, found none"),
    (setting("observations", ["image"]), "key 'observations': expected the names ['image', 'lengths'], each once"),
    (setting("tag/energy", np.zeros(2)), "key 'tag/energy': expected an array of shape (3, ...), found (2,)"),
    (at("tag/track/offset", 1, 9), "key 'tag/track/offset' of trace 0: expected offsets that do not decrease, at most"),
    (setting("provenance", "theirs"), "key 'provenance': expected JSON, found 'theirs'"),
    (setting("provenance", '{"model_name": "x"}'), "key 'provenance': expected an object with some of producer (str)"),
    (setting("provenance", '{"kept": "all"}'), "'kept' is 'all', but there is no 'rejected/value'"),
    (setting("rejected/value", np.zeros(2)), "key 'rejected/offset': expected this key, since other keys"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
@pytest.mark.parametrize("kind", KINDS)
def test_invalid_content_is_refused(tmp_path, kind, change, message):
    content = foreign()
    change(content)
    source = write(tmp_path / f"foreign.{kind}", content)
    before = source.read_bytes()
    with pytest.raises(DatasetError) as caught:
        from_plain(source, tmp_path / "traces.h5", model="theirs")
    assert str(caught.value).startswith(f"{source}: ")
    assert message in str(caught.value)
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("column", "place", "value", "message"),
    [
        ("position", 0, 4000, "key 'rejected/position' of trace"),
        ("value", 0, 77.0, "key 'rejected/value' of trace"),
        ("flags", 0, 32, "key 'rejected/flags' of trace"),
        ("address", 0, 400, "key 'rejected/address' of trace"),
        ("offset", 1, 40000, "key 'rejected/offset' of trace 0"),
        ("../draws", 3, 4000, "key 'draws' of trace 3: expected "),
    ],
)
def test_rejected_repetitions_are_checked(tmp_path, column, place, value, message):
    to_plain.to_plain([make("all", tmp_path)], tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5", "r+") as file:
        file[f"rejected/{column}".replace("rejected/../", "")][place] = value
    with pytest.raises(DatasetError) as caught:
        from_plain(tmp_path / "plain.h5", tmp_path / "t.h5")
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_and_foreign_files(tmp_path, kind):
    source = write(tmp_path / f"foreign.{kind}", foreign())
    whole = source.read_bytes()
    for content in (b"", b"nothing of the kind", whole[: len(whole) // 2], whole[:-30]):
        source.write_bytes(content)
        with pytest.raises(DatasetError, match=rf"foreign\.{kind}: .* it is truncated, altered or not a valid plain"):
            from_plain(source, tmp_path / "t.h5", model="theirs")
    if kind == "npz":
        with source.open("wb") as file:
            np.save(file, np.zeros(3))
        with pytest.raises(DatasetError, match="it is a single array"):
            from_plain(source, tmp_path / "t.h5", model="theirs")
    source.unlink()
    with pytest.raises(DatasetError, match=rf"foreign\.{kind}: no such plain set of traces"):
        from_plain(source, tmp_path / "t.h5", model="theirs")
    with pytest.raises(DatasetError, match=r"foreign\.csv: expected a file named \.h5 or \.npz"):
        from_plain(tmp_path / "foreign.csv", tmp_path / "t.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_altered_byte_of_an_npz_is_found(tmp_path):
    source = tmp_path / "foreign.npz"
    np.savez_compressed(source, **foreign())
    content = bytearray(source.read_bytes())
    rng = np.random.default_rng(3)
    found = 0
    for position in rng.choice(len(content), 40, replace=False).tolist():
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        source.write_bytes(changed)
        target = tmp_path / f"{position}.h5"
        try:
            from_plain(source, target, model="theirs")
        except DatasetError as error:
            assert "foreign.npz" in str(error)  # noqa: PT017 - both outcomes are right, the message must name the file
            found += 1
        else:
            assert verify([target]) == 3
    assert found > 20


def test_pickles_are_not_opened(tmp_path):
    np.savez(tmp_path / "f.npz", **(foreign() | {"addresses": np.array([{"a": 1}] * 3, object)}))
    with pytest.raises(DatasetError, match="column 'addresses' cannot be read"):
        from_plain(tmp_path / "f.npz", tmp_path / "t.h5", model="theirs")


def test_the_model_needs_a_name_and_nothing_is_overwritten(tmp_path):
    source = write(tmp_path / "f.h5", foreign())
    with pytest.raises(DatasetError, match=r"f\.h5: the name of the model is missing; give it with --model NAME"):
        from_plain(source, tmp_path / "t.h5")
    (tmp_path / "t.h5").write_text("mine")
    with pytest.raises(DatasetError, match=r"t\.h5: already exists and is not overwritten"):
        from_plain(source, tmp_path / "t.h5", model="theirs")
    ours = part(tmp_path, 0, 20)
    for name in ("t.h5", "x.txt"):
        with pytest.raises(DatasetError, match=r"already exists|expected a file named"):
            to_plain.to_plain([ours], tmp_path / name)
    assert (tmp_path / "t.h5").read_text() == "mine"
    with locked(tmp_path / "u.h5", "writing"), pytest.raises(DatasetError, match=r"u\.h5: process \d+ is writing it"):
        from_plain(source, tmp_path / "u.h5", model="theirs")


def test_an_npz_file_has_a_limit(tmp_path, monkeypatch):
    ours = part(tmp_path, 0, 20)
    monkeypatch.setattr(to_plain, "MAX_NPZ_BYTES", 9_000)
    with pytest.raises(DatasetError, match=r"p\.npz: more than 0\.0 GB, too large for an npz file"):
        to_plain.to_plain([ours], tmp_path / "p.npz")
    assert [path.name for path in tmp_path.iterdir()] == [ours.name]
    to_plain.to_plain([ours], tmp_path / "p.h5")


PRIORS = [
    (1, (0.1, 0.3)), (2, (-1e-300, 1e300)), (3, (0.1, 0.2, 0.7)), (4, (3.3,)), (5, (0.25,)), (6, (0.5, 2.0)),
    (7, (1.5,)), (8, (2.0, 0.5)), (9, (0.1, 0.4)), (10, (5.0, 0.4)), (11, (1.0, 2.0)),
]  # fmt: skip


def random_set(rng):
    """A plain set of any size, with every kind of prior, observation and tag, and traces of no entries."""
    n, addresses = int(rng.integers(1, 40)), int(rng.integers(1, 12))
    kinds = rng.integers(len(PRIORS), size=addresses)  # of each address
    lengths = rng.integers(0, addresses + 1, size=n)
    address = np.concatenate([rng.permutation(addresses)[:length] for length in lengths]).astype(np.int64)
    priors = [densities.prior(*PRIORS[kinds[number]]) for number in address]
    shape = tuple(rng.integers(1, 4, size=rng.integers(0, 4)).tolist())
    rows = rng.integers(0, 3, size=n)
    content = {
        "addresses": [f"[main+{i}]__{i}__{i + 1}" for i in range(addresses)],
        "names": [f"n{i}" if rng.random() < 0.5 else "" for i in range(addresses)],
        "distributions": [plain.prior_to_json(prior) for prior in PRIORS],
        "offset": np.concatenate([[0], np.cumsum(lengths)]),
        "address": address,
        "distribution": kinds[address],
        "value": np.array([prior.sample(rng) for prior in priors]),
        "controlled": rng.integers(2, size=len(address)),
        "replaced": rng.integers(2, size=len(address)),
        "seed": rng.permutation(1000)[:n],
        "index": np.arange(n) * 3,
        "draws": lengths + rng.integers(0, 9, size=n),
        "log_likelihood": rng.normal(size=n),
        "expected/a": (rng.normal(size=(n, *shape)) * (rng.random((n, *shape)) < 0.3)).astype(np.float32),
        "stddev/a": rng.random(n) + 0.1,
        "observation/b": rng.normal(size=(n, 3)).astype(np.float32),
        "tag/flat": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
        "tag/rows/offset": np.concatenate([[0], np.cumsum(rows)]),
        "tag/rows/content": rng.normal(size=(int(rows.sum()), 2)),
    }
    return {key: value for key, value in content.items() if key not in rng.choice(["tag/flat", "observation/b"], 1)}


def is_absent_everywhere(content, key):
    """Return whether no trace has a value of a tag, so that its name and shape are not stored."""
    return len(content["tag/rows/content"]) == 0 if "rows" in key else bool(np.isnan(content[key]).all())


@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(0, 20_000))
@example(2934, "h5", "npz", 0)
def test_import_and_export_are_inverse(tmp_path_factory, seed, there, back, window_bytes):
    folder = tmp_path_factory.mktemp("any")
    content = random_set(np.random.default_rng(seed))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(convert, "WINDOW_BYTES", window_bytes)
        patched.setattr(to_plain, "WINDOW_BYTES", window_bytes)
        from_plain(write(folder / f"in.{there}", content), folder / "t.h5", model="any")
        assert verify([folder / "t.h5"]) == len(content["seed"])
        to_plain.to_plain([folder / "t.h5"], folder / f"out.{back}")
    with plain.Plain(folder / f"out.{back}") as found:
        used = [found.strings("addresses")[number] for number in found.whole("address")]
        assert used == [content["addresses"][number] for number in content["address"]]
        priors = [json.loads(found.strings("distributions")[number]) for number in found.whole("distribution")]
        assert priors == [json.loads(content["distributions"][number]) for number in content["distribution"]]
        absent = {key for key in content if key.startswith("tag/") and is_absent_everywhere(content, key)}
        assert not any(key in found for key in absent)
        for key in content.keys() - absent - {"addresses", "names", "distributions", "address", "distribution"}:
            np.testing.assert_array_equal(found.whole(key), content[key], err_msg=key)


@pytest.mark.parametrize("prior", PRIORS)
def test_distributions_round_trip_exactly(prior):
    assert plain.prior_from_json(plain.prior_to_json(prior)) == prior


def test_on_the_command_line(tmp_path, capsys):
    source = write(tmp_path / "f.npz", foreign())
    call = ["traces", "convert", "--input", str(source), "--output", str(tmp_path / "t.h5")]
    assert main([*call, "--model", "theirs", "--split", "test", "--seed", "9"]) == 0
    assert f"{tmp_path / 't.h5'}  3 traces" in capsys.readouterr().out
    with Shard(tmp_path / "t.h5") as shard:
        assert shard.whole("traces/seed")[1] == seeds.derive(9, "convert/test", 1)
    assert main([*call, "--model", "theirs"]) == 1
    assert "is not overwritten" in capsys.readouterr().err
    back = ["traces", "convert", "--to-plain", "--input", str(tmp_path / "t.h5"), "--output", str(tmp_path / "b.npz")]
    assert main([*back, "--model", "x"]) == 1
    assert "--model is for import from the plain layout" in capsys.readouterr().err
    assert main(back) == 0
    with np.load(tmp_path / "b.npz") as content:
        np.testing.assert_array_equal(content["value"], foreign()["value"])
        np.testing.assert_array_equal(content["expected/image"], foreign()["expected/image"])
    assert main([*call[:3], str(source), *call[3:]]) == 1
    assert "expected one plain file, found 2" in capsys.readouterr().err
