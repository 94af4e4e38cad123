# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import os
import signal
import subprocess
import sys
import time

import pytest
from unit.sort_support import bytes_of, random_files
from unit.traces_support import part

from etalumis.traces.sorting.sort import sort

MPIEXEC = [sys.executable, "-m", "etalumis.mpiexec"]
ETALUMIS = [sys.executable, "-m", "etalumis"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    return [part(folder, number, 40) for number in range(3)]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("traces:\n  shard_traces: 25\nsorted:\n  memory_mb: 500\n")
    return path


def sort_on(ranks, config, files, output, world_size):
    return subprocess.run(
        [*MPIEXEC, "-n", str(ranks), *ETALUMIS, "traces", "sort", "--config", config, "--input", *files, "--output",
         output, "--world-size", str(world_size)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_three_ranks_give_the_bytes_of_one(config, files, tmp_path):
    sort(files, tmp_path / "serial", 25, 500)
    done = sort_on(3, config, files, tmp_path / "parallel", 3)
    assert done.returncode == 0, done.stderr
    serial, parallel = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("serial", "parallel")
    )
    assert serial == parallel
    assert len(serial) == 7


def test_an_error_on_one_rank_ends_all(config, files, tmp_path):
    damaged = tmp_path / "damaged.h5"
    content = bytearray(files[1].read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    damaged.write_bytes(content)
    done = sort_on(2, config, [files[0], damaged, files[2]], tmp_path / "out", 2)
    assert done.returncode != 0
    assert "damaged.h5" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_wrong_number_of_ranks_is_reported(config, files, tmp_path):
    done = sort_on(1, config, files, tmp_path / "out", 2)
    assert done.returncode == 1
    assert "--world-size 2: expected this number of MPI ranks, found 1;" in done.stderr


# memory so small that everything goes through spill files, and a shard is made of several buckets
EXTERNAL = """
import os, sys
from pathlib import Path
from mpi4py import MPI
from etalumis.traces.sorting.sort import sort

os.write(1, b"%d\\n" % os.getpid())  # in one piece, for the ranks share a pipe
sort([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), 1500, 1, MPI.COMM_WORLD)
"""


def external(ranks, output, inputs):
    command = [*MPIEXEC, "-n", str(ranks), sys.executable, "-c", EXTERNAL, output, *inputs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return random_files(tmp_path_factory.mktemp("many"), 5, [2500, 900, 1100])


@pytest.fixture(scope="module")
def undisturbed(many, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "sorted"
    sort(many, folder, 1500, 1)
    return bytes_of(folder)


def test_sorting_in_little_memory_gives_the_bytes_of_one_rank(many, undisturbed, tmp_path):
    with external(4, tmp_path / "sorted", many) as run:
        error = run.communicate(timeout=120)[1]
    assert run.returncode == 0, error
    assert bytes_of(tmp_path / "sorted") == undisturbed


def test_jobs_sort_their_shares_and_another_merges_them(many, undisturbed, tmp_path):
    for number, path in enumerate(many):
        sort([path], tmp_path / str(number), 400, 1)
    with external(2, tmp_path / "merged", [tmp_path / "1", tmp_path / "0", tmp_path / "2"]) as run:
        error = run.communicate(timeout=120)[1]
    assert run.returncode == 0, error
    sort(many, tmp_path / "at-once", 1500)
    found = bytes_of(tmp_path / "merged")
    del found["plan.json"]  # it names the inputs
    assert found == {name: content for name, content in undisturbed.items() if name != "plan.json"}
    assert found.items() <= bytes_of(tmp_path / "at-once").items()


def test_a_killed_rank_ends_all_and_fewer_ranks_resume(many, undisturbed, tmp_path):
    output, kept = tmp_path / "sorted", {}
    for reached in ("plan.json", "spill-*", "shard-*"):
        with external(3, output, many) as run:
            processes = [int(run.stdout.readline()) for _ in range(3)]
            while not any(output.glob(reached)) and run.poll() is None:
                time.sleep(0.001)
            os.kill(processes[1], signal.SIGKILL)
            run.communicate(timeout=120)
        assert run.returncode != 0
        names = {path.name: path.stat().st_mtime_ns for path in output.glob("shard-*")}
        assert kept.items() <= names.items()
        kept = names
    with external(2, output, many) as run:
        error = run.communicate(timeout=120)[1]
    assert run.returncode == 0, error
    assert bytes_of(output) == undisturbed
