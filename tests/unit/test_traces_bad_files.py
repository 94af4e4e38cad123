# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Bad trace files on the command line: one message that names what is wrong, exit code 1, and nothing is touched."""

import json
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from unit.traces_altered import altered, put, reseal
from unit.traces_support import DETECTOR, PROVENANCE

from etalumis.cli import main
from etalumis.traces.format import ALL
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.recording import Recording
from etalumis.traces.sorting.sort import sort

COUNT = 80

# the verbs that read traces; B is the bad input, G a good file that goes with it, and O the output
READING = {
    "info": "traces info B",
    "verify": "traces verify B",
    "sort": "traces sort --shard-traces 30 --input B --output O",
    "merge": "traces merge --shard-traces 30 --input B --output O",
    "split": "traces split --input B --share train=0.5 test=0.5 --seed 1 --output O",
    "convert": "traces convert --to-plain --input B --output O.h5",
    "layers": "layers --input B --output O.json",
}
BOTH = {name: line.replace("--input B", "--input G B").replace("info B", "info G B") for name, line in READING.items()}
CONTENT = ("verify", "sort", "merge", "split", "convert")
"""Those that read every column."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with two files of every kind of column, and a sorted set."""
    folder = tmp_path_factory.mktemp("good")
    for number in range(2):
        provenance = replace(PROVENANCE, part=number)
        generate(DETECTOR, folder / f"train-{number}.h5", provenance, number * COUNT, COUNT, recording=Recording(ALL))
    sort([folder / "train-0.h5", folder / "train-1.h5"], folder / "sorted", 40)
    return folder


