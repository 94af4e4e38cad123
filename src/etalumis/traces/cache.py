# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whole shards in memory, the least recently used dropped first."""

from collections import OrderedDict

from etalumis.traces.block import Block, complete_tags
from etalumis.traces.sources import Sources


class ShardCache:
    """Blocks of whole shards within a budget of `cache_mb`; the one in use is kept even where it is larger."""

    def __init__(self, sources: Sources, cache_mb: int) -> None:
        self._sources = sources
        self._budget = cache_mb * 1_000_000
        self._held: OrderedDict[int, Block] = OrderedDict()
        self._bytes = 0

    def block(self, number: int) -> Block:
        """Return all traces of shard `number`; its checksums are checked when it is loaded."""
        if number in self._held:
            self._held.move_to_end(number)
        else:
            shard = self._sources.shards[number]
            self._make_room(shard.nbytes)
            self._held[number] = complete_tags(shard.read(), self._sources.tag_layouts)
            self._bytes += shard.nbytes
        return self._held[number]

    def _make_room(self, needed: int) -> None:
        while self._held and self._bytes + needed > self._budget:
            dropped, _ = self._held.popitem(last=False)
            self._bytes -= self._sources.shards[dropped].nbytes
