# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Errors of the operating system are named as such: they say nothing about a file's content, and nothing is deleted."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from system_errors import fail_to_find, fail_to_read, no_free_descriptors
from unit.traces_support import DETECTOR, PROVENANCE, draw, part

from etalumis.address import AddressTable
from etalumis.cli import main
from etalumis.errors import SimulatorError, StorageError
from etalumis.inference import Posterior
from etalumis.inference.checkpoint import Checkpoint
from etalumis.models import FunctionModel
from etalumis.refusals import LOCKING
from etalumis.traces import observation
from etalumis.traces.index import read_index
from etalumis.traces.plain.convert import from_plain
from etalumis.traces.plain.export import to_plain
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording.builder import BlockBuilder
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.journal import Journal
from etalumis.traces.sorting.collective import SingleRank, collectively
from etalumis.traces.sorting.sort import sort

ZEROS = np.zeros(2)
READERS = {
    "traces.h5": Shard,
    "observation.h5": observation.load,
    "posterior.h5": Posterior.load,
    "plain.h5": lambda path: from_plain(path, path.with_name("back.h5")),
    "plain.npz": lambda path: from_plain(path, path.with_name("back.h5")),
    "measured.txt": lambda path: observation.measured(path, "image"),
    "sorted/index.json": read_index,
}


@pytest.fixture
def folder(tmp_path):
    """A file of every kind that is read."""
    traces = part(tmp_path, 0, 12).rename(tmp_path / "traces.h5")
    sort([traces], tmp_path / "sorted", 5)
    observation.save(observation.draw(TraceDataset(traces), 0, 1), tmp_path / "observation.h5")
    posterior(1).save(tmp_path / "posterior.h5")
    for kind in ("h5", "npz"):
        to_plain([traces], tmp_path / f"plain.{kind}")
    (tmp_path / "measured.txt").write_text("1 2 3")
    return tmp_path


def posterior(seed):
    return Posterior("rmh", {}, ZEROS, ZEROS, ZEROS, np.zeros(2, int), np.array([b"0"] * 2), {"seed": seed})


@pytest.mark.parametrize("fail", [fail_to_read, fail_to_find])
@pytest.mark.parametrize("name", READERS)
def test_errors_of_the_system_are_not_called_damage(folder, name, fail):
    reason = fail(folder / name)
    with pytest.raises(
        StorageError, match=rf"{name}: cannot be read \({reason}\); this is an error of the system, not"
    ):
        READERS[name](folder / name)


@pytest.mark.parametrize("name", [name for name in READERS if name != "sorted/index.json"])
def test_without_free_descriptors_the_message_names_the_limit(folder, name):
    with (
        no_free_descriptors(),
        pytest.raises(StorageError, match=r"Too many open files.*raise the limit .*ulimit -n"),
    ):
        READERS[name](folder / name)


@pytest.mark.parametrize("name", ["traces.h5", "observation.h5", "posterior.h5", "plain.h5"])
def test_a_lock_that_the_file_system_refuses_is_named_with_the_remedy(folder, monkeypatch, name):
    def refuse(*_, **__):
        text = (
            "Unable to synchronously open file (unable to lock file, errno = 37, error message = 'No locks available')"
        )
        raise OSError(errno.ENOLCK, text)

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(StorageError, match=rf"{name}: .*refuses file locks: No locks available.*{LOCKING}=FALSE"):
        READERS[name](folder / name)


def test_a_column_that_cannot_be_read_is_not_called_damage(folder, monkeypatch):
    shard = Shard(folder / "traces.h5")

    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", refuse)
    with pytest.raises(StorageError, match=r"traces\.h5: cannot be read \(Input/output error\)"):
        shard.read()


