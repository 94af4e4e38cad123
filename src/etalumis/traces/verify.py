# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Check a trace file through and through: checksums, structure, and that its columns agree with each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from etalumis.address import trace_type
from etalumis.distributions import Distribution, from_code
from etalumis.errors import DatasetError
from etalumis.trace import CONTROLLED, REPLACED
from etalumis.traces.block import Block, Expected
from etalumis.traces.index import require_checksum, shard_files
from etalumis.traces.shard import Shard

WINDOW_TRACES = 10_000


def verify(paths: Sequence[Path]) -> int:
    """Check files, indices and the files they name; return the number of traces.

    Raises
    ------
    DatasetError
        At the first thing that is wrong, naming file and column.
    """
    total = 0
    for path, checksum in shard_files(paths).items():
        with Shard(path) as shard:
            require_checksum(path, checksum, shard.checksum)
            verify_shard(shard)
            total += len(shard)
    return total


def verify_shard(shard: Shard) -> None:
    """Check one file: every checksum, offsets, numbers, trace types and log priors."""
    shard.check_content()
    _check_lengths(shard)
    priors = [from_code(code, parameters) for code, parameters in shard.dictionary.distributions]
    for start in range(0, len(shard), WINDOW_TRACES):
        block = shard.read(start, min(start + WINDOW_TRACES, len(shard)))
        _check_entries(shard, block)
        _check_types(shard, block, start)
        _check_log_priors(shard, block, start, priors)
        _check_images(shard, block)


def _require(held: bool, shard: Shard, column: str, expected: str) -> None:
    if not held:
        raise DatasetError(f"{shard.path}: column {column!r} is wrong: expected {expected}; generate the file again")


def _check_lengths(shard: Shard) -> None:
    offset = shard.whole("traces/offset")
    _require(len(offset) == len(shard) + 1, shard, "traces/offset", f"{len(shard) + 1} rows")
    _require(bool(np.all(np.diff(offset) >= 0)), shard, "traces/offset", "offsets that never fall")
    for name in shard.columns:
        group, _, column = name.rpartition("/")
        if column == "offset":
            content = {"traces": "entries/value", "distributions": "distributions/parameters"}
            images = f"{group}/index" if group.startswith("observations/") else f"{group}/content"
            counted, end = content.get(group, images), int(shard.whole(name)[-1])
            _require(shard.rows(counted) == end, shard, counted, f"{end} rows, as {name} says")
        elif group in ("traces", "tags") or (column in ("stddev", "value") and group != "entries"):
            _require(shard.rows(name) == len(shard), shard, name, f"{len(shard)} rows")
        elif group == "entries":
            _require(shard.rows(name) == shard.entries, shard, name, f"{shard.entries} rows")


def _check_entries(shard: Shard, block: Block) -> None:
    columns, dictionary = block.entries.columns, shard.dictionary
    for name, size in (("address", len(dictionary.addresses)), ("distribution", len(dictionary.distributions))):
        _require(bool(np.all(columns[name] < size)), shard, f"entries/{name}", f"numbers below {size}")
    known = columns["flags"] & ~np.uint8(CONTROLLED | REPLACED) == 0
    _require(bool(np.all(known)), shard, "entries/flags", "no other flags than controlled and replaced")
    enough = block.traces["draws"] >= block.entries.lengths
    _require(bool(np.all(enough)), shard, "traces/draws", "at least as many draws as accepted entries")


def _check_types(shard: Shard, block: Block, start: int) -> None:
    names = shard.dictionary.addresses.names()
    address, flags = block.entries.columns["address"], block.entries.columns["flags"]
    known: dict[bytes, bytes] = {}
    for i in range(len(block)):
        rows = slice(block.entries.offset[i], block.entries.offset[i + 1])
        controlled = address[rows][flags[rows] & CONTROLLED != 0]
        key = controlled.tobytes()
        if key not in known:
            known[key] = trace_type(names[number] for number in controlled.tolist())
        _require(
            known[key] == block.traces["type"][i].tobytes(), shard, "traces/type",
            f"{known[key].hex()} for trace {start + i}, the digest of its controlled addresses",
        )  # fmt: skip


def _check_log_priors(shard: Shard, block: Block, start: int, priors: list[Distribution]) -> None:
    columns = block.entries.columns
    pairs = zip(columns["distribution"].tolist(), columns["value"].tolist(), strict=True)
    entry = np.array([priors[number].log_prob(value) for number, value in pairs])
    _require(not np.any(np.isneginf(entry)), shard, "entries/value", "values inside the support of their priors")
    sums = np.bincount(block.entries.list_numbers(), entry, minlength=len(block))
    bad = np.flatnonzero(~np.isclose(sums, block.traces["log_prior"], rtol=1e-9, atol=1e-9))
    found = f"{sums[bad[0]]} for trace {start + bad[0]}" if len(bad) else ""
    _require(not len(bad), shard, "traces/log_prior", found)


def _check_images(shard: Shard, block: Block) -> None:
    for layout in block.layouts:
        observation = block.observations[layout.name]
        if isinstance(observation, Expected):
            index = observation.image.columns["index"]
            inside = not len(index) or int(index.max()) < layout.size
            _require(inside, shard, f"observations/{layout.name}/index", f"numbers below {layout.size}")
            positive = bool(np.all(observation.stddev > 0))
            _require(positive, shard, f"observations/{layout.name}/stddev", "positive standard deviations")
