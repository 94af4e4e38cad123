# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sorting that is killed, fails or loses files in the middle, and goes on."""

import json
import pickle
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from system_errors import fail_to_read
from unit.sort_support import Threads, bytes_of, random_files

from etalumis.errors import DatasetError, StorageError
from etalumis.traces.sorting import first_pass
from etalumis.traces.sorting import gather as gather_module
from etalumis.traces.sorting import sort as sort_module
from etalumis.traces.sorting import sort_plan as sort_plan
from etalumis.traces.sorting.sort import sort
from etalumis.traces.sorting.spill import AlteredSpill

KILL = """
import json, os, pathlib, signal, sys
from pathlib import Path
from etalumis.traces.columns import Column
from etalumis.traces.sorting import sort as sort_module
from etalumis.traces.sorting import sort_plan
from etalumis.traces.sorting.spill import SpillWriter

sort_plan.PORTION_TRACES = 40
sort_module.segment_bytes = lambda memory_mb, traces: 4000

moment, output, files = sys.argv[1], Path(sys.argv[2]), [Path(p) for p in sys.argv[3:]]
kills, kept, rewritten, stages = 0, {}, 0, []


def dying(owner, name, at, before):
    # Kill this process at call number `at` of a method, before or after the call.
    method, calls = getattr(owner, name), []

    def counted(*arguments):
        calls.append(1)
        if before and len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


while True:
    child = os.fork()
    if child == 0:
        # the first rename of a call is that of the plan; at least one other file is completed by each call
        if moment == "half-written":
            dying(SpillWriter, "append", 2**kills, False)
            dying(Column, "_write", max(1, 30 * (kills - 1)), False)
        else:
            dying(pathlib.Path, "replace", 3, moment == "before rename")
        sort_module.sort(files, output, 60, 1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    names = {p.name: p.stat().st_mtime_ns for p in output.iterdir()} if output.exists() else {}
    rewritten += sum(names.get(name) != when for name, when in kept.items())
    kept = {name: when for name, when in names.items() if name.startswith("shard-")}
    if os.WIFEXITED(status):
        break
    kills += 1
    stages.append("shard" if kept else "spill" if any(n.startswith("spill-") for n in names) else "plan")
print(json.dumps({"status": status, "kills": kills, "rewritten": rewritten, "stages": stages}))
"""


