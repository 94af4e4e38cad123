# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The index of a sorted dataset: its shards, and where each trace type is.

Content of `index.json`, version 2, besides the provenance (`Provenance.as_dict`):

``traces, entries, addresses``
    Counts over all shards.
``shards``
    For each shard, in order: `file`, `traces`, `entries`, `checksum`, `bytes` (of the file).
``types``
    For each trace type, most frequent first, which is the order in the shards: `type` (hexadecimal), `traces`, `first`
    (global number of its first trace; its traces are `first` to `first + traces - 1`), `shards` ([first, last], numbers
    of the shards these lie in), `lengths` ([shortest, longest], accepted entries).
``lengths``
    Histogram of the lengths of the traces: `width` of a bin and `counts`, a list of [lowest length of the bin, traces]
    without empty bins. The width is 1 unless more than 1,000 lengths occur.
``digest``
    `files.digest` of all other keys and their values, including the provenance: 16 hexadecimal digits. It depends on
    the values and not on the text, so spaces and the order of keys do not matter. JSON round-trips integers and floats.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.errors import DatasetError
from etalumis.files import digest, read_json

FORMAT = "etalumis-trace-index"
VERSION = 2
NAME = "index.json"
MAX_BINS = 1000
_SET_KEYS: dict[str, type] = {
    "traces": int, "entries": int, "addresses": int, "shards": list, "types": list, "lengths": dict,
}  # fmt: skip
_SHARD_KEYS: dict[str, type] = {"file": str, "traces": int, "entries": int, "checksum": str, "bytes": int}
_TYPE_KEYS: dict[str, type] = {"type": str, "traces": int, "first": int, "shards": list, "lengths": list}


class AlteredIndex(DatasetError):
    """A damaged index: invalid JSON, or content that was changed after it was written."""


def index_digest(content: Mapping[str, Any]) -> str:
    """Return the value of the key `digest` for an index with this content; ValueError if a number is not finite."""
    return digest({key: value for key, value in content.items() if key != "digest"})


def read_index(path: Path) -> dict[str, Any]:
    """Return the content of an index file.

    Raises
    ------
    DatasetError
        If it is missing, foreign, of another version, altered (AlteredIndex), or lacks a key.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file: the folder holds no sorted dataset, or the sorting was not finished; "
            "run `etalumis traces sort` (again)"
        ) from None
    except ValueError as error:
        raise AlteredIndex(f"{path}: not a readable index ({error}); sort the traces again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{path}: not an index of format {FORMAT!r}")
    version = content.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        remedy = "update etalumis" if newer else "sort the traces again, from trace files of this version"
        raise DatasetError(f"{path}: index version {version}, this program reads {VERSION}; {remedy}")
    _require_digest(path, content)
    _require_keys(path, content, "", _SET_KEYS)
    for name, keys in (("shards", _SHARD_KEYS), ("types", _TYPE_KEYS)):
        for number, row in enumerate(content[name]):
            _require_keys(path, row, f"{name}[{number}]", keys)
    return content


def _require_digest(path: Path, content: dict[str, Any]) -> None:
    try:
        expected = index_digest(content)
    except ValueError:
        expected = "none, since a number is not finite"
    if content.get("digest") != expected:
        raise AlteredIndex(
            f"{path}: the index was altered: its digest is {content.get('digest')}, but its content has {expected}; "
            "sort the traces again"
        )


def _require_keys(path: Path, row: object, place: str, keys: dict[str, type]) -> None:
    """Check that an object of the index has these keys, with values of these types."""
    if not isinstance(row, dict):
        raise DatasetError(f"{path}: {place!r} is wrong: expected an object, found {row!r}; sort the traces again")
    for key, kind in keys.items():
        if type(row.get(key)) is not kind:
            name = f"{place}.{key}" if place else key
            raise DatasetError(
                f"{path}: {name!r} is wrong: expected a value of type {kind.__name__}, found {row.get(key)!r}; "
                "sort the traces again"
            )


def describe_types(
    types: Sequence[str], counts: np.ndarray, shortest: np.ndarray, longest: np.ndarray, shard_traces: int
) -> list[dict[str, Any]]:
    """Return the rows of `types` for the index.

    Parameters
    ----------
    types
        Hexadecimal trace types in their order in the set.
    counts, shortest, longest
        int64 (type,): number of traces of each type, and their minimum and maximum length.
    shard_traces
        Number of traces of every shard but the last.
    """
    first = np.cumsum(counts) - counts
    last = first + counts - 1
    columns = (types, counts.tolist(), first.tolist(), last.tolist(), shortest.tolist(), longest.tolist())
    return [
        {
            "type": name, "traces": traces, "first": at, "shards": [at // shard_traces, end // shard_traces],
            "lengths": [low, high],
        }
        for name, traces, at, end, low, high in zip(*columns, strict=True)
    ]  # fmt: skip


def length_histogram(lengths: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Return the histogram `lengths` of the index from (length, traces) pairs in any order; lengths may repeat."""
    low, high = int(lengths.min(initial=0)), int(lengths.max(initial=0))
    width = 1 if len(np.unique(lengths)) <= MAX_BINS else -(-(high - low + 1) // MAX_BINS)
    bins, place = np.unique(lengths // width, return_inverse=True)
    totals = np.zeros(len(bins), np.int64)
    np.add.at(totals, place, counts)
    return {"width": width, "counts": [list(row) for row in zip((bins * width).tolist(), totals.tolist(), strict=True)]}


def shard_files(paths: Iterable[Path]) -> dict[Path, str | None]:
    """Return the trace files that files, indices and folders refer to, in order, with their checksums in an index.

    Raises
    ------
    DatasetError
        If there are no files, a file is given twice, or a shard that an index names is missing.
    """
    found: dict[Path, str | None] = {}
    met: set[Path] = set()
    for path in map(Path, paths):
        indexed = path.is_dir() or path.suffix == ".json"
        files = _indexed(path / NAME if path.is_dir() else path) if indexed else {path: None}
        for file in files:
            if file.resolve() in met:
                raise DatasetError(f"{file}: the same trace file was given twice")
            met.add(file.resolve())
        found |= files
    if not found:
        raise DatasetError("no trace files were given; expected files, an index.json or a folder with one")
    return found


def require_checksum(path: Path, expected: str | None, found: str) -> None:
    """Raise DatasetError if a shard is not the one that its index names."""
    if expected is not None and expected != found:
        raise DatasetError(
            f"{path}: its checksum is {found}, but {path.parent / NAME} expects {expected}: the shard was replaced; "
            "sort the traces again"
        )


def _indexed(index: Path) -> dict[Path, str | None]:
    shards: dict[Path, str | None] = {index.parent / s["file"]: s["checksum"] for s in read_index(index)["shards"]}
    for shard in shards:
        if not shard.is_file():
            raise DatasetError(f"{shard}: missing, but listed in {index}; sort the traces again")
    return shards
