# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Claims of cores: each core once on a machine, freed at the end and by death; no pinning in a container."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from etalumis.ppx import cores

HOLDER = """
import sys, time
from pathlib import Path
from etalumis.ppx.cores import one_core
with one_core(Path(sys.argv[1]), Path(sys.argv[2])) as core:
    print(core, flush=True)
    time.sleep(60)
"""
MACHINE = {"ipc": 4026531839, "uts": 4026531838, "pid": 4026531836}


def namespaces(folder: Path, **numbers: int) -> Path:
    folder.mkdir()
    for name, number in numbers.items():
        (folder / name).symlink_to(f"{name}:[{number}]")
    return folder


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The namespaces of a process that runs on the machine itself."""
    return namespaces(tmp_path / "machine", **MACHINE)


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    """A file whose claims no other process sees."""
    path = tmp_path / "claims"
    path.touch()
    return path


@pytest.fixture
def one_core(claims: Path, machine: Path):
    return partial(cores.one_core, claims, machine)


def test_each_core_is_claimed_once_and_given_back(one_core):
    allowed = os.sched_getaffinity(0)
    with ExitStack() as stack:
        first = stack.enter_context(one_core())
        assert os.sched_getaffinity(0) == {first}
        assert first in allowed
        # pinned to a claimed core, nothing else is left to claim
        assert stack.enter_context(one_core()) is None
    assert os.sched_getaffinity(0) == allowed
    with one_core() as again:
        assert again == first


def test_a_claim_is_visible_with_another_temporary_folder_and_freed_by_death(one_core, claims, machine, tmp_path):
    allowed = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-c", HOLDER, str(claims), str(machine)]
    elsewhere = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=elsewhere) as holder:
        assert holder.stdout is not None
        held = int(holder.stdout.readline())
        with one_core() as core:
            assert core == (allowed[1] if len(allowed) > 1 else None)
        holder.send_signal(signal.SIGKILL)
    with one_core() as core:
        assert core == held


@pytest.mark.parametrize("numbers", [MACHINE | {"pid": 4026532200}, MACHINE | {"ipc": 4026532199}, {}])
def test_nothing_is_pinned_where_claims_of_others_may_be_invisible(claims, tmp_path, numbers):
    allowed = os.sched_getaffinity(0)
    with cores.one_core(claims, namespaces(tmp_path / "container", **numbers)) as core:
        assert core is None
        assert os.sched_getaffinity(0) == allowed


def test_a_child_inherits_the_core(one_core):
    with one_core() as core:
        shown = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert shown.stdout.split() == [str(core)]


def test_an_error_inside_gives_the_core_back(one_core):
    allowed = os.sched_getaffinity(0)
    with pytest.raises(KeyError), one_core():
        raise KeyError
    assert os.sched_getaffinity(0) == allowed


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_a_claim_is_visible_from_another_network_namespace(machine):
    command = ["unshare", "--net", sys.executable, "-c", HOLDER, str(cores.CLAIMS), str(machine)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        with cores.one_core(namespaces=machine) as core:
            assert held != "None" or core is None
            assert core is None or str(core) != held
        holder.kill()
