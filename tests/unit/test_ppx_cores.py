# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Claims of cores: each core once, freed at the end and by death."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from etalumis.ppx.cores import one_core

HOLDER = """
import sys, time
from pathlib import Path
from etalumis.ppx.cores import one_core
with one_core(Path(sys.argv[1])) as core:
    print(core, flush=True)
    time.sleep(60)
"""


def test_each_core_is_claimed_once_and_given_back(tmp_path):
    allowed = os.sched_getaffinity(0)
    with ExitStack() as stack:
        first = stack.enter_context(one_core(tmp_path))
        assert os.sched_getaffinity(0) == {first}
        assert first in allowed
        # pinned to a claimed core, nothing else is left to claim
        assert stack.enter_context(one_core(tmp_path)) is None
    assert os.sched_getaffinity(0) == allowed
    with one_core(tmp_path) as again:
        assert again == first


def test_other_processes_get_other_cores_and_a_killed_one_frees_its_own(tmp_path):
    allowed = sorted(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        held = int(holder.stdout.readline())
        with one_core(tmp_path) as core:
            assert core == (allowed[1] if len(allowed) > 1 else None)
        holder.send_signal(signal.SIGKILL)
    with one_core(tmp_path) as core:
        assert core == held


def test_a_child_inherits_the_core(tmp_path):
    with one_core(tmp_path) as core:
        shown = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert shown.stdout.split() == [str(core)]


def test_an_error_inside_gives_the_core_back(tmp_path):
    allowed = os.sched_getaffinity(0)
    with pytest.raises(KeyError), one_core(tmp_path):
        raise KeyError
    assert os.sched_getaffinity(0) == allowed
