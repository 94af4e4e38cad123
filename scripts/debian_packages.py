# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Programs from Debian's packages that only some tests and scripts need, installed when they are."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence


class PackagesUnavailable(Exception):
    """Programs are missing and cannot be installed; the message says why and what to do."""


def install(packages: Sequence[str], missing: Callable[[], Sequence[str]]) -> None:
    """Install packages unless `missing`, which names the programs that are not there, returns none.

    Raises
    ------
    PackagesUnavailable
        If programs are missing and cannot be installed.
    """
    absent = missing()
    if not absent:
        return
    line = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PackagesUnavailable(f"found no {', '.join(absent)}; on Debian and Ubuntu, as root: {line}")
    done = subprocess.run(
        ["sh", "-c", line],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if missing():
        raise PackagesUnavailable(f"{line}: failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
