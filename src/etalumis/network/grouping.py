# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Groups of layers of equal shape: the rows of a group are stacked in one table per parameter."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from etalumis.errors import NetworkError
from etalumis.layers import LayerTable
from etalumis.network.standardise import FAMILIES
from etalumis.typing import Array


@dataclass(frozen=True)
class Group:
    """Layers of one distribution kind (and one number of categories)."""

    kind: str
    categories: int

    @property
    def key(self) -> str:
        """Name of the group in parameter names: "Uniform", "Categorical13"."""
        return f"{self.kind}{self.categories or ''}"


@dataclass(frozen=True)
class Grouping:
    """The group of each row of a layer table, and its row in the tables of the group.

    Attributes
    ----------
    groups
        In order of their first row in the layer table.
    sizes
        Number of rows of each group.
    group_of, row_of
        int64 (layer,). Group of a layer and its row within the group.
    """

    groups: tuple[Group, ...]
    sizes: tuple[int, ...]
    group_of: Array
    row_of: Array

    @classmethod
    def of(cls, layers: LayerTable) -> Self:
        """Group the rows of a layer table.

        Raises
        ------
        NetworkError
            If there is no proposal for the kind of a row, or a Categorical has no categories.
        """
        numbers: dict[Group, int] = {}
        sizes: list[int] = []
        group_of, row_of = np.zeros(len(layers), np.int64), np.zeros(len(layers), np.int64)
        for position, row in enumerate(layers.rows):
            if row.kind not in FAMILIES or (row.kind == "Categorical") != (row.categories > 0):
                raise NetworkError(
                    f"layer {row.address!r}: no proposal for kind {row.kind!r} with {row.categories} categories; "
                    f"expected one of {', '.join(FAMILIES)}, and categories for a Categorical only"
                )
            group = Group(row.kind, row.categories)
            if group not in numbers:
                numbers[group] = len(numbers)
                sizes.append(0)
            group_of[position] = numbers[group]
            row_of[position] = sizes[numbers[group]]
            sizes[numbers[group]] += 1
        return cls(tuple(numbers), tuple(sizes), group_of, row_of)
