# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Read and write diagnostics.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etalumis import __version__
from etalumis.diagnostics.run import FORMAT, VERSION, to_json
from etalumis.errors import DatasetError
from etalumis.files import read_json, write_json_atomic

# Numbers that JSON does not have: nan is written as null, infinities as text.
_NOT_FINITE = {None: float("nan"), "inf": float("inf"), "-inf": float("-inf")}
# Fields without such numbers: a null in them stays None.
_VERBATIM = frozenset({"info", "checks"})


def write_diagnostics(path: Path, result: dict[str, Any]) -> None:
    """Write diagnostics.json; nan becomes null, infinities the texts "inf" and "-inf".

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    write_json_atomic(path, to_json({"producer": f"etalumis {__version__}"} | result))


def read_diagnostics(path: Path) -> dict[str, Any]:
    """Read diagnostics.json; null becomes nan, and "inf" and "-inf" become infinities.

    Raises
    ------
    DatasetError
        Not there, no JSON, another format or version.
    """
    again = "make it with `etalumis diagnostics`"
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as diagnostics ({error}); {again}") from error
    found = (data.get("format"), data.get("version")) if isinstance(data, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise DatasetError(
            f"{path}: expected format {FORMAT!r} version {VERSION}, found {found[0]!r} {found[1]!r}; {again}"
        )
    return {key: value if key in _VERBATIM else _numbers(value) for key, value in data.items()}


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key in _VERBATIM else _numbers(item) for key, item in value.items()}
    if value is None or value in ("inf", "-inf"):
        return _NOT_FINITE[value]
    return value
