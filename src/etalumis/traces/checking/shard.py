# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verification of one trace file: its structure, and the consistency of its columns."""

from collections.abc import Callable, Iterator

import numpy as np

from etalumis.errors import DatasetError
from etalumis.trace import CONTROLLED, REJECTED, REPLACED
from etalumis.traces.block import EXPECTED, Block, Expected
from etalumis.traces.densities import PriorTable, log_priors, trace_types
from etalumis.traces.format import (
    ALL,
    CONTROLLED_ONLY,
    ENTRY_DTYPES,
    REJECTED_DTYPES,
    TRACE_DTYPES,
    observation_path,
    tag_path,
)
from etalumis.traces.ragged import Ragged
from etalumis.traces.reading.shard import Shard
from etalumis.traces.rules import require_valid

WINDOW_BYTES = 1 << 24
"""Uncompressed bytes of the traces that are checked at a time."""
_SLAB_ROWS = 1 << 20
_REMEDY = "the file was written by another program, or altered together with its checksums: create it again"


def ignore(count: int) -> None:
    """Do nothing with the number of traces."""


def verify_shard(shard: Shard, quick: bool = False, seen: Callable[[int], None] = ignore) -> None:
    """Check one file: every checksum, offsets, numbers, finite values, supports, trace types and log priors.

    Parameters
    ----------
    shard
        The file. Opening it has checked its header.
    quick
        Check only the header and the offsets: that all columns exist and have the correct lengths.
    seen
        Called with the number of traces checked since the last call.

    Raises
    ------
    DatasetError
        For the first problem; names file, column and, if possible, trace.
    """
    if not quick:
        shard.check_content()
    check_structure(shard)
    if quick:
        seen(len(shard))
        return
    check = _Content(shard)
    for start, stop in windows(shard):
        check.window(shard.read(start, stop), start)
        seen(stop - start)


