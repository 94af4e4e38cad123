# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where the sources and pinned inputs are: the C++ sources and resources/ live in the checkout, not in the package."""

import os
from pathlib import Path

from etalumis.errors import SimulatorError


def checkout() -> Path:
    """Return the root of the checkout this package is installed from (``pip install -e .``).

    Raises
    ------
    SimulatorError
        The package was installed without its checkout.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "src" / "cpp" / "CMakeLists.txt").is_file():
        raise SimulatorError(
            f"{root}: expected the etalumis checkout (src/cpp/CMakeLists.txt), found none; "
            "install with `pip install -e .` from a clone"
        )
    return root


def resource(*parts: str) -> Path:
    """Return the path of a pinned input, e.g. ``resource("sherpa", "tau.yaml")``."""
    return checkout().joinpath("resources", *parts)


def cache_folder() -> Path:
    """Return the folder for what is fetched once and kept: $ETALUMIS_CACHE, else ``.cache`` in the checkout."""
    given = os.environ.get("ETALUMIS_CACHE")
    return Path(given).expanduser() if given else checkout() / ".cache"
