# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Import of traces of another program from the plain layout (`traces.plain.layout`)."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from etalumis.errors import DatasetError
from etalumis.progress import Progress
from etalumis.seeds import derive
from etalumis.trace import CONTROLLED, REJECTED, REPLACED
from etalumis.traces.block import EXPECTED, Block, Expected, Layout, ObservationColumn, TagColumn
from etalumis.traces.densities import log_priors, trace_types
from etalumis.traces.format import CONTROLLED_ONLY, ENTRY_DTYPES, REJECTED_DTYPES
from etalumis.traces.plain.checks import Checks
from etalumis.traces.plain.header import Header, read_header
from etalumis.traces.plain.layout import Plain, group_key
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.target import new_file
from etalumis.traces.writer import open_shard

logger = logging.getLogger(__name__)

WINDOW_BYTES = 1 << 24
_STAGE = "convert"


def from_plain(path: Path, output: Path, model: str | None = None, split: str | None = None, seed: int = 0) -> int:
    """Write the traces of a plain file to a new trace file; return their number.

    All content is checked: shapes, types, offsets, ids, finite values, supports, and that an address has one kind of
    prior. Trace types and log prior densities are computed. HDF5 files are read in windows.

    Parameters
    ----------
    path
        HDF5 or npz file in the plain layout.
    output
        Trace file to write; it must not exist.
    model
        Name of the model; required if the file does not contain it.
    split
        Name of the split; by default that in the file, or "".
    seed
        If the file has no `seed`, that of trace i is `derive(seed, "convert/<split>", i)`. Use a different seed for
        each part of a set.

    Raises
    ------
    DatasetError
        If the content is not valid; names file, key and trace.
    """
    output = Path(output)
    with new_file(output), Plain(path) as plain:
        header = read_header(plain)
        provenance = header.provenance
        if model is not None:
            provenance = replace(provenance, model=model)
        if split is not None:
            provenance = replace(provenance, split=split)
        if not provenance.model:
            raise DatasetError(f"{path}: the name of the model is missing; give it with --model NAME")
        windows = _Windows(plain, header, f"{_STAGE}/{provenance.split}", seed)
        with (
            Progress(header.traces, "traces", f"converting {path.name}") as progress,
            open_shard(output, provenance) as writer,
        ):
            for start in range(0, header.traces, windows.traces):
                block = windows.block(start, min(start + windows.traces, header.traces))
                writer.append(block)
                progress.update(len(block))
    return header.traces