def contents(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call a line that must fail, and return its one message; inputs are untouched and there is no output."""

    def refuse(line: str, bad: Path) -> str:
        words = {"B": str(bad), "G": str(good / "train-0.h5")}
        output = tmp_path / "out"
        call = [words.get(word, re.sub(r"^O\b", str(output), word)) for word in line.split()]
        before = contents(good, tmp_path)
        capsys.readouterr()
        assert main(call) == 1
        after = contents(good, tmp_path)
        assert {path: after.get(path) for path in before} == before
        # a sorting that has begun leaves what it can go on from, but nothing that looks like a sorted set
        assert not [path.name for path in after.keys() - before.keys() if not re.match("plan|spill-|shard-", path.name)]
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.count("etalumis: error: ") == 1
        return error.partition("etalumis: error: ")[2]

    return refuse


def truncated(good: Path, folder: Path) -> Path:
    path = folder / "bad.h5"
    path.write_bytes((good / "train-1.h5").read_bytes()[:9_000])
    return path


def empty(_: Path, folder: Path) -> Path:
    path = folder / "bad.h5"
    path.touch()
    return path


def no_hdf5(_: Path, folder: Path) -> Path:
    path = folder / "bad.h5"
    path.write_text("px,py,pz\n1,2,3\n")
    return path


def foreign_hdf5(_: Path, folder: Path) -> Path:
    path = folder / "bad.h5"
    with h5py.File(path, "w") as file:
        file["energies"] = np.arange(3)
    return path


def of_version(version: int) -> Callable[[Path, Path], Path]:
    def make(good: Path, folder: Path) -> Path:
        path = Path(shutil.copy(good / "train-1.h5", folder / "bad.h5"))
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = version
            reseal(file)
        return path

    return make


def altered_header(good: Path, folder: Path) -> Path:
    path = Path(shutil.copy(good / "train-1.h5", folder / "bad.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["run_seed"] = 4
    return path


def missing(_: Path, folder: Path) -> Path:
    return folder / "bad.h5"


def bare_folder(_: Path, folder: Path) -> Path:
    (folder / "bad").mkdir()
    return folder / "bad"


def set_without_a_shard(good: Path, folder: Path) -> Path:
    shutil.copytree(good / "sorted", folder / "bad")
    (folder / "bad" / "shard-00002.h5").unlink()
    return folder / "bad"


def set_with_a_replaced_shard(good: Path, folder: Path) -> Path:
    shutil.copytree(good / "sorted", folder / "bad")
    shutil.copy(folder / "bad" / "shard-00001.h5", folder / "bad" / "shard-00002.h5")
    return folder / "bad"


def index_of_version(version: int) -> Callable[[Path, Path], Path]:
    def make(good: Path, folder: Path) -> Path:
        shutil.copytree(good / "sorted", folder / "bad")
        path = folder / "bad" / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
        return folder / "bad"

    return make


def index_cut(good: Path, folder: Path) -> Path:
    shutil.copytree(good / "sorted", folder / "bad")
    path = folder / "bad" / "index.json"
    path.write_text(path.read_text()[:200])
    return folder / "bad"


def index_altered(good: Path, folder: Path) -> Path:
    shutil.copytree(good / "sorted", folder / "bad")
    path = folder / "bad" / "index.json"
    text = path.read_text()
    assert text.count('"model": "detector"') == 1
    path.write_text(text.replace('"model": "detector"', '"model": "Detector"'))
    return folder / "bad"


def other_json(_: Path, folder: Path) -> Path:
    path = folder / "bad.json"
    path.write_text('{"format": "something else"}')
    return path


BAD = {
    "truncated": (truncated, r"bad\.h5: the file cannot be read: it is truncated, altered or not a valid trace file"),
    "empty": (empty, r"bad\.h5: the file cannot be read: it is truncated, altered or not a valid trace file"),
    "no hdf5": (no_hdf5, r"bad\.h5: the file cannot be read: it is truncated, altered or not a valid trace file"),
    "foreign": (foreign_hdf5, r"bad\.h5: not a trace file: expected format 'etalumis-traces', found None"),
    "newer": (of_version(99), r"bad\.h5: format version 99, .*the file is newer: update etalumis"),
    "older": (of_version(1), r"bad\.h5: format version 1, .*the file is older"),
    "altered header": (altered_header, r"bad\.h5: its header was altered"),
    "missing": (missing, r"bad\.h5: no such trace file"),
    "bare folder": (bare_folder, r"bad/index\.json: no such file: the folder holds no sorted dataset"),
    "missing shard": (set_without_a_shard, r"bad/shard-00002\.h5: missing, but listed in .*index\.json"),
    "replaced shard": (set_with_a_replaced_shard, r"bad/shard-00002\.h5: its checksum is .* the shard was replaced"),
    "older index": (index_of_version(1), r"bad/index\.json: index version 1, this program reads 2; sort the traces"),
    "newer index": (index_of_version(3), r"bad/index\.json: index version 3, .*update etalumis"),
    "cut index": (index_cut, r"bad/index\.json: not a readable index"),
    "altered index": (index_altered, r"bad/index\.json: the index was altered: .*; sort the traces again"),
    "other json": (other_json, r"bad\.json: not an index of format 'etalumis-trace-index'"),
}


def verbs_and_kinds() -> list[tuple[str, str]]:
    """Return pairs in which every verb meets every second kind of bad input, and every kind half of the verbs."""
    return [(verb, kind) for i, verb in enumerate(READING) for j, kind in enumerate(BAD) if (i + j) % 2 == 0]


@pytest.mark.parametrize(("verb", "kind"), verbs_and_kinds())
def test_files_that_are_not_trace_files_are_refused(good, tmp_path, refused, kind, verb):
    make, message = BAD[kind]
    assert re.search(message, refused(READING[verb], make(good, tmp_path)), re.DOTALL)


def columns(good: Path) -> list[str]:
    with Shard(good / "train-1.h5") as shard:
        return list(shard.columns)


def inflates_to_the_same(stored: bytes, flipped: bytes) -> bool:
    """Return whether a flipped bit means nothing, as some in a deflate stream do."""
    try:
        return zlib.decompress(flipped) == zlib.decompress(stored)
    except zlib.error:
        return False


def flip_a_stored_byte(path: Path, column: str) -> bool:
    """Alter a byte of a column's first chunk; return False where it has none."""
    with h5py.File(path, "r") as file:
        dataset = file[column]
        if not dataset.id.get_num_chunks():
            return False
        chunk = dataset.id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    stored = bytes(content[chunk.byte_offset : chunk.byte_offset + chunk.size])
    for position in [0] if chunk.filter_mask else range(chunk.size // 2, chunk.size):
        flipped = bytearray(stored)
        flipped[position] ^= 0x10
        if chunk.filter_mask or not inflates_to_the_same(stored, bytes(flipped)):
            break
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = flipped
    path.write_bytes(content)
    return True


@pytest.mark.parametrize("verb", CONTENT)
def test_every_verb_finds_altered_bytes_and_names_the_column(good, tmp_path, refused, verb):
    found = 0
    of_verb = columns(good) if verb == "verify" else columns(good)[CONTENT.index(verb) - 1 :: 4]  # all, over the verbs
    for column in of_verb:
        path = Path(shutil.copy(good / "train-1.h5", tmp_path / "bad.h5"))
        if not flip_a_stored_byte(path, column):
            continue
        error = refused(READING[verb], path)
        assert f"bad.h5: column '{column}'" in error or f"bad.h5: column '{column.partition('/')[0]}'" in error, error
        found += 1
    assert found > len(of_verb) / 2


@pytest.mark.parametrize("verb", ["verify", "split", "sort"])
@pytest.mark.parametrize("column", ["entries/value", "traces/log_prior", "observations/calorimeter/mean"])
def test_nan_in_a_column_is_reported_with_its_trace(good, tmp_path, refused, column, verb):
    path = altered(good / "train-1.h5", tmp_path / "bad.h5", column, put(5, np.nan))
    with Shard(path) as shard:
        offset = {"entries/value": "traces/offset", "observations/calorimeter/mean": "observations/calorimeter/offset"}
        place = offset.get(column)
        trace = 5 if place is None else int(np.searchsorted(shard.whole(place), 5, side="right")) - 1
    error = refused(READING[verb], path)
    assert f"column '{column}'" in error
    assert "nan" in error
    if verb == "verify":
        assert f"bad.h5: column '{column}': trace {trace} has the value nan" in error


@pytest.mark.parametrize("verb", [verb for verb in BOTH if verb != "verify"])  # which looks at files one by one
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("simulator_build_id", "b1", "its simulator_build_id is 'b1', but that of .*train-0.h5 is 'b0'"),
        ("config_digest", "c1", "its config_digest is 'c1', but that of .*train-0.h5 is 'c0'"),
        ("model", "other", "its model is 'other', but that of .*train-0.h5 is 'detector'"),
        ("kept", "accepted", "its kept is 'accepted', but that of .*train-0.h5 is 'all'"),
    ],
)
def test_traces_of_different_origin(tmp_path, refused, key, value, message, verb):
    path = tmp_path / "bad.h5"
    provenance = replace(PROVENANCE, **({} if key == "kept" else {key: value}))
    generate(DETECTOR, path, provenance, 500, 20, recording=Recording("accepted" if key == "kept" else ALL))
    assert re.search(rf"bad\.h5: {message}", refused(BOTH[verb], path))


