# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The settings that decide what a simulator run draws and shows, and how two sets of them differ."""

from collections.abc import Iterator, Mapping
from typing import Any

from etalumis.config import SimulatorConfig

_HOW_IT_IS_RUN = {"prefix", "timeout_s", "start_timeout_s", "retries"}


def simulator_settings(config: SimulatorConfig) -> dict[str, Any]:
    """Return what a trace depends on: the section `simulator` without how it is installed and watched (JSON-able)."""
    return config.model_dump(mode="json", exclude=_HOW_IT_IS_RUN)


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one text a key whose values differ: "simulator.noise_gev: expected 0.1, found 0.2"."""
    for key in dict.fromkeys([*expected, *found]):
        name, mine, theirs = f"{prefix}{key}", expected.get(key), found.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from differences(mine, theirs, f"{name}.")
        elif mine != theirs:
            yield f"{name}: expected {_shown(mine)}, found {_shown(theirs)}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
