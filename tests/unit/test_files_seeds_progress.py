# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Atomic files, derived seeds, progress lines."""

import errno
import fcntl
import logging
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from etalumis import files, refusals, seeds
from etalumis.cli import main
from etalumis.errors import StorageError
from etalumis.progress import Progress, duration


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path):
    target = tmp_path / "product.txt"
    files.write_text_atomic(target, "old")

    def fail_half_way():
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["product.txt"]


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("folder", False, "folder: is a folder; expected the name of a file"),
        ("file", True, "file: is a file; expected a folder"),
        ("fifo", False, "fifo: is not a regular file"),
        ("file/below/it", False, r"below/it: cannot be written: .*/file is a file, expected a folder"),
        ("file/below/it", True, r"below/it: cannot be written: .*/file is a file, expected a folder"),
        ("x" * 250, False, r"x: cannot be written \(File name too long\); check the path"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path, name, folder, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StorageError, match=message):
        files.require_writable(tmp_path / name, "posterior", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "file", "folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_an_output_that_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "old").write_text("old")
    files.require_writable(tmp_path / "old")
    files.require_writable(tmp_path, folder=True)
    files.require_writable(tmp_path / "new" / "network", folder=True)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["new", "old"]
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "change its permissions"),
        (errno.EROFS, "a file system that is not read-only"),
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
    ],
)
def test_an_output_that_the_system_refuses_is_found_before_the_work(tmp_path, monkeypatch, number, remedy):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(StorageError, match=rf"out: cannot be written \({os.strerror(number)}\); .*{remedy}"):
        files.require_writable(tmp_path / "out")
    with pytest.raises(StorageError, match=rf"out: cannot be written \({os.strerror(number)}\); .*{remedy}"):
        files.write_text_atomic(tmp_path / "out", "text")


def test_a_file_system_that_is_full_is_found_by_writing(tmp_path):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
            files.require_writable(tmp_path / "out")
        except StorageError as error:
            code = 3 if "out: cannot be written (File too large); free some space" in str(error) else 4
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_the_remedy(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.delenv(refusals.LOCKING, raising=False)
    with (
        pytest.raises(StorageError, match=r"refuses file locks: .*; set HDF5_USE_FILE_LOCKING=FALSE"),
        files.locked(tmp_path / "out", "writing"),
    ):
        pass
    monkeypatch.setenv(refusals.LOCKING, "FALSE")
    with files.locked(tmp_path / "out", "writing"):
        pass


def test_hdf5_that_cannot_be_written_ends_in_one_message_and_no_crash(tmp_path):
    program = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from pathlib import Path
import numpy as np
from etalumis.errors import StorageError
from etalumis.products import write_hdf5

def fill(file):
    for number in range(40):
        file.create_dataset(f"values/{{number}}", data=np.random.default_rng(1).random(1000), compression="gzip")

try:
    write_hdf5(Path({str(tmp_path / "out.h5")!r}), fill)
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "out.h5: cannot be written (File too large); free some space" in done.stdout
    assert not list(tmp_path.iterdir())


def test_errors_of_the_system_are_distinguished_from_damage():
    def shown(text, kind=OSError):
        return str(refusals.storage_error("a.h5", "read", kind(text)))

    lock = "Unable to synchronously open file (unable to lock file, errno = {}, error message = '...')"
    assert "set HDF5_USE_FILE_LOCKING=FALSE" in shown(lock.format(errno.ENOLCK))
    assert "set HDF5_USE_FILE_LOCKING=FALSE" in shown(lock.format(errno.ENOSYS))
    assert "it is locked" in shown(lock.format(errno.EAGAIN))
    assert "a.h5: cannot be read (Input/output error); this is an error of the system, not damage" in shown(
        "file read failed: errno = 5,", RuntimeError
    )
    # an offset of a damaged file leads nowhere
    assert shown("file read failed: errno = 22, error message = 'Invalid argument'") == "None"
    assert shown("truncated file: eof = 96") == "None"
    assert shown("errno = 5", ValueError) == "None"
    # what makes the file is known to its reader
    assert refusals.storage_error("a.h5", "read", FileNotFoundError(errno.ENOENT, "none")) is None


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x", "some/file"), RuntimeError("write failed: errno = 28,")])
def test_an_unexpected_error_of_the_system_is_one_message(monkeypatch, capsys, error):
    def refuse(_):
        raise error

    monkeypatch.setattr("etalumis.cli.config.run", refuse)
    assert main(["config", "show", "config.yaml"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("etalumis: error: ")
    assert shown.count("\n") == 1
    assert "Input/output error" in shown or "No space left on device" in shown


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json_atomic(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_digests_do_not_depend_on_key_order_but_on_values():
    assert files.digest({"a": 1, "b": [2, 3]}) == files.digest({"b": [2, 3], "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": 2})


def test_seeds_are_fixed_distinct_and_give_uncorrelated_streams():
    assert seeds.derive(1, "traces", 0) == seeds.derive(1, "traces", 0)
    derived = {seeds.derive(run, stage, i) for run in (1, 11) for stage in ("traces", "traces/1") for i in range(1000)}
    assert len(derived) == 4000
    draws = np.array([seeds.generator(1, "rmh", i).random(2000) for i in range(2)])
    assert abs(np.corrcoef(draws)[0, 1]) < 5 / np.sqrt(2000)


def test_progress_shows_fraction_rate_and_time_left(caplog):
    caplog.set_level(logging.INFO)
    with Progress(1000, "traces", "traces train-000", interval_s=0.0) as progress:
        progress.update(250, failed=1)
    first, last = (record.message for record in caplog.records)
    assert first.startswith("traces train-000  250/1,000 traces   25%")
    assert "traces/s  left " in first
    assert first.endswith("failed=1")
    assert "250 traces in" in last


def test_durations_are_readable():
    assert [duration(s) for s in (8.24, 113, 7500)] == ["8.2 s", "1 m 53 s", "2 h 05 m"]
