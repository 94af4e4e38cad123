# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Addresses of sample statements, and trace types (SC'19, Sections 4.1 and 4.4.1)."""

import hashlib
from collections.abc import Iterable

_MAX_CACHED_TYPES = 65_536
"""Maximum number of cached trace types, for models with very many of them."""


class AddressTable:
    """Interned addresses: integers from 0, in order of first use."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: list[str] = []
        self._ids: dict[str, int] = {}
        self._types: dict[tuple[int, ...], bytes] = {}
        for name in names:
            self.intern(name)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, address: str) -> bool:
        return address in self._ids

    def intern(self, address: str) -> int:
        """Return the integer of `address`; a new address gets the next integer."""
        found = self._ids.get(address)
        if found is None:
            found = self._ids[address] = len(self._names)
            self._names.append(address)
        return found

    def find(self, address: str) -> int | None:
        """Return the integer of `address`, or None if it is not in the table."""
        return self._ids.get(address)

    def name(self, identity: int) -> str:
        """Return the address of an integer returned by `intern`."""
        return self._names[identity]

    def type_of(self, identities: tuple[int, ...]) -> bytes:
        """Return the `trace_type` of controlled addresses, given as integers."""
        found = self._types.get(identities)
        if found is None:
            if len(self._types) >= _MAX_CACHED_TYPES:
                self._types.clear()
            found = self._types[identities] = trace_type(self._names[identity] for identity in identities)
        return found

    def names(self) -> list[str]:
        """Return all addresses, in the order of their integers."""
        return list(self._names)


def join(base: str, instance: int) -> str:
    """Return the address of the `instance`-th execution (from 1) of the statement `base` in a trace."""
    return f"{base}__{instance}"


def split(address: str) -> tuple[str, int]:
    """Return (base address, instance); the inverse of `join`."""
    base, _, instance = address.rpartition("__")
    return base, int(instance)


def trace_type(addresses: Iterable[str]) -> bytes:
    """Return the 128-bit blake2b of a sequence of controlled addresses.

    Each address is prefixed by its length, so that different sequences have different byte strings. Unlike Python's
    `hash`, the result is the same in every process.
    """
    state = hashlib.blake2b(digest_size=16)
    for address in addresses:
        encoded = address.encode()
        state.update(len(encoded).to_bytes(4, "little"))
        state.update(encoded)
    return state.digest()
