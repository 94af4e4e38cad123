# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The first pass of sorting: partition traces into spill files by bucket."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from etalumis.errors import DatasetError
from etalumis.files import digest
from etalumis.progress import Progress
from etalumis.traces.segments import Schema, Segment
from etalumis.traces.sorting.input_reader import InputReader
from etalumis.traces.sorting.inputs import Portion
from etalumis.traces.sorting.keys import Groups
from etalumis.traces.sorting.sort_plan import SortPlan, spill_path
from etalumis.traces.sorting.spill import Spill, open_spill
from etalumis.traces.sorting.splitters import Splitters

logger = logging.getLogger(__name__)


class FirstPass:
    """Reads portions of the inputs, in loads that fit into memory, and writes their spill files."""

    def __init__(self, reader: InputReader, folder: Path, plan: SortPlan, groups: Groups, splitters: Splitters) -> None:
        self._reader, self._folder, self._plan = reader, folder, plan
        self._groups, self._splitters = groups, splitters

    def write(self, mine: Sequence[tuple[int, Portion]], max_bytes: int) -> set[int]:
        """Write the spill files of these portions of the plan; return the numbers of the input files that were checked.

        Complete spill files of an interrupted call are kept.
        """
        checked = set()
        total = sum(len(portion) for _, portion in mine)
        with Progress(total, "traces", f"partitioning in {self._folder}") as progress:
            for number, portion in mine:
                path = spill_path(self._folder, number)
                kept = self._kept(path, portion)
                if kept is None:
                    self._write(path, portion, max_bytes)
                    if portion.file in self._reader.checked:
                        checked.add(portion.file)
                elif kept.header["checked"]:
                    checked.add(portion.file)
                progress.update(len(portion))
        return checked

    def _kept(self, path: Path, portion: Portion) -> Spill | None:
        if not path.exists():
            return None
        try:
            spill = Spill(path, self._reader.schema)
        except DatasetError as error:
            logger.warning("%s; writing it again", error)
            return None
        expected = _header(self._plan, portion)
        return spill if {key: spill.header.get(key) for key in expected} == expected else None

    def _write(self, path: Path, portion: Portion, max_bytes: int) -> None:
        header = _header(self._plan, portion)
        with open_spill(path, self._reader.schema, header) as writer:
            for load in self._reader.windows(portion, max_bytes):
                segment = Segment.allocate(self._reader.schema, len(load), self._reader.rows(load))
                self._reader.fill(segment, load)
                writer.append(segment.block(self._reader.inputs.dictionary), self._buckets(segment))
                del segment  # free it before the next one is allocated
            header["checked"] = portion.file in self._reader.checked

    def _buckets(self, segment: Segment) -> np.ndarray:
        groups = self._groups.ranks_of(segment.columns["traces/type"], segment.lengths["entries"])
        return self._splitters.buckets(groups, segment.columns["traces/seed"])


def _header(plan: SortPlan, portion: Portion) -> dict[str, object]:
    return {"plan": digest(plan.as_dict()), "portion": [portion.file, portion.start, portion.stop]}


def open_spills(folder: Path, plan: SortPlan, schema: Schema) -> list[Spill]:
    """Open all spill files of a plan."""
    return [Spill(spill_path(folder, number), schema) for number in range(len(plan.spilled))]
