# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Collect traces that lie anywhere in a set of files, in a given order and in bounded memory."""

from collections.abc import Iterator

import numpy as np

from etalumis.traces.block import Block, complete_tags, join
from etalumis.traces.keys import Keys
from etalumis.traces.shard import Shard
from etalumis.traces.sources import Sources


def gather(sources: Sources, keys: Keys, memory_mb: int) -> Iterator[Block]:
    """Yield the traces of `keys` in their order, in blocks.

    A quarter of `memory_mb` goes to the window of an input file that is read at a time and a quarter to the block
    (which exists twice while it is put in order).
    """
    budget = memory_mb * 1_000_000 // 4
    traces = sum(len(shard) for shard in sources.shards)
    block_traces = _fitting(budget, sum(shard.nbytes for shard in sources.shards), traces)
    for start in range(0, len(keys), block_traces):
        yield _gather_block(sources, keys.slice(start, start + block_traces), budget)


def _fitting(budget: int, nbytes: int, traces: int) -> int:
    """Return how many traces of average size fit the budget; at least one."""
    return max(1, budget * traces // max(1, nbytes))


def _gather_block(sources: Sources, keys: Keys, budget: int) -> Block:
    by_place = np.lexsort((keys.row, keys.file))
    parts = []
    for number in np.unique(keys.file).tolist():
        rows = keys.row[by_place][keys.file[by_place] == number]
        parts += [complete_tags(block, sources.tag_layouts) for block in _rows(sources.shards[number], rows, budget)]
    back = np.empty_like(by_place)
    back[by_place] = np.arange(len(by_place))
    return join(parts).take(back)


def _rows(shard: Shard, rows: np.ndarray, budget: int) -> Iterator[Block]:
    """Yield the traces `rows` (ascending) of one file."""
    window = _fitting(budget, shard.nbytes, len(shard))
    for start in range(0, len(shard), window):
        inside = rows[(rows >= start) & (rows < start + window)]
        if len(inside):
            yield shard.read(start, min(start + window, len(shard))).take(inside - start)