class _Windows:
    """Reads windows of a plain file as blocks."""

    def __init__(self, plain: Plain, header: Header, stage: str, seed: int) -> None:
        self._plain, self._header, self._stage, self._seed = plain, header, stage, seed
        self._checks = Checks(plain)
        self._addresses = header.dictionary.addresses.names()
        self._kind = np.zeros(len(self._addresses), np.int64)  # of each address; 0 = not seen yet
        self.traces = max(1, WINDOW_BYTES // header.nbytes)
        self._check_seeds()

    def _check_seeds(self) -> None:
        """Refuse duplicate seeds, since noise, splits and sorting identify traces by their seeds."""
        if "seed" not in self._plain:
            return
        seeds = self._plain.whole("seed").astype(np.int64)
        order = np.argsort(seeds, kind="stable")
        twice = np.flatnonzero(np.diff(seeds[order]) == 0)
        if len(twice):
            one, other = sorted(order[twice[0] : twice[0] + 2].tolist())
            raise self._plain.fail("seed", f"expected unique seeds, found that of trace {one} again", other)

    def block(self, start: int, stop: int) -> Block:
        """Return traces `start:stop`."""
        entries = self._entries(start, stop)
        rejected = self._rejected(entries, start, stop)
        return Block(
            self._header.dictionary,
            entries,
            self._trace_columns(entries, rejected, start, stop),
            self._header.layouts,
            {layout.name: self._observation(layout, start, stop) for layout in self._header.layouts},
            {name: self._tag(name, start, stop) for name in self._header.tags},
            rejected,
        )

    def _offset(self, key: str, content: str, start: int, stop: int) -> tuple[np.ndarray, int]:
        """Return the offsets of a window, starting from 0, and the position of its first list."""
        offset = self._plain.rows(key, start, stop + 1).astype(np.int64)
        end = self._plain.shape(content)[0]
        if start == 0 and offset[0] != 0:
            raise self._plain.fail(key, f"expected 0 first, found {offset[0]}")
        self._checks.require(
            (np.diff(offset) >= 0) & (offset[1:] <= end), key, start,
            lambda i: f"expected offsets that do not decrease, at most {end}, found {offset[i]}, {offset[i + 1]}",
        )  # fmt: skip
        if stop == self._header.traces and offset[-1] != end:
            raise self._plain.fail(key, f"expected {end} last, the length of {content!r}, found {offset[-1]}")
        return offset - offset[0], int(offset[0])

    def _numbered(self, lists: Ragged, prefix: str, start: int) -> None:
        """Check the columns `address`, `distribution` and `value`, and translate to ids of the dictionary."""
        columns, header = lists.columns, self._header
        self._below(lists, "address", len(self._addresses), prefix, start)
        self._below(lists, "distribution", len(header.numbers), prefix, start)
        columns["distribution"] = header.numbers[columns["distribution"]]
        value = columns["value"] = columns["value"].astype(np.float64)
        address, distribution = columns["address"], columns["distribution"]
        self._checks.require_rows(
            np.isfinite(value), lists, f"{prefix}value", start,
            lambda row: f"expected a finite number, found {value[row]} at address {self._addresses[address[row]]!r}",
        )  # fmt: skip
        density = header.priors.log_prob(distribution, value)
        columns["density"] = density
        self._checks.require_rows(
            np.isfinite(density), lists, f"{prefix}value", start,
            lambda row: f"expected a value in the support of its prior, "
            f"{header.dictionary.distributions[distribution[row]]}, found {value[row]} at address "
            f"{self._addresses[address[row]]!r}",
        )  # fmt: skip
        self._one_kind(lists, prefix, start)

    def _below(self, lists: Ragged, name: str, size: int, prefix: str, start: int) -> None:
        """Require valid indices of a list of `size` elements in a column."""
        column = lists.columns[name]
        self._checks.require_rows(
            (column >= 0) & (column < size), lists, f"{prefix}{name}", start,
            lambda row: f"expected a number from 0 to {size - 1}, found {column[row]}",
        )  # fmt: skip
        lists.columns[name] = column.astype(np.uint32)

    def _one_kind(self, lists: Ragged, prefix: str, start: int) -> None:
        """Require that an address always has the same kind of prior, since it has a single layer in a network."""
        address, kind = lists.columns["address"], self._header.kinds[lists.columns["distribution"]]
        new = np.flatnonzero(self._kind[address] == 0)[::-1]
        self._kind[address[new]] = kind[new]
        self._checks.require_rows(
            self._kind[address] == kind, lists, f"{prefix}distribution", start,
            lambda row: f"expected one kind of prior (and number of categories) for each address, found two at "
            f"{self._addresses[address[row]]!r}",
        )  # fmt: skip

    def _flags(self, key: str, flag: int, default: int, rows: slice) -> np.ndarray:
        if key not in self._plain:
            return np.full(rows.stop - rows.start, default, np.uint8)
        given = self._plain.rows(key, rows.start, rows.stop)
        if not np.all((given == 0) | (given == 1)):
            raise self._plain.fail(key, f"expected 0 or 1, found {given[(given != 0) & (given != 1)][0]}")
        return given.astype(np.uint8) * np.uint8(flag)

    def _entries(self, start: int, stop: int) -> Ragged:
        offset, first = self._offset("offset", "value", start, stop)
        rows = slice(first, first + int(offset[-1]))
        given = {key: self._plain.rows(key, rows.start, rows.stop) for key in ("address", "value", "distribution")}
        lists = Ragged(offset, given)
        self._numbered(lists, "", start)
        address = lists.columns["address"].astype(np.int64)
        key = lists.list_numbers() * max(1, len(self._addresses)) + address
        _, seen = np.unique(key, return_index=True)
        once = np.zeros(len(key), bool)
        once[seen] = True
        self._checks.require_rows(
            once, lists, "address", start,
            lambda row: f"expected unique addresses in a trace, found {self._addresses[address[row]]!r} again",
        )  # fmt: skip
        lists.columns["flags"] = self._flags("controlled", CONTROLLED, CONTROLLED, rows) | self._flags(
            "replaced", REPLACED, 0, rows
        )
        if self._header.provenance.kept == CONTROLLED_ONLY:
            self._checks.require_rows(
                lists.columns["flags"] & CONTROLLED != 0, lists, "controlled", start,
                lambda _: "expected 1, since only controlled entries are kept, found 0",
            )  # fmt: skip
        return lists

    def _rejected(self, entries: Ragged, start: int, stop: int) -> Ragged | None:
        if not self._plain.names("rejected"):
            return None
        offset, first = self._offset("rejected/offset", "rejected/value", start, stop)
        end = first + int(offset[-1])
        lists = Ragged(offset, {key: self._plain.rows(f"rejected/{key}", first, end) for key in REJECTED_DTYPES})
        self._numbered(lists, "rejected/", start)
        flags = lists.columns["flags"]
        self._checks.require_rows(
            flags.astype(np.int64) & ~(CONTROLLED | REPLACED | REJECTED) == 0, lists, "rejected/flags", start,
            lambda row: f"expected a sum of 1 (controlled), 2 (replaced) and 4 (rejected), found {flags[row]}",
        )  # fmt: skip
        position, accepted = lists.columns["position"], entries.lengths[lists.list_numbers()]
        self._checks.require_rows(
            (position >= 0) & (position <= accepted), lists, "rejected/position", start,
            lambda row: f"expected at most {accepted[row]}, the number of entries of its trace, found {position[row]}",
        )  # fmt: skip
        return Ragged(offset, {name: lists.columns[name].astype(dtype) for name, dtype in REJECTED_DTYPES.items()})

    def _trace_columns(self, entries: Ragged, rejected: Ragged | None, start: int, stop: int) -> dict[str, np.ndarray]:
        density = entries.columns.pop("density")
        for name, dtype in ENTRY_DTYPES.items():
            entries.columns[name] = entries.columns[name].astype(dtype)
        lengths = entries.lengths + (0 if rejected is None else rejected.lengths)
        draws = self._optional("draws", start, stop, lengths).astype(np.int64)
        whole = rejected is not None
        self._checks.require(
            (draws == lengths) if whole else (draws >= lengths), "draws", start,
            lambda i: f"expected {'' if whole else 'at least '}{lengths[i]}, the number of entries, found {draws[i]}",
        )  # fmt: skip
        seed = self._optional("seed", start, stop, None).astype(np.int64)
        self._checks.require(seed >= 0, "seed", start, lambda i: f"expected a number from 0, found {seed[i]}")
        likelihood = self._optional("log_likelihood", start, stop, np.full(stop - start, np.nan)).astype(np.float64)
        self._checks.require(
            ~np.isinf(likelihood), "log_likelihood", start, lambda i: f"expected a finite number, found {likelihood[i]}"
        )
        return {
            "type": trace_types(self._addresses, entries),
            "log_prior": self._log_prior(log_priors(entries, density), start, stop),
            "log_likelihood": likelihood,
            "seed": seed,
            "draws": draws,
            "index": self._optional("index", start, stop, np.arange(start, stop)).astype(np.int64),
        }

    def _optional(self, key: str, start: int, stop: int, default: np.ndarray | None) -> np.ndarray:
        if key in self._plain:
            return self._plain.rows(key, start, stop)
        if default is not None:
            return default
        return np.array([derive(self._seed, self._stage, index) for index in range(start, stop)], np.int64)

    def _log_prior(self, computed: np.ndarray, start: int, stop: int) -> np.ndarray:
        given = self._optional("log_prior", start, stop, computed).astype(np.float64)
        if self._header.provenance.kept == CONTROLLED_ONLY:
            self._checks.finite(given, "log_prior", start)
            return given
        self._checks.require(
            np.isclose(given, computed, rtol=1e-9, atol=1e-9), "log_prior", start,
            lambda i: f"expected {computed[i]}, the sum over its entries, found {given[i]}",
        )  # fmt: skip
        return given

    def _observation(self, layout: Layout, start: int, stop: int) -> ObservationColumn:
        key = group_key("expected" if layout.storage == EXPECTED else "observation", layout.name)
        with np.errstate(over="ignore"):  # values out of the range of float32 become infinite, and are refused
            dense = self._plain.rows(key, start, stop).astype(np.float32).reshape(stop - start, layout.size)
        self._checks.finite(dense, key, start)
        if layout.storage != EXPECTED:
            return dense
        trace, index = np.nonzero(dense)
        offset = offsets(np.bincount(trace, minlength=len(dense)))
        stddev = self._stddev(group_key("stddev", layout.name), start, stop)
        return Expected.of_index(offset, index.astype(layout.index_dtype), dense[trace, index], stddev)

    def _stddev(self, key: str, start: int, stop: int) -> np.ndarray:
        if self._plain.shape(key):
            given = self._plain.rows(key, start, stop).astype(np.float64)
        else:
            given = np.full(stop - start, float(self._plain.whole(key)))
        self._checks.require(
            np.isfinite(given) & (given > 0),
            key,
            start,
            lambda i: f"expected a finite number above 0, found {given[i]}",
        )
        return given

    def _tag(self, name: str, start: int, stop: int) -> TagColumn:
        key = group_key("tag", name)
        if f"{key}/offset" in self._plain:
            offset, first = self._offset(f"{key}/offset", f"{key}/content", start, stop)
            content = self._plain.rows(f"{key}/content", first, first + int(offset[-1])).astype(np.float64)
            return Ragged(offset, {"content": content})
        values = self._plain.rows(key, start, stop).astype(np.float64)
        if values.ndim <= 2:
            return values
        return Ragged(np.arange(len(values) + 1) * values.shape[1], {"content": values.reshape(-1, *values.shape[2:])})
