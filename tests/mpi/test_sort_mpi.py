# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import os
import subprocess
import sys
from pathlib import Path

import pytest
from unit.traces_support import part

from etalumis.traces.sort import sort

MPIEXEC = Path(sys.executable).parent / "mpiexec"
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
        [MPIEXEC, "-n", str(ranks), *ETALUMIS, "traces", "sort", "--config", config, "--input", *files, "--output",
         output, "--world-size", str(world_size)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_gives_the_bytes_of_one(ranks, config, files, tmp_path):
    sort(files, tmp_path / "serial", 25, 500)
    done = sort_on(ranks, config, files, tmp_path / "parallel", ranks)
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


def test_a_wrong_number_of_ranks_is_told(config, files, tmp_path):
    done = sort_on(1, config, files, tmp_path / "out", 2)
    assert done.returncode == 1
    assert "--world-size 2: there are 1 MPI ranks" in done.stderr
