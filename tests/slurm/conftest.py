# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A real SLURM of four virtual nodes, which runs as long as the tests of a worker."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lanes
import pytest
from filelock import FileLock
from projects import load_script


@pytest.fixture(scope="session")
def slurm(checkout: Path, build_cache: Path) -> Iterator[Any]:
    """The SLURM, a `VirtualSlurm` of scripts/virtual_slurm.py; skip only if it cannot be installed."""
    script = load_script(checkout / "scripts" / "virtual_slurm.py")
    try:
        with FileLock(build_cache / "apt.lock"):
            script.install()
    except script.SlurmUnavailable as error:
        pytest.skip(f"SLURM {lanes.CANNOT_INSTALL}: {error}")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, script.VirtualSlurm(Path(folder)) as running:
        yield running
