# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import errno
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from system_errors import files_end_at
from unit.traces_support import DETECTOR, PROVENANCE, draw, part

from etalumis.address import AddressTable
from etalumis.errors import DatasetError, SimulatorError, StorageError
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.recording import journal, storing
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.journal import Journal
from etalumis.traces.recording.recording import Recording
from etalumis.traces.recording.storing import held_bytes

PIECE = 10
COUNT = 45


class Fragile:
    """The detector model, whose process dies at some runs; a fresh one works."""

    can_restart = True
    name = "detector"

    def __init__(self, dies_at, restarts_needed=1):
        self.dies_at, self.restarts_needed = set(dies_at), restarts_needed
        self.runs = self.restarts = self.lives = 0

    def run(self, execution):
        result = DETECTOR.run(execution)
        if self.runs in self.dies_at and self.lives < self.restarts_needed:
            raise SimulatorError("exit code 7")
        self.runs, self.lives = self.runs + 1, 0
        return result

    def restart(self):
        self.restarts += 1
        self.lives += 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "train-000.h5"
    generate(DETECTOR, path, PROVENANCE, 0, COUNT, frame_traces=PIECE)
    return path


def test_the_number_of_jobs_does_not_change_the_traces(whole, tmp_path):
    parts = [part(tmp_path, 0, 20), part(tmp_path, 1, 20, 25)]
    one, two = TraceDataset(whole), TraceDataset(parts)
    assert one.column("index").tolist() == two.column("index").tolist() == list(range(COUNT))
    for index in range(COUNT):
        assert one.trace(index).by_address == two.trace(index).by_address


def test_other_seeds_and_splits_give_other_traces(whole, tmp_path):
    values = {TraceDataset(whole).trace(0).values[1]}
    for number, change in enumerate(({"run_seed": 12}, {"split": "valid"})):
        path = tmp_path / f"{number}.h5"
        generate(DETECTOR, path, replace(PROVENANCE, **change), 0, 1)
        values.add(TraceDataset(path).trace(0).values[1])
    assert len(values) == 3


def test_a_failed_run_is_repeated_in_a_new_process(whole, tmp_path, caplog):
    model = Fragile({3, 17})
    with caplog.at_level(logging.WARNING):
        generate(model, tmp_path / "t.h5", PROVENANCE, 0, COUNT, frame_traces=PIECE)
    assert model.restarts == 2
    assert (tmp_path / "t.h5").read_bytes() == whole.read_bytes()
    seed = TraceDataset(whole).column("seed")[17]
    assert f"trace 17 (seed {seed}) failed, attempt 1: exit code 7" in caplog.text


def test_a_run_that_always_fails_ends_the_call_and_keeps_the_pieces(tmp_path, caplog):
    path = tmp_path / "t.h5"
    with pytest.raises(SimulatorError, match="exit code 7"):
        generate(Fragile({25}, restarts_needed=99), path, PROVENANCE, 0, COUNT, retries=2, frame_traces=PIECE)
    assert "failed 3 times, giving up" in caplog.text
    assert not path.exists()
    model = Fragile(())
    generate(model, path, PROVENANCE, 0, COUNT, frame_traces=PIECE)
    assert model.runs == COUNT - 25  # even the traces since the last frame were kept


@pytest.mark.parametrize("most", [5_000, 50_000])
def test_frames_have_bounded_size(whole, tmp_path, monkeypatch, most):
    frames, append = [], Journal.append

    def spied(journal, block):
        frames.append(len(block))
        append(journal, block)

    monkeypatch.setattr(Journal, "append", spied)
    monkeypatch.setattr(storing, "FRAME_BYTES", most)
    monkeypatch.setattr(storing, "FRAME_S", 1e9)  # however slow the machine
    generate(DETECTOR, tmp_path / "t.h5", PROVENANCE, 0, COUNT)
    assert (tmp_path / "t.h5").read_bytes() == whole.read_bytes()
    held = [held_bytes(draw(DETECTOR, i, AddressTable())) for i in range(COUNT)]
    assert min(held) > 8 * 120  # an image of 120 voxels each
    ends = np.cumsum(frames)
    assert ends[-1] == COUNT
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        assert sum(held[start : end - 1]) <= most
        assert sum(held[start:end]) > most or end == COUNT


def test_a_journal_of_another_layout_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "t.h5"
    with monkeypatch.context() as older:
        older.setattr(journal, "VERSION", journal.VERSION - 1)
        with pytest.raises(SimulatorError):
            generate(Fragile({25}, restarts_needed=99), path, PROVENANCE, 0, COUNT, retries=0, frame_traces=PIECE)
    message = f"another origin \\(version: {journal.VERSION - 1} instead of {journal.VERSION}\\)"
    with pytest.raises(DatasetError, match=message):
        generate(DETECTOR, path, PROVENANCE, 0, COUNT)


