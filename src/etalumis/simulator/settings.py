# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The settings that determine a simulator's runs, and the differences between two sets of settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from etalumis.config import SimulatorConfig

_OPERATIONAL_KEYS = {"prefix", "timeout_s", "start_timeout_s", "retries"}


def simulator_settings(config: SimulatorConfig) -> dict[str, Any]:
    """Return the settings that a trace depends on (JSON-able): not where Sherpa is installed, timeouts and retries."""
    return config.model_dump(mode="json", exclude=_OPERATIONAL_KEYS)


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one line per key whose values differ, e.g. "simulator.noise_gev: expected 0.1, found 0.2"."""
    for key in dict.fromkeys([*expected, *found]):
        name, mine, theirs = f"{prefix}{key}", expected.get(key), found.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from differences(mine, theirs, f"{name}.")
        elif mine != theirs:
            yield f"{name}: expected {_shown(mine)}, found {_shown(theirs)}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
