# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace files of one dataset, opened with one dictionary."""

from collections.abc import Sequence
from pathlib import Path

from etalumis.traces.block import Layout, TagLayout, require_same_layouts, require_same_tags
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import Provenance
from etalumis.traces.index import require_checksum, shard_files
from etalumis.traces.reading.shard import Shard


class CommonMetadata:
    """What the files of a dataset have in common; all files must agree with the first one.

    A file without traces has no observe statements and agrees with any other file.

    Attributes
    ----------
    provenance
        Provenance of the union of all files.
    layouts, tag_layouts
        The observe statements, and the tags of all files.

    Parameters
    ----------
    first
        The first file.
    mix
        Accept different builds and configurations of the same model.
    """

    def __init__(self, first: Shard, mix: bool = False) -> None:
        self._path, self._source, self._mix = first.path, first.provenance, mix
        self._observing: Path | None = None
        self.layouts: tuple[Layout, ...] = ()
        self.tag_layouts: dict[str, TagLayout] = {}
        self.provenance: Provenance = first.provenance
        self._admit_columns(first)

    def add(self, shard: Shard) -> None:
        """Add another file; raise DatasetError if it does not agree with the first one."""
        self._source.require_same_source(self._path, shard.provenance, shard.path, self._mix)
        self._admit_columns(shard)
        self.provenance = self.provenance.joined(shard.provenance)

    def _admit_columns(self, shard: Shard) -> None:
        if not len(shard):
            return
        if self._observing is None:
            self._observing, self.layouts = shard.path, shard.layouts
        require_same_layouts(self._observing, self.layouts, shard.path, shard.layouts)
        require_same_tags(self._observing, self.tag_layouts, shard.path, shard.tag_layouts)
        self.tag_layouts.update(shard.tag_layouts)


class Sources:
    """Open trace files of one simulator and configuration.

    Attributes
    ----------
    shards
        The files; their address and distribution ids are those of `dictionary`.
    provenance
        Provenance of the union of all files.
    layouts, tag_layouts
        The observe statements, and the tags of all files.

    Raises
    ------
    DatasetError
        If a file is damaged or foreign, is not the one named in its index, or does not agree with the first one (with
        `mix`, builds and configurations may differ).
    """

    def __init__(self, paths: Sequence[Path], mix: bool = False) -> None:
        self.dictionary = Dictionary()
        self.shards: list[Shard] = []
        for path, checksum in shard_files(paths).items():
            shard = Shard(path, self.dictionary)
            require_checksum(path, checksum, shard.checksum)
            self.shards.append(shard)
        common = CommonMetadata(self.shards[0], mix)
        for shard in self.shards[1:]:
            common.add(shard)
        self.layouts, self.tag_layouts, self.provenance = common.layouts, common.tag_layouts, common.provenance
