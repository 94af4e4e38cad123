# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Paths in the checkout: the C++ sources and resources/ are not part of the Python package."""

import os
from pathlib import Path

from etalumis.errors import SimulatorError


def checkout() -> Path:
    """Return the root of the checkout from which this package is installed (``pip install -e .``).

    Raises
    ------
    SimulatorError
        If the package was installed without its checkout.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "src" / "cpp" / "CMakeLists.txt").is_file():
        raise SimulatorError(
            f"{root}: expected the etalumis checkout (src/cpp/CMakeLists.txt), found none; "
            "install with `pip install -e .` from a clone"
        )
    return root


def resource(*parts: str) -> Path:
    """Return the path of a file in resources/, e.g. ``resource("sherpa", "tau.yaml")``."""
    return checkout().joinpath("resources", *parts)


def cache_folder() -> Path:
    """Return the folder for downloads and builds: $ETALUMIS_CACHE, or ``.cache`` in the checkout."""
    given = os.environ.get("ETALUMIS_CACHE")
    return Path(given).expanduser() if given else checkout() / ".cache"
