# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The code and the machine that make a product. Neither host nor user is named."""

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from etalumis import __version__, processor

LIBRARIES = ("torch", "numpy", "scipy", "h5py", "mpi4py", "pydantic", "matplotlib", "snakemake")
_PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def code() -> dict[str, Any]:
    """Return which code this process runs, as it was at the first call.

    ``version``, ``commit`` (`git describe`; None without a git checkout), ``changed`` (whether the checkout had
    uncommitted changes) and ``sources``, a digest of the Python sources of the package.
    """
    described = _git_describe(_PACKAGE.parents[1])
    return {
        "version": __version__,
        "commit": None if described is None else described.removesuffix("-dirty"),
        "changed": described is not None and described.endswith("-dirty"),
        "sources": _sources_digest(),
    }


def in_words(found: dict[str, Any]) -> str:
    """Return the result of `code` in words."""
    if found["commit"] is None:
        return f"etalumis {found['version']}, installed"
    return f"etalumis {found['version']}, commit {found['commit']}{' with uncommitted changes' * found['changed']}"


def machine() -> dict[str, Any]:
    """Return processor, number of cores of this process, system, and versions of Python and the libraries."""
    return {
        "processor": processor.model(),
        "cores": processor.cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"Python": platform.python_version(), **library_versions()},
    }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that determine results, of those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_describe(root: Path) -> str | None:
    if not (root / ".git").exists():
        return None
    # in a container, the checkout belongs to another user
    trusted = ["git", "-c", f"safe.directory={root}", "-C", str(root)]
    command = [*trusted, "describe", "--always", "--tags", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _sources_digest() -> str:
    """Return 16 hex digits of the names and contents of the Python sources."""
    state = hashlib.blake2b(digest_size=8)
    for path in sorted(_PACKAGE.rglob("*.py")):
        state.update(f"{path.relative_to(_PACKAGE)}\n".encode() + path.read_bytes())
    return state.hexdigest()
