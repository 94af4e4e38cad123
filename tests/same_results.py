# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Comparison of posteriors and diagnostics of two runs: all is equal but what was measured."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

MEASURED = ("wall_s", "runs_per_s", "core_s", "ess_per_core_s", "simulator_runs", "failures")
"""Keys that differ after an interruption: times, and counts of runs, some of which were made again."""


def contents(path: Path) -> dict[str, object]:
    """Return every data set of a file as bytes, with type and shape, and what is known about the engine."""
    found: dict[str, object] = {}
    with h5py.File(path, "r") as file:

        def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and name != "info":
                values = item[()]
                content = values.tolist() if item.dtype.hasobject else values.tobytes()
                found[name] = (str(item.dtype), item.shape, content)

        file.visititems(add)
        found["info"] = without_measured(json.loads(bytes(file["info"][()])))
    return found


def require_same(mine: Path, theirs: Path) -> None:
    """Require that two posterior files are equal apart from what was measured."""
    first, second = contents(mine), contents(theirs)
    assert first.keys() == second.keys()
    assert "log_weight" in first
    assert [name for name in first if first[name] != second[name]] == [], f"{mine} and {theirs} differ"


def without_measured(value: Any) -> Any:
    """Return JSON values without the keys that are measured."""
    if isinstance(value, Mapping):
        return {key: without_measured(part) for key, part in value.items() if key not in MEASURED}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [without_measured(part) for part in value]
    return value
