# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Addresses that a minibatch has and the layer table lacks: all ranks add the same ones in the same order."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from etalumis.layers import LayerRow, LayerTable
from etalumis.network.model import ProposalNetwork
from etalumis.training.synchronize import Synchronizer

_OF_PRIOR = 0.95
"""Share of the prior in the first proposal: a category of probability zero in one trace may be possible in another."""


class NewAddress(NamedTuple):
    """An address without a layer.

    Attributes
    ----------
    row
        Its row; the count is that of the minibatch.
    first
        Place in the stream of the first trace that has it.
    probs
        Probabilities of the categories there, if it is a Categorical.
    """

    row: LayerRow
    first: int
    probs: tuple[float, ...]


def agree(mine: list[NewAddress], ranks: Synchronizer) -> list[NewAddress]:
    """Return the new addresses of all ranks, sorted; all ranks call it together.

    The result depends on the traces of the iteration only, not on which rank has them.
    """
    if not ranks.total(np.array([len(mine)])).any():
        return []
    return merged(each for of_rank in ranks.comm.allgather(mine) for each in of_rank)


def merged(found: Iterable[NewAddress]) -> list[NewAddress]:
    """Return each address once, sorted, with its first trace and the sum of the counts."""
    merging: dict[str, NewAddress] = {}
    for new in found:
        other = merging.get(new.row.address, new)
        count = new.row.count + (other.row.count if other is not new else 0)
        early = min(new, other, key=lambda each: each.first)
        row = LayerRow(early.row.address, early.row.name, early.row.kind, early.row.categories, count)
        merging[row.address] = NewAddress(row, early.first, early.probs)
    return [merging[address] for address in sorted(merging)]


def appended(layers: LayerTable, new: Iterable[NewAddress]) -> LayerTable:
    """Return a layer table with further rows."""
    rows = [each.row for each in new]
    added = LayerTable(rows, layers.observations, layers.simulator_build_id, layers.config_digest, layers.tags)
    return layers.grow(added)


def start_at_priors(network: ProposalNetwork, new: Iterable[NewAddress]) -> None:
    """Let the new categorical layers propose nearly from their priors; the other kinds do so from the start."""
    for each in new:
        if each.probs:
            share = _OF_PRIOR * np.array(each.probs) + (1.0 - _OF_PRIOR) / len(each.probs)
            network.set_categorical_start(network.layers.row(each.row.address), np.log(share))
