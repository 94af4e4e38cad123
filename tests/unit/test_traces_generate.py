# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import logging
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from unit.traces_support import DETECTOR, PROVENANCE, part

from etalumis.errors import DatasetError, SimulatorError
from etalumis.traces.generate import generate
from etalumis.traces.reader import TraceDataset

PIECE = 10
COUNT = 45


class Fragile:
    """The detector model, whose process dies at some runs; a fresh one works."""

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
    generate(DETECTOR, path, PROVENANCE, 0, COUNT, piece_traces=PIECE)
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


def test_a_failed_run_is_repeated_on_a_fresh_process(whole, tmp_path, caplog):
    model = Fragile({3, 17})
    with caplog.at_level(logging.WARNING):
        generate(model, tmp_path / "t.h5", PROVENANCE, 0, COUNT, piece_traces=PIECE)
    assert model.restarts == 2
    assert (tmp_path / "t.h5").read_bytes() == whole.read_bytes()
    seed = TraceDataset(whole).column("seed")[17]
    assert f"trace 17 (seed {seed}) failed, attempt 1: exit code 7" in caplog.text


def test_a_run_that_always_fails_ends_the_call_and_keeps_the_pieces(tmp_path, caplog):
    path = tmp_path / "t.h5"
    with pytest.raises(SimulatorError, match="exit code 7"):
        generate(Fragile({25}, restarts_needed=99), path, PROVENANCE, 0, COUNT, retries=2, piece_traces=PIECE)
    assert "failed 3 times, giving up" in caplog.text
    assert not path.exists()
    assert sorted(p.name for p in Path(f"{path}.part").iterdir()) == ["000000000000.h5", "000000000010.h5"]


SLOW = """
import sys, time
from pathlib import Path
from unit.traces_support import DETECTOR, PROVENANCE
from etalumis.traces.generate import generate

class Slow:
    name = "detector"
    def run(self, execution):
        time.sleep(0.02)
        return DETECTOR.run(execution)

generate(Slow(), Path(sys.argv[1]), PROVENANCE, 0, 45, piece_traces=10)
"""


def test_a_killed_call_goes_on_where_it_was(whole, tmp_path, caplog):
    path = tmp_path / "train-000.h5"
    folder = Path(f"{path}.part")
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{SLOW}", path]) as child:
        deadline = time.monotonic() + 60
        while not (folder / "000000000010.h5").exists():
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    assert not path.exists()
    kept = {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if not p.name.startswith(".")}
    assert 2 <= len(kept) < 5
    (folder / ".000000000020.h5.x.tmp").write_bytes(b"half")
    model = Fragile(())
    with caplog.at_level(logging.INFO):
        generate(model, path, PROVENANCE, 0, COUNT, piece_traces=PIECE)
    assert model.runs == COUNT - PIECE * len(kept)
    assert "of an interrupted call are kept" in caplog.text
    assert path.read_bytes() == whole.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pieces_of_another_call_or_damaged_ones_are_not_used(whole, tmp_path):
    path = tmp_path / "t.h5"
    for provenance, damage in ((replace(PROVENANCE, run_seed=99), False), (PROVENANCE, True)):
        with pytest.raises(SimulatorError):
            generate(Fragile({25}, 99), path, provenance, 0, COUNT, piece_traces=PIECE, retries=0)
        if damage:
            piece = Path(f"{path}.part") / "000000000010.h5"
            piece.write_bytes(piece.read_bytes()[:-100])
        model = Fragile(())
        generate(model, path, PROVENANCE, 0, COUNT, piece_traces=PIECE)
        assert model.runs == (COUNT - PIECE if damage else COUNT)
        assert path.read_bytes() == whole.read_bytes()
        path.unlink()


def test_a_whole_file_is_left_alone_and_another_is_not_overwritten(whole, caplog):
    before = whole.stat().st_mtime_ns
    model = Fragile(())
    with caplog.at_level(logging.INFO):
        generate(model, whole, PROVENANCE, 0, COUNT)
    assert model.runs == 0
    assert "already whole" in caplog.text
    for provenance, first, message in (
        (replace(PROVENANCE, simulator_build_id="b1"), 0, "simulator_build_id: 'b0' instead of 'b1'"),
        (PROVENANCE, 1, "holds 45 traces from 0, expected 45 traces from 1"),
    ):
        with pytest.raises(DatasetError, match=message):
            generate(model, whole, provenance, first, COUNT)
    assert whole.stat().st_mtime_ns == before


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
