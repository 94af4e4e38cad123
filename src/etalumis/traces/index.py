# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The index of a sorted dataset: which shards it has, in which order, with their checksums."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from etalumis.errors import DatasetError

FORMAT = "etalumis-trace-index"
VERSION = 1
NAME = "index.json"


def read_index(path: Path) -> dict[str, Any]:
    """Return the content of an index file.

    Raises
    ------
    DatasetError
        Where it is missing, foreign or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file: the folder holds no sorted dataset, or its sorting was not finished; "
            "run `etalumis traces sort` (again)"
        ) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable index ({error}); sort the traces again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{path}: expected an index of format {FORMAT!r}; this is something else")
    if content.get("version") != VERSION:
        raise DatasetError(
            f"{path}: index version {content.get('version')}, this program reads {VERSION}; sort the traces again"
        )
    return content


def shard_files(paths: Iterable[Path]) -> dict[Path, str | None]:
    """Return the trace files behind files, indices and folders, in order, with the checksum an index gives them.

    Raises
    ------
    DatasetError
        Where there is none, a file is given twice, or an index names a shard that is missing.
    """
    found: dict[Path, str | None] = {}
    for path in map(Path, paths):
        indexed = path.is_dir() or path.suffix == ".json"
        files = _indexed(path / NAME if path.is_dir() else path) if indexed else {path: None}
        for file in files:
            if file in found:
                raise DatasetError(f"{file}: the same trace file was given twice; name it once")
        found |= files
    if not found:
        raise DatasetError("no trace files were given; name files, an index.json or a folder that holds one")
    return found


def require_checksum(path: Path, expected: str | None, found: str) -> None:
    """Raise DatasetError where a shard is not the one that its index names."""
    if expected is not None and expected != found:
        raise DatasetError(
            f"{path}: its checksum is {found}, but {path.parent / NAME} expects {expected}: the shard was replaced; "
            "sort the traces again"
        )


def _indexed(index: Path) -> dict[Path, str | None]:
    shards: dict[Path, str | None] = {index.parent / s["file"]: s["checksum"] for s in read_index(index)["shards"]}
    for shard in shards:
        if not shard.is_file():
            raise DatasetError(f"{shard}: missing, but {index} names it; sort the traces again")
    return shards
