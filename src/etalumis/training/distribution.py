# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Distribution of the traces of one iteration over the ranks.

All functions return one array of trace numbers per rank, none of them empty. They are the same on every rank.
"""

import heapq

import numpy as np

from etalumis.training.costs import StepCosts
from etalumis.training.trace_kinds import TraceKinds
from etalumis.typing import Array


def by_length(traces: Array, kinds: TraceKinds, ranks: int) -> list[Array]:
    """Deal the traces in turn, sorted by length and type: the ranks have equal numbers of traces and similar tokens."""
    types = kinds.types[traces]
    ordered = traces[np.lexsort((traces, types, -kinds.tokens[types]))]
    return [ordered[rank::ranks] for rank in range(ranks)]


def by_cost(traces: Array, kinds: TraceKinds, ranks: int, costs: StepCosts) -> list[Array]:
    """Give each trace, the most expensive first, to the rank with the least cost so far (Graham 1969).

    A rank then has few expensive traces or many cheap ones, so both the embedding, which costs by trace, and the LSTM,
    which costs by token, count (the open problem of section 7.2). The first trace of a rank with a layer also pays for
    that layer's row. With equal costs of all ranks, no rank waits; the cost of the most expensive rank is at most 4/3
    of the least possible one, apart from the rows.
    """
    types = kinds.types[traces]
    own = costs.per_trace + costs.per_token * kinds.tokens
    ordered = np.lexsort((traces, types, -own[types]))
    heap = [(0.0, 0, rank) for rank in range(ranks)]  # cost, traces, number
    touched: list[set[int]] = [set() for _ in range(ranks)]
    owner = np.empty(len(traces), np.int64)
    for place in ordered.tolist():
        kind = int(types[place])
        load, count, rank = heap[0]
        new = kinds.layers[kind] - touched[rank]
        touched[rank] |= new
        owner[place] = rank
        heapq.heapreplace(heap, (load + float(own[kind]) + costs.per_row * len(new), count + 1, rank))
    return [traces[owner == rank] for rank in range(ranks)]


def for_measurement(traces: Array, kinds: TraceKinds, ranks: int, rng: np.random.Generator) -> list[Array]:
    """Cut the traces, sorted by length, at random: numbers of traces, tokens and rows then vary independently.

    With equal minibatches, a fit could not tell the cost of a trace from the fixed cost of a step.
    """
    types = kinds.types[traces]
    ordered = traces[np.lexsort((traces, types, kinds.tokens[types]))]
    sizes = rng.uniform(0.5, 1.5, ranks)
    # one trace for each rank, the others by size
    cuts = np.floor(np.cumsum(sizes)[:-1] / sizes.sum() * (len(traces) - ranks)).astype(np.int64)
    parts = np.split(ordered, cuts + np.arange(1, ranks))
    return [parts[place] for place in rng.permutation(ranks)]
