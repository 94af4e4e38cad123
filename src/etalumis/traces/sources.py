# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace files that belong together, opened with one dictionary."""

from collections.abc import Sequence
from pathlib import Path

from etalumis.traces.block import Layout, TagLayout, require_same_layouts, require_same_tags
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import Provenance
from etalumis.traces.index import require_checksum, shard_files
from etalumis.traces.shard import Shard


class Sources:
    """Open trace files of one simulator and configuration.

    Attributes
    ----------
    shards
        The files; all number addresses and distributions as in `dictionary`.
    provenance
        What they have in common.
    layouts, tag_layouts
        What they observe, and the tags of all of them.

    Raises
    ------
    DatasetError
        Where a file is damaged or foreign, is not the one its index names, or does not fit the first one.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.dictionary = Dictionary()
        self.shards: list[Shard] = []
        for path, checksum in shard_files(paths).items():
            shard = Shard(path, self.dictionary)
            require_checksum(path, checksum, shard.checksum)
            self.shards.append(shard)
        first = self.shards[0]
        self.layouts: tuple[Layout, ...] = first.layouts
        self.tag_layouts: dict[str, TagLayout] = dict(first.tag_layouts)
        self.provenance: Provenance = first.provenance
        for shard in self.shards[1:]:
            self._admit(first, shard)

    def _admit(self, first: Shard, shard: Shard) -> None:
        self.provenance.require_same_source(first.path, shard.provenance, shard.path)
        require_same_layouts(first.path, first.layouts, shard.path, shard.layouts)
        require_same_tags(first.path, self.tag_layouts, shard.path, shard.tag_layouts)
        self.tag_layouts.update(shard.tag_layouts)
        self.provenance = self.provenance.joined(shard.provenance)