def test_the_settings_that_differ_are_named(tmp_path, refused):
    other = tmp_path / "other.h5"
    for path, noise, digest in ((tmp_path / "bad.h5", 0.3, "c1"), (other, 0.2, "c2")):
        settings = json.dumps({"noise_gev": noise, "cut": {"gev": 1}})
        provenance = replace(PROVENANCE, config_digest=digest, settings=settings)
        generate(DETECTOR, path, provenance, 500, 10, recording=Recording(ALL))
    error = refused(f"traces sort --shard-traces 30 --input {other} B --output O", tmp_path / "bad.h5")
    assert "(noise_gev: 0.3 instead of 0.2)" in error
    assert "or give --mix to mix them" in error


def test_mixing_on_request(good, tmp_path, capsys):
    path = tmp_path / "other.h5"
    generate(DETECTOR, path, replace(PROVENANCE, config_digest="c1"), 500, 20, recording=Recording(ALL))
    files = [str(good / "train-0.h5"), str(path)]
    assert main(["traces", "info", "--mix", *files]) == 0
    assert "config mixed" in capsys.readouterr().out
    sort_call = ["traces", "sort", "--mix", "--shard-traces", "30", "--input", *files]
    assert main([*sort_call, "--output", str(tmp_path / "sorted")]) == 0
    assert main(["traces", "verify", str(tmp_path / "sorted")]) == 0


