# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Pinning of the contenders of a benchmark to cores."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"


@contextmanager
def pinned() -> Iterator[tuple[int, ...]]:
    """Pin this thread, and the threads and processes that it starts in the block, to one core.

    Yields
    ------
    tuple of int
        That core, and a second one for `move`, on another physical core if the system tells. One core if there is only
        one; empty if the system does not support pinning.
    """
    if not hasattr(os, "sched_setaffinity"):  # macOS
        yield ()
        return
    allowed = os.sched_getaffinity(0)
    first = min(allowed)
    elsewhere = sorted(allowed - _siblings(first)) or sorted(allowed - {first})
    os.sched_setaffinity(0, {first})
    try:
        yield (first, *elsewhere[:1])
    finally:
        os.sched_setaffinity(0, allowed)


def pin_process(pid: int, core: int) -> None:
    """Pin every thread of a process to `core`."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def _siblings(core: int) -> set[int]:
    """Return the logical cores of the same physical core, from a list such as "0,8" or "0-1"."""
    try:
        text = Path(_SIBLINGS.format(core=core)).read_text(encoding="ascii")
    except OSError:
        return {core}
    spans = [(int(a), int(b or a)) for a, b in re.findall(r"(\d+)(?:-(\d+))?", text)]
    return {number for a, b in spans for number in range(a, b + 1)}