@pytest.mark.parametrize("name", ["shard-00001.h5", "plan.json"])
def test_an_interrupted_sort_keeps_files_that_cannot_be_read(folder, name):
    sorted_set = folder / "sorted"
    (sorted_set / "index.json").unlink()
    (sorted_set / name).rename(folder / "kept")
    (sorted_set / name).write_text("")
    fail_to_read(sorted_set / name)
    with pytest.raises(StorageError, match=rf"{name}: cannot be read \(Input/output error\)"):
        sort([folder / "traces.h5"], sorted_set, 5)
    assert (sorted_set / name).is_symlink()
    assert len(list(sorted_set.glob("shard-*.h5"))) == 3


def test_a_journal_that_cannot_be_read_is_kept(tmp_path):
    def broken():
        raise SimulatorError("broken")

    path = tmp_path / "t.h5"
    runs = []

    def run(execution):
        runs.append(1)
        return broken() if len(runs) > 8 else DETECTOR.run(execution)

    model = FunctionModel(lambda: None, "detector")
    model.run = run
    with pytest.raises(SimulatorError):
        generate(model, path, PROVENANCE, 0, 20, retries=0, frame_traces=2)
    (journal,) = path.with_name("t.h5.part").glob("*.journal")
    content = journal.read_bytes()
    fail_to_read(journal)
    with pytest.raises(StorageError, match=rf"{journal.name}: cannot be"):
        generate(DETECTOR, path, PROVENANCE, 0, 20)
    journal.unlink()
    journal.write_bytes(content)
    assert generate(DETECTOR, path, PROVENANCE, 0, 20).traces == 12


def test_a_journal_that_cannot_be_read_to_its_end_is_kept(tmp_path):
    with Journal(tmp_path / "t.journal", PROVENANCE, 0) as journal:
        builder = BlockBuilder(journal.dictionary)
        builder.add(draw(DETECTOR, 0, AddressTable()), seed=1, index=0)
        journal.append(builder.block())
        with Path("/proc/self/mem").open("rb") as unreadable:
            os.dup2(unreadable.fileno(), journal._file.fileno())
            with pytest.raises(StorageError, match=r"t\.journal: cannot be read \(Input/output error\)"):
                list(journal.blocks())


def test_an_error_of_the_system_on_one_rank_is_named_on_all():
    def fail():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "spill-00000.raw")

    with pytest.raises(StorageError, match=r"spill-00000\.raw: cannot be used \(No space left on device\); free some"):
        collectively(SingleRank(), fail)


def test_an_error_of_the_system_that_no_verb_expects_is_one_message(monkeypatch, capsys):
    def fail(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a/file")

    monkeypatch.setattr("etalumis.cli.config.run", fail)
    assert main(["config", "show"]) == 1
    assert capsys.readouterr().err == (
        "etalumis: error: a/file: cannot be used (Too many open files); raise the limit of open files (`ulimit -n`)\n"
    )


def test_a_finished_file_that_cannot_be_read_is_not_called_foreign(folder):
    fail_to_read(folder / "traces.h5")
    with pytest.raises(StorageError, match=r"traces\.h5: cannot be read"):
        generate(DETECTOR, folder / "traces.h5", replace(PROVENANCE, part=0), 0, 12)


def test_draws_that_cannot_be_read_are_not_discarded(tmp_path):
    checkpoint = Checkpoint(tmp_path / "p.h5.part", {"seed": 1})
    checkpoint.save(posterior(1), {})
    fail_to_read(checkpoint.path)
    with pytest.raises(StorageError, match=r"p\.h5\.part: cannot be read"):
        checkpoint.load()


def test_verify_names_files_that_cannot_be_read_beside_bad_ones(folder, capsys):
    part(folder, 1, 5)
    fail_to_read(folder / "traces.h5")
    (folder / "train-001.h5").write_bytes((folder / "train-001.h5").read_bytes()[:500])
    assert main(["traces", "verify", str(folder / "traces.h5"), str(folder / "train-001.h5")]) == 1
    error = capsys.readouterr().err
    assert "2 of 2 files or sets are bad or cannot be read:" in error
    assert "traces.h5: cannot be read (Input/output error); this is an error of the system" in error
    assert "train-001.h5: the file cannot be read: it is truncated" in error
