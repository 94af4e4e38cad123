# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Dictionary of a file: the addresses, with their names, and the unique distributions that entries refer to by id."""

import numpy as np

from etalumis.address import AddressTable

PriorKey = tuple[int, tuple[float, ...]]
"""PPX code of a distribution and its parameters, kept unchanged so that a copy is equal bit for bit."""


class Dictionary:
    """Ids of addresses and distributions, in the order of first use."""

    def __init__(self) -> None:
        self.addresses = AddressTable()
        self.names: list[str] = []
        self.distributions: list[PriorKey] = []
        self._distribution_ids: dict[PriorKey, int] = {}

    def address(self, address: str, name: str) -> int:
        """Return the id of an address; the first nonempty name is kept."""
        number = self.addresses.intern(address)
        if number == len(self.names):
            self.names.append(name)
        elif name and not self.names[number]:
            self.names[number] = name
        return number

    def distribution(self, prior: PriorKey) -> int:
        """Return the id of a distribution."""
        number = self._distribution_ids.get(prior)
        if number is None:
            number = self._distribution_ids[prior] = len(self.distributions)
            self.distributions.append(prior)
        return number

    def adopt_addresses(self, other: "Dictionary", used: np.ndarray) -> np.ndarray:
        """Return the ids here of the addresses `used` of another dictionary, in that order."""
        return np.array([self.address(other.addresses.name(i), other.names[i]) for i in used.tolist()], np.uint32)

    def adopt_distributions(self, other: "Dictionary", used: np.ndarray) -> np.ndarray:
        """Return the ids here of the distributions `used` of another dictionary, in that order."""
        return np.array([self.distribution(other.distributions[i]) for i in used.tolist()], np.uint32)


def first_seen(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (unique ids in the order of first occurrence, index of each id among them)."""
    distinct, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[inverse]