@pytest.mark.parametrize("moment", ["before rename", "after rename", "half-written"])
def test_kill_9_loses_no_complete_file(tmp_path, moment):
    """Every call is killed when it renames its third file, or while it writes one; the next call resumes."""
    files = random_files(tmp_path, 7, [80, 70, 90])
    before = [path.read_bytes() for path in files]
    sort(files, tmp_path / "undisturbed", 60, 1)
    command = [sys.executable, "-c", KILL, moment, tmp_path / "sorted", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(done.stdout)
    assert told["status"] == 0, done.stderr
    assert told["kills"] >= 4
    assert told["rewritten"] == 0
    assert {"spill", "shard"} <= set(told["stages"])
    # the files that the killed calls left incomplete are gone
    assert bytes_of(tmp_path / "sorted") == bytes_of(tmp_path / "undisturbed")
    assert [path.read_bytes() for path in files] == before


def set_limits(monkeypatch):
    """Let a rank hold few bytes and append few traces at a time, so that many files are written."""
    monkeypatch.setattr(sort_plan, "SLICE_TRACES", 4)
    monkeypatch.setattr(sort_plan, "PORTION_TRACES", 40)
    monkeypatch.setattr(sort_module, "segment_bytes", lambda memory_mb, traces: 4000)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Sort on two ranks until three shards exist; return files, output and the bytes of an undisturbed sort."""
    folder, made = tmp_path_factory.mktemp("stopped"), []
    write = gather_module.ShardGatherer.write

    def failing(self, unit, *arguments):
        if len(made) >= 3:
            raise DatasetError("the power is gone")
        made.append(unit)
        write(self, unit, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        set_limits(patch)
        files = random_files(folder, 7, [80, 70, 90])
        sort(files, folder / "undisturbed", 50)
        patch.setattr(gather_module.ShardGatherer, "write", failing)
        with pytest.raises(DatasetError, match="the power is gone"):
            Threads(2).run(lambda comm: sort(files, folder / "sorted", 50, comm=comm))
    return files, folder / "sorted", bytes_of(folder / "undisturbed")


@pytest.fixture
def interrupted(stopped, tmp_path, monkeypatch):
    """Return files, a copy of the output of the interrupted sort, and the bytes of an undisturbed sort."""
    files, output, undisturbed = stopped
    set_limits(monkeypatch)
    return files, shutil.copytree(output, tmp_path / "sorted"), undisturbed


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_complete_files_are_used_by_any_number_of_ranks(interrupted, ranks):
    files, output, undisturbed = interrupted
    kept = {path.name: path.stat().st_mtime_ns for path in output.glob("s*")}
    assert sum(name.startswith("shard-") for name in kept) == 3
    assert sum(name.startswith("spill-") for name in kept) == 7
    seen = []
    for_real = first_pass.Spill

    class Noted(for_real):
        def __init__(self, path, schema):
            seen.append((path.name, path.stat().st_mtime_ns))
            super().__init__(path, schema)

    first_pass.Spill = Noted
    try:
        Threads(ranks).run(lambda comm: sort(files, output, 50, comm=comm))
    finally:
        first_pass.Spill = for_real
    assert bytes_of(output) == undisturbed
    assert {name: when for name, when in seen} == {n: when for n, when in kept.items() if n.startswith("spill-")}
    assert all(path.stat().st_mtime_ns == kept[path.name] for path in output.glob("shard-*") if path.name in kept)


def test_resuming_with_other_memory(interrupted, monkeypatch):
    files, output, undisturbed = interrupted
    monkeypatch.setattr(sort_module, "segment_bytes", lambda memory_mb, traces: 1000)
    sort(files, output, 50)
    assert bytes_of(output, "shard-*") == {n: c for n, c in undisturbed.items() if n.startswith("shard-")}
    assert not list(output.glob("spill-*"))


def test_an_incomplete_spill_file_is_rewritten(interrupted):
    files, output, undisturbed = interrupted
    spills = sorted(output.glob("spill-*"))
    spills[0].write_bytes(spills[0].read_bytes()[:-9])
    spills[1].write_bytes(b"")
    content = bytearray(spills[2].read_bytes())
    content[-300] ^= 1  # in the header or the table
    spills[2].write_bytes(content)
    spills[3].unlink()
    sort(files, output, 50)
    assert bytes_of(output) == undisturbed


def damage(spill):
    content = bytearray(spill.read_bytes())
    for place in range(0, len(content) // 2, 100):
        content[place] ^= 1  # so that a shard which is not finished yet is among what is hit
    spill.write_bytes(content)


@pytest.mark.parametrize("ranks", [1, 3])
def test_altered_spill_files_are_rewritten(interrupted, ranks, caplog):
    files, output, undisturbed = interrupted
    for number in (1, 4):
        damage(output / f"spill-{number:05d}.raw")
    Threads(ranks).run(lambda comm: sort(files, output, 50, comm=comm))
    for number in (1, 4):
        told = rf"spill-{number:05d}\.raw: the traces at byte \d+ were altered: .*; it was removed"
        assert len(re.findall(told, caplog.text)) == 1
    assert bytes_of(output) == undisturbed


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_spill_file_that_is_damaged_twice_ends_the_sort(interrupted, monkeypatch, ranks):
    files, output, undisturbed = interrupted
    open_spills = sort_module.open_spills

    def damaging(folder, *arguments):
        with damaging.lock:
            if not damaging.turn % ranks:
                damage(folder / "spill-00001.raw")
            damaging.turn += 1
        return open_spills(folder, *arguments)

    damaging.lock, damaging.turn = threading.Lock(), 0
    monkeypatch.setattr(sort_module, "open_spills", damaging)
    with pytest.raises(DatasetError, match=r"spill-00001\.raw: .* damaged again.*and the same command resumes"):
        Threads(ranks).run(lambda comm: sort(files, output, 50, comm=comm))
    assert damaging.turn == 2 * ranks
    assert not (output / "spill-00001.raw").exists()
    monkeypatch.setattr(sort_module, "open_spills", open_spills)
    sort(files, output, 50)
    assert bytes_of(output) == undisturbed


def test_a_spill_file_that_cannot_be_read_is_not_called_altered(interrupted, tmp_path, monkeypatch):
    files, output, undisturbed = interrupted
    open_spills, spill = sort_module.open_spills, output / "spill-00001.raw"

    def failing(*arguments):
        opened = open_spills(*arguments)
        shutil.copy(spill, tmp_path / "kept")
        fail_to_read(spill)
        return opened

    with monkeypatch.context() as patched:
        patched.setattr(sort_module, "open_spills", failing)
        with pytest.raises(StorageError, match=r"spill-00001\.raw: cannot be read \(Input/output error\)"):
            sort(files, output, 50)
    assert spill.is_symlink()  # not removed, as an altered one is
    (tmp_path / "kept").replace(spill)
    sort(files, output, 50)
    assert bytes_of(output) == undisturbed


def test_the_error_of_an_altered_spill_file_can_be_pickled():
    error = AlteredSpill(Path("spill-00001.raw"), "it was altered")
    again = pickle.loads(pickle.dumps(error))  # as mpi4py does
    assert (again.path, str(again)) == (error.path, str(error)) == (error.path, "spill-00001.raw: it was altered")


@pytest.mark.parametrize(
    ("ranks", "change"),
    [
        (1, lambda plan: plan["edges"].__setitem__(2, plan["edges"][2] + 1)),
        (2, lambda plan: plan["edges"].__setitem__(2, plan["edges"][2] * 10)),
        (1, lambda plan: plan["edges"].__setitem__(slice(1, 3), plan["edges"][2:0:-1])),
        (2, lambda plan: plan["spilled"][0].__setitem__(2, plan["spilled"][0][2] + 1)),
        (1, lambda plan: plan["spilled"].pop()),
        (2, lambda plan: plan.update(version=float("nan"))),
        (1, lambda plan: plan.pop("checksum")),
    ],
)
def test_an_altered_plan_is_ignored(interrupted, ranks, change, caplog):
    files, output, undisturbed = interrupted
    plan = json.loads((output / "plan.json").read_text())
    change(plan)
    (output / "plan.json").write_text(json.dumps(plan))
    Threads(ranks).run(lambda comm: sort(files, output, 50, comm=comm))
    assert "plan.json: was altered: its checksum does not match its content" in caplog.text
    assert bytes_of(output) == undisturbed


def test_a_complete_set_with_an_altered_plan_is_not_replaced(interrupted):
    files, output, _ = interrupted
    sort(files, output, 50)
    text = (output / "plan.json").read_text()
    (output / "plan.json").write_text(text.replace('"digest": "', '"digest": "f'))
    before = bytes_of(output)
    with pytest.raises(DatasetError, match=r"or its plan\.json was altered; choose a new folder or remove this one"):
        sort(files, output, 50)
    assert bytes_of(output) == before


def test_without_a_valid_plan_everything_is_sorted_again(interrupted):
    files, output, undisturbed = interrupted
    for text in ("", "[]", '{"format": "etalumis-sort-plan", "version": 2, "digest": "x", "edges": 3}'):
        (output / "plan.json").write_text(text)
        sort(files, output, 50)
        assert bytes_of(output) == undisturbed
        (output / "index.json").unlink()


def test_an_interruption_after_the_index_leaves_a_complete_set(interrupted, monkeypatch):
    files, output, undisturbed = interrupted

    def dying(self):
        raise KeyboardInterrupt

    clean = sort_module.Folder.clean
    monkeypatch.setattr(sort_module.Folder, "clean", dying)
    with pytest.raises(KeyboardInterrupt):
        sort(files, output, 50)
    monkeypatch.setattr(sort_module.Folder, "clean", clean)
    assert list(output.glob("spill-*"))
    sort(files, output, 50)
    assert bytes_of(output) == undisturbed