def windows(shard: Shard, nbytes: int = WINDOW_BYTES) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges of traces of about `nbytes` uncompressed bytes."""
    size = max(1, nbytes * len(shard) // max(1, shard.nbytes))
    for start in range(0, len(shard), size):
        yield start, min(start + size, len(shard))


def column_error(shard: Shard, column: str, what: str, trace: int | None = None) -> DatasetError:
    """Return the error for a column, or for one trace in it."""
    where = "" if trace is None else f" of trace {trace}"
    return DatasetError(f"{shard.path}: column {column!r}{where} is wrong: {what}; {_REMEDY}")


def check_structure(shard: Shard) -> None:
    """Check that all columns exist, with the lengths given by the offsets and the number of traces."""
    fixed, lists = _fixed_columns(shard), _list_columns(shard)
    expected = {*fixed, *lists, *(column for _, columns in lists.values() for column in columns)}
    for name in sorted(expected ^ set(shard.columns)):
        what = "expected a column of this name, found none" if name in expected else "this format has no such column"
        raise column_error(shard, name, what)
    for name, rows in fixed.items():
        _require_rows(shard, name, rows, "")
    for name, (count, columns) in lists.items():
        _require_rows(shard, name, count + 1, "")
        end = _check_offset(shard, name)
        for column in columns:
            _require_rows(shard, column, end, f", as {name} says")


def _require_rows(shard: Shard, name: str, rows: int, source: str) -> None:
    if shard.rows(name) != rows:
        raise column_error(shard, name, f"expected {rows} rows{source}, found {shard.rows(name)}")


def _fixed_columns(shard: Shard) -> dict[str, int]:
    """Return the columns with a known length, and this length."""
    names = [f"traces/{name}" for name in ("type", *TRACE_DTYPES)]
    for layout in shard.layouts:
        names.append(observation_path(layout.name, "stddev" if layout.storage == EXPECTED else "value"))
    names += [tag_path(name) for name, tag in shard.tag_layouts.items() if not tag.ragged]
    return {**dict.fromkeys(names, len(shard)), "distributions/code": len(shard.dictionary.distributions)}


def _list_columns(shard: Shard) -> dict[str, tuple[int, list[str]]]:
    """Return the offset columns, with the number of lists and the columns that they belong to."""
    count = len(shard)
    lists = {
        "traces/offset": (count, [f"entries/{name}" for name in ENTRY_DTYPES]),
        "addresses/offset": (len(shard.dictionary.addresses), ["addresses/content"]),
        "names/offset": (len(shard.dictionary.addresses), ["names/content"]),
        "distributions/offset": (len(shard.dictionary.distributions), ["distributions/parameters"]),
    }
    if shard.provenance.kept == ALL:
        lists["rejected/offset"] = (count, [f"rejected/{name}" for name in REJECTED_DTYPES])
    for group in (observation_path(layout.name) for layout in shard.layouts if layout.storage == EXPECTED):
        lists[f"{group}/offset"] = (count, [f"{group}/step", f"{group}/mean"])
    for group in (tag_path(name) for name, tag in shard.tag_layouts.items() if tag.ragged):
        lists[f"{group}/offset"] = (count, [f"{group}/content"])
    return lists


def _check_offset(shard: Shard, name: str) -> int:
    """Check that offsets start with 0 and do not decrease; return the last one."""
    last = 0
    for start in range(0, shard.rows(name), _SLAB_ROWS):
        offset = shard.slice(name, start, min(start + _SLAB_ROWS, shard.rows(name)))
        if start == 0 and offset[0] != 0:
            raise column_error(shard, name, f"expected 0 in its first row, found {offset[0]}")
        falls = np.flatnonzero(np.diff(offset, prepend=last) < 0)
        if len(falls):
            row = start + int(falls[0])
            raise column_error(
                shard, name, f"expected offsets that do not decrease, found {offset[falls[0]]} in row {row}", row - 1
            )
        last = int(offset[-1])
    return last


class _Content:
    """Checks of windows of traces in memory."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._addresses = shard.dictionary.addresses.names()
        try:
            self._priors = PriorTable(shard.dictionary.distributions)
        except ValueError as error:
            raise column_error(shard, "distributions/parameters", str(error)) from None

    def window(self, block: Block, start: int) -> None:
        """Check the traces of `block`, numbered from `start`."""
        require_valid(block, self._shard.path, start)
        self._entries(block, start)
        self._types(block, start)
        self._log_priors(block, start)
        self._observations(block, start)
        if block.rejected is not None:
            self._rejected(block, block.rejected, start)

    def _fail_where(self, bad: np.ndarray, column: str, start: int, what: Callable[[int], str]) -> None:
        """Raise an error for the first bad trace."""
        found = np.flatnonzero(bad)
        if len(found):
            raise column_error(self._shard, column, what(int(found[0])), start + int(found[0]))

    def _fail_entry(self, lists: Ragged, bad: np.ndarray, column: str, start: int, what: Callable[[int], str]) -> None:
        """Raise an error for the first bad row of a list column."""
        found = np.flatnonzero(bad)
        if len(found):
            row = int(found[0])
            trace = int(np.searchsorted(lists.offset, row, side="right")) - 1
            raise column_error(
                self._shard, column, f"{what(row)} in entry {row - int(lists.offset[trace])}", start + trace
            )

    def _entries(self, block: Block, start: int) -> None:
        flags, draws = block.entries.columns["flags"], block.traces["draws"]
        self._fail_entry(
            block.entries, flags & ~np.uint8(CONTROLLED | REPLACED) != 0, "entries/flags", start,
            lambda row: f"expected only the flags controlled (1) and replaced (2), found {flags[row]}",
        )  # fmt: skip
        if self._shard.provenance.kept == CONTROLLED_ONLY:
            self._fail_entry(
                block.entries, flags & CONTROLLED == 0, "entries/flags", start,
                lambda _: "expected controlled entries only, as given in the attributes of the file",
            )  # fmt: skip
        entries = block.entries.lengths + (0 if block.rejected is None else block.rejected.lengths)
        whole = self._shard.provenance.kept == ALL
        self._fail_where(
            (draws != entries) if whole else (draws < entries), "traces/draws", start,
            lambda i: f"expected {'' if whole else 'at least '}{entries[i]}, the stored entries, found {draws[i]}",
        )  # fmt: skip

    def _types(self, block: Block, start: int) -> None:
        expected, found = trace_types(self._addresses, block.entries), block.traces["type"]
        self._fail_where(
            np.any(expected != found, axis=1), "traces/type", start,
            lambda i: f"expected {expected[i].tobytes().hex()}, the digest of its controlled addresses, found "
            f"{found[i].tobytes().hex()}",
        )  # fmt: skip

    def _log_priors(self, block: Block, start: int) -> None:
        columns = block.entries.columns
        density = self._priors.log_prob(columns["distribution"], columns["value"])
        self._supported(block, block.entries, density, "entries/value", start)
        if self._shard.provenance.kept == CONTROLLED_ONLY:
            return  # the contributions of the uncontrolled entries are not stored
        expected, found = log_priors(block.entries, density), block.traces["log_prior"]
        self._fail_where(
            ~np.isclose(expected, found, rtol=1e-9, atol=1e-9), "traces/log_prior", start,
            lambda i: f"expected {expected[i]}, the sum over its entries, found {found[i]}",
        )  # fmt: skip

    def _supported(self, block: Block, entries: Ragged, density: np.ndarray, column: str, start: int) -> None:
        columns, distributions = entries.columns, block.dictionary.distributions
        self._fail_entry(
            entries, ~np.isfinite(density), column, start,
            lambda row: f"expected a value in the support of its prior {distributions[columns['distribution'][row]]}, "
            f"found {columns['value'][row]} at address {self._addresses[columns['address'][row]]}",
        )  # fmt: skip

    def _observations(self, block: Block, start: int) -> None:
        for layout in block.layouts:
            observation = block.observations[layout.name]
            if isinstance(observation, Expected):
                self._expected(observation_path(layout.name), layout.size, observation, start)

    def _expected(self, group: str, size: int, observation: Expected, start: int) -> None:
        image = observation.image
        index = observation.index.astype(np.int64)
        self._fail_entry(
            image, index >= size, f"{group}/step", start,
            lambda row: f"expected steps to an element below {size}, found one to {index[row]}",
        )  # fmt: skip
        self._fail_entry(
            image, _repeated(image, index, size), f"{group}/step", start,
            lambda row: f"expected steps to every element once, found one to {index[row]} again",
        )  # fmt: skip

    def _rejected(self, block: Block, rejected: Ragged, start: int) -> None:
        columns, lengths = rejected.columns, block.entries.lengths
        trace = rejected.list_numbers()
        position, flags = columns["position"].astype(np.int64), columns["flags"]
        self._fail_entry(
            rejected, flags & ~np.uint8(CONTROLLED | REPLACED | REJECTED) != 0, "rejected/flags", start,
            lambda row: f"expected the flags controlled (1), replaced (2) and rejected (4), found {flags[row]}",
        )  # fmt: skip
        self._fail_entry(
            rejected, position > lengths[trace], "rejected/position", start,
            lambda row: f"expected at most {lengths[trace[row]]}, the number of accepted entries of its trace, found "
            f"{position[row]}",
        )  # fmt: skip
        falls = np.diff(position, prepend=0) < 0
        falls[rejected.offset[:-1][rejected.lengths > 0]] = False
        self._fail_entry(
            rejected, falls, "rejected/position", start,
            lambda row: f"expected positions that do not decrease within a trace, found {position[row]}",
        )  # fmt: skip
        repetition, draws = columns["repetition"], block.traces["draws"][trace]
        self._fail_entry(
            rejected, repetition >= draws, "rejected/repetition", start,
            lambda row: f"expected less than {draws[row]}, the number of draws of its trace, found {repetition[row]}",
        )  # fmt: skip
        density = self._priors.log_prob(columns["distribution"], columns["value"])
        self._supported(block, rejected, density, "rejected/value", start)


def _repeated(image: Ragged, index: np.ndarray, size: int) -> np.ndarray:
    """Return, for each row of an image, whether an earlier row of its trace has the same index."""
    repeated = np.zeros(len(index), bool)
    key = image.list_numbers() * size + index
    if len(key) and not np.all(np.diff(key) > 0):
        order = np.argsort(key, kind="stable")
        repeated[order[1:]] = np.diff(key[order]) == 0
    return repeated
