# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The output folder during sorting: its files, which of them are kept after an interruption, and its completion."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etalumis.address import AddressTable
from etalumis.counting import counted
from etalumis.errors import DatasetError
from etalumis.files import digest, read_json, write_json_atomic
from etalumis.traces.format import Provenance, writing
from etalumis.traces.index import (
    FORMAT,
    NAME,
    VERSION,
    AlteredIndex,
    describe_types,
    index_digest,
    length_histogram,
    read_index,
    shard_files,
)
from etalumis.traces.reading.shard import Shard
from etalumis.traces.sorting.gather import shard_path
from etalumis.traces.sorting.keys import Groups
from etalumis.traces.sorting.sort_plan import Cuts, SortPlan

logger = logging.getLogger(__name__)

PLAN = "plan.json"
PLAN_FORMAT = "etalumis-sort-plan"
PLAN_VERSION = 3


class Folder:
    """Output folder of sorting the inputs with the shard size that `digest` identifies."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.digest = path, digest
        self._warned = False

    def is_finished(self) -> bool:
        """Return whether this sort is complete; raise DatasetError if the folder has other content."""
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise DatasetError(f"{self.path}: is a file, expected a folder; choose a new folder")
        names = {path.name for path in self.path.iterdir()}
        foreign = sorted(name for name in names - {NAME, PLAN} if not _is_sort_file(name))
        if foreign or (names and PLAN not in names and not all(name.startswith(f".{PLAN}.") for name in names)):
            what = foreign[0] if foreign else sorted(names)[0]
            raise DatasetError(f"{self.path}: not empty (it holds {what}); choose a new folder or remove this one")
        if NAME not in names:
            return False
        same = self._written().get("digest") == self.digest
        try:
            read_index(self.path / NAME)
        except AlteredIndex as error:
            if not same:
                raise
            logger.warning("%s; writing it again", error)
            return False
        if not same:
            raise DatasetError(
                f"{self.path}: contains other traces or shards of another size, or its {PLAN} was altered; choose a "
                "new folder or remove this one"
            )
        shard_files([self.path])
        return True

    def plan(self) -> SortPlan | None:
        """Return the plan of an interrupted call of the same sort, or None."""
        written = self._written()
        if written.get("digest") != self.digest or written.get("version") != PLAN_VERSION:
            return None
        try:
            return SortPlan.from_dict(written)
        except (KeyError, TypeError, ValueError):
            return None

    def _written(self) -> dict[str, Any]:
        try:
            content = read_json(self.path / PLAN)
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(content, dict) or content.get("format") != PLAN_FORMAT:
            return {}
        try:
            sound = content.pop("checksum", None) == digest(content)
        except ValueError:  # a number that is not finite
            sound = False
        if not (sound or self._warned):
            self._warned = True
            logger.warning("%s: was altered: its checksum does not match its content", self.path / PLAN)
        return content if sound else {}

    def _write(self, content: dict[str, Any]) -> None:
        """Write the plan with a checksum, since its content is not checked otherwise."""
        content = {"format": PLAN_FORMAT, "version": PLAN_VERSION, **content}
        write_json_atomic(self.path / PLAN, {**content, "checksum": digest(content)})

    def prepare(self, plan: SortPlan) -> None:
        """Keep complete files of the same sort, and remove those of another one."""
        with writing(self.path / PLAN, "sort plan"):
            self.path.mkdir(parents=True, exist_ok=True)
            same_shards, same_spills = self._written().get("digest") == self.digest, self.plan() == plan
            for left in self.path.iterdir():
                kept = same_shards if left.name.startswith("shard-") else same_spills or left.name == PLAN
                if left.name.startswith(".") or not kept:
                    left.unlink()
            self._write(plan.as_dict())

    def whole_shards(self, cuts: Cuts, numbers: Sequence[int]) -> list[int]:
        """Return the shards that an interrupted call completed."""
        return [number for number in numbers if self._is_whole(number, cuts)]

    def _is_whole(self, number: int, cuts: Cuts) -> bool:
        path, (start, stop) = shard_path(self.path, number), cuts.shard(number)
        if not path.exists():
            return False
        try:
            with Shard(path) as shard:
                shard.check_content()
                return len(shard) == stop - start
        except DatasetError as error:
            logger.warning("%s; writing it again", error)
            return False

    def drop_products(self) -> None:
        """Remove all files and the folder, since they came from altered inputs."""
        for left in self.path.iterdir():
            left.unlink()
        self.path.rmdir()

    def write_index(self, provenance: Provenance, groups: Groups, cuts: Cuts) -> None:
        """Write index.json, which completes the set."""
        shards, addresses = [], AddressTable()
        for number in range(cuts.shards):
            path = shard_path(self.path, number)
            with Shard(path) as shard:
                for name in shard.dictionary.addresses.names():
                    addresses.intern(name)
                shards.append(
                    {
                        "file": path.name, "traces": len(shard), "entries": shard.entries,
                        "checksum": shard.checksum, "bytes": path.stat().st_size,
                    }
                )  # fmt: skip
        kinds, counts, shortest, longest = groups.by_type()
        types = describe_types(kinds, counts, shortest, longest, cuts.shard_traces)
        content = {
            "format": FORMAT,
            "version": VERSION,
            **replace(provenance, producer=Provenance().producer).as_dict(),
            "traces": cuts.edges[-1],
            "entries": int((groups.lengths * groups.traces).sum()),
            "addresses": len(addresses),
            "shards": shards,
            "types": types,
            "lengths": length_histogram(groups.lengths, groups.traces),
        }
        with writing(self.path / NAME, "index"):
            write_json_atomic(self.path / NAME, {**content, "digest": index_digest(content)})
        logger.info(
            "%s: %s of %s in %s, %s",
            self.path, counted(cuts.edges[-1], "trace"), counted(len(types), "type"), counted(cuts.shards, "shard"),
            counted(len(addresses), "address", "addresses"),
        )  # fmt: skip

    def clean(self) -> None:
        """Remove the files that only an incomplete sort needs, after index.json was written."""
        with writing(self.path / PLAN, "sort plan"):
            for left in self.path.iterdir():
                if left.name.startswith(("spill-", ".")):
                    left.unlink()
            final = {"format": PLAN_FORMAT, "version": PLAN_VERSION, "digest": self.digest}
            if self._written() != final:
                self._write({"digest": self.digest})


def _is_sort_file(name: str) -> bool:
    visible = name.startswith(("shard-", "spill-"))
    hidden = name.endswith(".tmp") and name.startswith((".shard-", ".spill-", f".{NAME}.", f".{PLAN}."))
    return visible or hidden
