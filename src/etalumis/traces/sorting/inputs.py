# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The input files of sorting: their headers, and a common dictionary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.dictionary import Dictionary, PriorKey
from etalumis.traces.format import ALL
from etalumis.traces.index import require_checksum, shard_files
from etalumis.traces.reading.shard import Shard
from etalumis.traces.segments import Schema
from etalumis.traces.sources import CommonMetadata


@dataclass(frozen=True, slots=True)
class Portion:
    """Traces `start:stop` of input file number `file`."""

    file: int
    start: int
    stop: int

    def __len__(self) -> int:
        """Return the number of traces."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class InputFile:
    """Header of a file; `numbers` translates its address and distribution ids to common ones."""

    path: Path
    traces: int
    checksum: str
    file_bytes: int
    columns: frozenset[str]
    numbers: Mapping[str, np.ndarray]


class SortInputs:
    """Headers of the trace files of one dataset, in an order that does not depend on the order of the arguments.

    All ranks get the same result: the files in the order of their checksums, and a common dictionary.

    Attributes
    ----------
    files
        Headers of the files.
    given
        Paths in the order of the arguments.
    dictionary
        Common dictionary, to which the ids in segments refer.
    schema, provenance
        Columns and provenance of the union of all files.

    Raises
    ------
    DatasetError
        If a file is damaged or foreign, is not the one named in its index, or does not agree with the first one.
    """

    def __init__(self, paths: Sequence[Path], mix: bool = False) -> None:
        met = Dictionary()
        common: CommonMetadata | None = None
        files: list[InputFile] = []
        for path, checksum in shard_files(paths).items():
            with Shard(path) as shard:
                require_checksum(path, checksum, shard.checksum)
                if common is None:
                    common = CommonMetadata(shard, mix)
                else:
                    common.add(shard)
                files.append(_header(shard, met))
        assert common is not None  # shard_files raises if there is no file
        self.provenance = common.provenance
        self.schema = Schema.of(common.layouts, common.tag_layouts, common.provenance.kept == ALL)
        self.dictionary, renumbered = _in_order(met)
        self.given = [file.path for file in files]
        files.sort(key=lambda file: file.checksum)
        self.files = [replace(f, numbers={k: renumbered[k][v] for k, v in f.numbers.items()}) for f in files]

    @property
    def traces(self) -> int:
        """Number of traces in all files."""
        return sum(file.traces for file in self.files)

    @property
    def file_bytes(self) -> int:
        """Compressed bytes of all files."""
        return sum(file.file_bytes for file in self.files)


def _header(shard: Shard, met: Dictionary) -> InputFile:
    own = shard.dictionary
    counts = {"address": len(own.addresses), "distribution": len(own.distributions)}
    for name, column in (("address", "addresses/offset"), ("distribution", "distributions/offset")):
        if counts[name] != shard.rows(column) - 1:
            raise DatasetError(
                f"{shard.path}: column {column!r} has {shard.rows(column) - 1} rows, of which {counts[name]} differ; "
                "expected each once: generate the file again"
            )
    numbers = {
        "address": met.adopt_addresses(own, np.arange(counts["address"])),
        "distribution": met.adopt_distributions(own, np.arange(counts["distribution"])),
    }
    size = shard.path.stat().st_size
    return InputFile(shard.path, len(shard), shard.checksum, size, frozenset(shard.columns), numbers)


def _in_order(met: Dictionary) -> tuple[Dictionary, dict[str, np.ndarray]]:
    """Return a dictionary with ids in the order of its content, and the new id of each old one."""
    ordered = Dictionary()
    names = met.addresses.names()
    by_address = np.array(sorted(range(len(names)), key=lambda number: names[number]), np.int64)
    # by their bytes, since NaN is not ordered
    by_prior = np.array(sorted(range(len(met.distributions)), key=lambda n: _bytes_of(met.distributions[n])), np.int64)
    renumbered = {"address": np.empty(len(by_address), np.uint32), "distribution": np.empty(len(by_prior), np.uint32)}
    renumbered["address"][by_address] = ordered.adopt_addresses(met, by_address)
    renumbered["distribution"][by_prior] = ordered.adopt_distributions(met, by_prior)
    return ordered, renumbered


def _bytes_of(prior: PriorKey) -> tuple[int, bytes]:
    return prior[0], np.array(prior[1], np.float64).tobytes()