@pytest.mark.parametrize("verb", BOTH)
def test_duplicate_inputs_are_refused(good, tmp_path, refused, verb):
    # the same file under its own name
    if verb in ("sort", "merge"):
        copy = Path(shutil.copy(good / "train-0.h5", tmp_path / "copy.h5"))
        assert re.search(r"(twice|same seed)", refused(BOTH[verb], copy))
    line = BOTH[verb].replace("verify B", "verify G B")
    assert "the same trace file was given twice" in refused(line, good / "train-0.h5")


@pytest.mark.parametrize("verb", ["sort", "merge", "split"])
def test_a_nonempty_folder_is_not_touched(good, tmp_path, refused, verb):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    error = refused(READING[verb], good / "train-0.h5")
    assert "out: not empty (it holds thesis.tex); choose a new folder or remove this one" in error


def test_an_existing_file_is_not_touched(good, tmp_path, refused):
    (tmp_path / "out.h5").write_text("mine")
    assert "out.h5: already exists and is not overwritten" in refused(READING["convert"], good / "train-0.h5")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails with EFBIG, as it does with ENOSPC on a full disk
from etalumis.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("verb", ["split", "convert", "plain"])
@pytest.mark.parametrize("limit", [2_000, 30_000])
def test_a_full_disk(good, tmp_path, verb, limit):
    source = good / "train-0.h5"
    line = READING["convert" if verb == "plain" else verb]
    if verb == "convert":
        assert main(["traces", "convert", "--to-plain", "--input", str(source), "--output", f"{tmp_path}/in.h5"]) == 0
        line, source = "traces convert --input B --output O.h5", tmp_path / "in.h5"
    words = {"B": str(source), "O": str(tmp_path / "out"), "O.h5": str(tmp_path / "out.h5")}
    call = [words.get(word, word) for word in line.split()]
    before = contents(good, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *call],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("etalumis: error: ") == 1
    assert re.search(r"out.*cannot be written \(File too large\); free some space", done.stderr, re.DOTALL), done.stderr
    after = contents(good, tmp_path)
    assert {path: after[path] for path in before} == before
    # the same command goes on when there is room
    assert main(call) == 0
    made = [tmp_path / "out.h5"] if verb in ("convert", "plain") else sorted((tmp_path / "out").glob("*.h5"))
    assert made
    if verb != "plain":
        assert main(["traces", "verify", *map(str, made)]) == 0


WRITING = {
    "generate": "traces generate --config C --simulator none --split train --output O",
    "sort": READING["sort"],
    "merge": READING["merge"],
    "split": READING["split"],
    "convert": "traces convert --to-plain --input B --output O.h5",
    "observation": "traces observation --input B --trace 0 --seed 1 --output O",
    "info": "traces info B --figure O.png",
}


def a_folder(path: Path) -> str:
    path.mkdir()
    return "is a folder; expected the name of a file|already exists"


def a_file(path: Path) -> str:
    path.write_text("mine")
    return "is a file; expected a folder"


def below_a_file(path: Path) -> str:
    path.parent.write_text("mine")
    return f"cannot be written: {re.escape(str(path.parent))} is a file, expected a folder"


@pytest.mark.parametrize("verb", WRITING)
@pytest.mark.parametrize("place", ["wrong kind", "below a file"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    good, tmp_path, monkeypatch, capsys, checkout, verb, place
):
    monkeypatch.setattr(Shard, "check_content", lambda _: pytest.fail("the work has begun"))
    writes_folder = verb in ("sort", "merge", "split")
    output = tmp_path / "below" / ("out" if writes_folder else "out.h5" if verb == "convert" else "out.png")
    if place == "wrong kind":
        output.parent.mkdir()
        message = (a_file if writes_folder else a_folder)(output)
    else:
        message = below_a_file(output)
    config = str(checkout / "config" / "test.yaml")
    words = {"B": str(good / "train-0.h5"), "C": config, **dict.fromkeys(("O", "O.h5", "O.png"), str(output))}
    before = contents(good, tmp_path)
    assert main([words.get(word, word) for word in WRITING[verb].split()]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == error.count("etalumis: error: ") == 1
    assert re.search(rf"{re.escape(str(output))}: ({message})", error), error
    assert contents(good, tmp_path) == before


def test_the_fixture_has_columns_of_every_kind(good):
    assert {column.partition("/")[0] for column in columns(good)} == {
        "addresses", "distributions", "entries", "names", "observations", "rejected", "tags", "traces",
    }  # fmt: skip