SLOW = """
import sys, time
from pathlib import Path
from system_errors import files_end_at
from unit.traces_support import DETECTOR, PROVENANCE
from etalumis.traces.recording.generate import generate

class Slow:
    name = "detector"
    def run(self, execution):
        time.sleep(0.02)
        return DETECTOR.run(execution)

generate(Slow(), Path(sys.argv[1]), PROVENANCE, 0, 45, frame_traces=10)
"""


def test_a_killed_call_resumes(whole, tmp_path, caplog):
    path = tmp_path / "train-000.h5"
    folder = Path(f"{path}.part")
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{SLOW}", path]) as child:
        deadline = time.monotonic() + 60
        while sum(p.read_bytes().count(b"ETLMFRM1") for p in folder.glob("*.journal")) < 3:
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    assert not path.exists()
    model = Fragile(())
    with caplog.at_level(logging.INFO):
        generate(model, path, PROVENANCE, 0, COUNT, frame_traces=PIECE)
    assert model.runs in (COUNT - 10, COUNT - 20, COUNT - 30)
    assert "traces of an interrupted call" in caplog.text
    assert path.read_bytes() == whole.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def die(moment, at):
    """Kill this process by SIGKILL at write number `at` of the journal, or when the trace file is complete."""
    writev, calls = os.writev, []

    def write(descriptor, parts):
        calls.append(1)
        content = b"".join(parts)
        if len(calls) == at:
            os.write(descriptor, content[: len(content) // 2] if moment == "within a frame" else content)
            os.kill(os.getpid(), signal.SIGKILL)
        return writev(descriptor, parts)

    if moment == "before the rename":
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    else:
        os.writev = write


@pytest.mark.parametrize("moment", ["within a frame", "after a frame", "before the rename"])
def test_kill_9_loses_only_the_frame_that_is_written(whole, tmp_path, moment):
    path = tmp_path / "train-000.h5"
    kills, frames = 0, [0]
    while not path.exists():
        child = os.fork()
        if child == 0:
            try:
                if moment != "before the rename" or not kills:
                    die(moment, 6)
                generate(DETECTOR, path, PROVENANCE, 0, COUNT, frame_traces=2)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        frames.append(sum(p.read_bytes().count(b"ETLMFRM1") for p in tmp_path.glob("*.part/*.journal")))
        # the incomplete frame is cut off by the next call, which adds five
        assert path.exists() or frames[-1] >= frames[-2] + 5 or moment == "before the rename"
    assert kills == 1 if moment == "before the rename" else kills >= 3
    assert path.read_bytes() == whole.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["cut", "altered", "zeros behind"])
def test_a_damaged_frame_loses_only_the_frames_from_there_on(whole, tmp_path, damage, caplog):
    path = tmp_path / "t.h5"
    with pytest.raises(SimulatorError):
        generate(Fragile({40}, 99), path, PROVENANCE, 0, COUNT, retries=0, frame_traces=PIECE)
    (journal,) = Path(f"{path}.part").iterdir()
    content = journal.read_bytes()
    third = [at for at in range(len(content)) if content.startswith(b"ETLMFRM1", at)][3]
    if damage == "altered":
        content = content[: third + 200] + bytes([content[third + 200] ^ 1]) + content[third + 201 :]
    journal.write_bytes(content[:-7] if damage == "cut" else content + bytes(99) * (damage == "zeros behind"))
    model = Fragile(())
    generate(model, path, PROVENANCE, 0, COUNT, frame_traces=PIECE)
    assert "bytes are not a complete frame; their traces are drawn again" in caplog.text
    assert model.runs == {"cut": 15, "altered": 25, "zeros behind": 5}[damage]
    assert path.read_bytes() == whole.read_bytes()


def test_a_second_call_for_the_same_file_is_refused(tmp_path):
    path = tmp_path / "t.h5"

    class Nosy:
        name = "detector"

        def run(self, execution):
            with pytest.raises(DatasetError, match=rf"t.h5: process {os.getpid()} is generating it at the moment"):
                generate(DETECTOR, path, PROVENANCE, 0, 2)
            return DETECTOR.run(execution)

    generate(Nosy(), path, PROVENANCE, 0, 2)
    assert len(TraceDataset(path)) == 2


def test_a_disk_that_becomes_full_during_the_runs_loses_the_frame_that_is_written(whole, tmp_path, monkeypatch):
    path, frames, writev = tmp_path / "t.h5", [], os.writev

    def fail_at_the_third_frame(descriptor, parts):
        frames.append(parts)
        if len(frames) == 4:  # the first one has no traces
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writev(descriptor, parts)

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", fail_at_the_third_frame)
        with pytest.raises(StorageError) as failed:
            generate(DETECTOR, path, PROVENANCE, 0, COUNT, frame_traces=PIECE)
    (kept,) = path.with_name("t.h5.part").glob("*.journal")
    assert f"{kept}: cannot be written (No space left on device); free some space" in str(failed.value)
    assert str(failed.value).endswith(
        f"\n  The last 10 traces will be drawn again. The same command continues after the 20 traces in {kept}."
    )
    assert_resumed(path, whole, COUNT - 20)


def test_a_disk_that_is_full_after_the_runs_loses_no_traces(whole, tmp_path):
    path = tmp_path / "t.h5"
    with files_end_at(whole.stat().st_size // 2), pytest.raises(StorageError) as failed:
        generate(DETECTOR, path, PROVENANCE, 0, COUNT, frame_traces=PIECE)
    assert f"{path}: cannot be written (File too large)" in str(failed.value)
    assert "\n  No trace is lost. The same command continues after the 45 traces in " in str(failed.value)
    assert not path.exists()
    assert_resumed(path, whole, 0)


def assert_resumed(path, whole, runs):
    """Resume an interrupted call, which must make this number of runs and write the same file."""
    model = Fragile(())
    generate(model, path, PROVENANCE, 0, COUNT, frame_traces=PIECE)
    assert model.runs == runs
    assert path.read_bytes() == whole.read_bytes()


def test_traces_of_another_origin_are_not_used(whole, tmp_path):
    path = tmp_path / "t.h5"
    with pytest.raises(SimulatorError):
        generate(Fragile({25}, 99), path, replace(PROVENANCE, run_seed=99), 0, COUNT, retries=0)
    with pytest.raises(SimulatorError):
        generate(Fragile({25}, 99), path, PROVENANCE, 1, COUNT, retries=0)
    model = Fragile(())
    generate(model, path, PROVENANCE, 0, COUNT)
    assert model.runs == COUNT
    assert path.read_bytes() == whole.read_bytes()


def test_a_complete_file_is_kept_and_another_is_not_overwritten(whole, caplog):
    before = whole.stat().st_mtime_ns
    model = Fragile(())
    with caplog.at_level(logging.INFO):
        generate(model, whole, PROVENANCE, 0, COUNT)
    assert model.runs == 0
    assert "already complete" in caplog.text
    for provenance, first, message in (
        (replace(PROVENANCE, simulator_build_id="b1"), 0, "simulator_build_id: 'b0' instead of 'b1'"),
        (PROVENANCE, 1, "contains 45 traces from 0, expected 45 traces from 1"),
    ):
        with pytest.raises(DatasetError, match=message):
            generate(model, whole, provenance, first, COUNT)
    assert whole.stat().st_mtime_ns == before


@pytest.mark.parametrize("other", [Recording("controlled"), Recording(observation="noisy"), Recording(tags=("pair",))])
def test_a_file_with_another_recording_is_not_complete(whole, other):
    with pytest.raises(DatasetError, match=r"recording: .*not overwritten"):
        generate(DETECTOR, whole, PROVENANCE, 0, COUNT, recording=other)


def test_names_of_tags_that_no_trace_has_are_reported(tmp_path, caplog):
    path, kept = tmp_path / "t.h5", Recording(tags=("pair", "nosuch", "other"))
    with pytest.raises(SimulatorError):
        generate(Fragile({5}, restarts_needed=99), path, PROVENANCE, 0, COUNT, recording=kept)
    assert "nosuch" not in caplog.text
    generate(DETECTOR, path, PROVENANCE, 0, COUNT, recording=kept)
    (message,) = [record.getMessage() for record in caplog.records if "nosuch" in record.getMessage()]
    assert message == (
        f"{path}: no trace has the tags 'nosuch', 'other' given in traces.tags; "
        "the traces have the tags 'channel', 'pair', 'particles'"
    )


@pytest.mark.parametrize("tags", [None, (), ("channel", "particles")])
def test_tags_that_traces_have_are_not_reported(tmp_path, caplog, tags):
    generate(DETECTOR, tmp_path / "t.h5", PROVENANCE, 0, COUNT, recording=Recording(tags=tags))
    assert "no trace has" not in caplog.text


def test_values_follow_the_prior(tmp_path):
    generate(DETECTOR, tmp_path / "t.h5", PROVENANCE, 0, 1500)
    dataset = TraceDataset(tmp_path / "t.h5")
    channel, (px, x) = dataset.tags("channel"), dataset.tags("pair").T
    n = len(dataset)
    for value, probability in enumerate((0.6, 0.3, 0.1)):
        assert abs((channel == value).mean() - probability) < 4 * (probability * (1 - probability) / n) ** 0.5
    assert abs(px.mean()) < 4 * (3 / n) ** 0.5
    # the loop accepts x with probability x: density 2x, mean 2/3, variance 1/18
    assert abs(x.mean() - 2 / 3) < 4 * (1 / 18 / n) ** 0.5
    # two draws for each of on average two repetitions, beside 1 + (1.5 kicks) + 1 + 1 others
    assert abs(dataset.column("draws").mean() - 8.5) < 4 * (np.var(dataset.column("draws")) / n) ** 0.5
