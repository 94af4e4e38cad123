# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sorting that is killed, fails or loses files in the middle, and goes on."""

import json
import subprocess
import sys

import pytest
from unit.sort_support import Threads, bytes_of, random_files

from etalumis.errors import DatasetError
from etalumis.traces.sorting import first_pass
from etalumis.traces.sorting import gather as gather_module
from etalumis.traces.sorting import plan as sort_plan
from etalumis.traces.sorting import sort as sort_module
from etalumis.traces.sorting.sort import sort

KILL = """
import json, os, random, signal, sys, time
from pathlib import Path
from etalumis.traces.sorting.sort import sort

seed, output, files = int(sys.argv[1]), Path(sys.argv[2]), [Path(p) for p in sys.argv[3:]]
rng, longest, kills, kept, rewritten = random.Random(seed), 0.1, 0, {}, 0
stages = {"nothing": 0, "plan": 0, "spill": 0, "shard": 0, "index": 0}
while True:
    child = os.fork()
    if child == 0:
        sort(files, output, 700, 1)
        os._exit(0)
    time.sleep(rng.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    names = {p.name: p.stat().st_mtime_ns for p in output.iterdir()} if output.exists() else {}
    rewritten += sum(names.get(name) != when for name, when in kept.items())
    kept = {name: when for name, when in names.items() if name.startswith("shard-")}
    if os.WIFEXITED(status):
        break
    kills += 1
    longest *= 1.03  # it ends by itself at last, on a slow machine too
    reached = "index" if "index.json" in names else "shard" if kept else "plan" if names else "nothing"
    stages["spill" if reached == "plan" and any(n.startswith("spill-") for n in names) else reached] += 1
print(json.dumps({"status": status, "kills": kills, "rewritten": rewritten, "stages": stages}))
"""


@pytest.mark.parametrize("seed", [0, 1])
def test_kill_9_at_random_moments_costs_nothing_that_was_finished(tmp_path, seed):
    files = random_files(tmp_path, 7, [800, 700, 900, 300])
    before = [path.read_bytes() for path in files]
    sort(files, tmp_path / "undisturbed", 700, 1)
    command = [sys.executable, "-c", KILL, str(seed), tmp_path / "sorted", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(done.stdout)
    assert told["status"] == 0, done.stderr
    assert told["kills"] >= 10
    assert told["rewritten"] == 0
    assert told["stages"]["spill"] + told["stages"]["shard"] >= 3
    # and what the killed ones left half-made is gone
    assert bytes_of(tmp_path / "sorted") == bytes_of(tmp_path / "undisturbed")
    assert [path.read_bytes() for path in files] == before


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Sort on two ranks until some shards are there; return files, output and the bytes of an undisturbed sorting."""
    monkeypatch.setattr(sort_plan, "SLICE_TRACES", 4)
    monkeypatch.setattr(sort_plan, "PORTION_TRACES", 40)
    monkeypatch.setattr(sort_module, "segment_bytes", lambda memory_mb, traces: 4000)
    files = random_files(tmp_path, 7, [80, 70, 90])
    sort(files, tmp_path / "undisturbed", 30)
    write, made = gather_module.Gatherer.write, []

    def failing(self, unit, *arguments):
        if len(made) >= 3:
            raise DatasetError("the power is gone")
        made.append(unit)
        write(self, unit, *arguments)

    monkeypatch.setattr(gather_module.Gatherer, "write", failing)
    with pytest.raises(DatasetError, match="the power is gone"):
        Threads(2).run(lambda comm: sort(files, tmp_path / "sorted", 30, comm=comm))
    monkeypatch.setattr(gather_module.Gatherer, "write", write)
    return files, tmp_path / "sorted", bytes_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_finished_pieces_serve_any_number_of_ranks(interrupted, ranks):
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
        Threads(ranks).run(lambda comm: sort(files, output, 30, comm=comm))
    finally:
        first_pass.Spill = for_real
    assert bytes_of(output) == undisturbed
    assert {name: when for name, when in seen} == {n: when for n, when in kept.items() if n.startswith("spill-")}
    assert all(path.stat().st_mtime_ns == kept[path.name] for path in output.glob("shard-*") if path.name in kept)


def test_other_memory_than_before_goes_on_as_well(interrupted, monkeypatch):
    files, output, undisturbed = interrupted
    monkeypatch.setattr(sort_module, "segment_bytes", lambda memory_mb, traces: 1000)
    sort(files, output, 30)
    assert bytes_of(output, "shard-*") == {n: c for n, c in undisturbed.items() if n.startswith("shard-")}
    assert not list(output.glob("spill-*"))


def test_a_spill_file_that_is_not_whole_is_made_again(interrupted):
    files, output, undisturbed = interrupted
    spills = sorted(output.glob("spill-*"))
    spills[0].write_bytes(spills[0].read_bytes()[:-9])
    spills[1].write_bytes(b"")
    content = bytearray(spills[2].read_bytes())
    content[-300] ^= 1  # in the header or the table
    spills[2].write_bytes(content)
    spills[3].unlink()
    sort(files, output, 30)
    assert bytes_of(output) == undisturbed


def test_an_altered_spill_file_is_named_and_its_removal_is_enough(interrupted):
    files, output, undisturbed = interrupted
    spill = output / "spill-00001.raw"
    content = bytearray(spill.read_bytes())
    for place in range(0, len(content) // 2, 100):
        content[place] ^= 1  # so that a shard which is not finished yet is among what is hit
    spill.write_bytes(content)
    with pytest.raises(DatasetError, match=r"spill-00001\.raw: the traces at byte \d+ were altered"):
        sort(files, output, 30)
    spill.unlink()
    sort(files, output, 30)
    assert bytes_of(output) == undisturbed


def test_without_a_readable_plan_everything_is_made_again(interrupted):
    files, output, undisturbed = interrupted
    for text in ("", "[]", '{"format": "etalumis-sort-plan", "version": 2, "digest": "x", "edges": 3}'):
        (output / "plan.json").write_text(text)
        sort(files, output, 30)
        assert bytes_of(output) == undisturbed
        (output / "index.json").unlink()


def test_an_interruption_after_the_index_leaves_a_finished_set(interrupted, monkeypatch):
    files, output, undisturbed = interrupted

    def dying(self):
        raise KeyboardInterrupt

    clean = sort_module.Folder.clean
    monkeypatch.setattr(sort_module.Folder, "clean", dying)
    with pytest.raises(KeyboardInterrupt):
        sort(files, output, 30)
    monkeypatch.setattr(sort_module.Folder, "clean", clean)
    assert list(output.glob("spill-*"))
    sort(files, output, 30)
    assert bytes_of(output) == undisturbed
