# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Entries of a trace to replay: their values, and what decides which entry of a run may take which value."""

import math
import struct
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Columns = np.ndarray[Any, Any]


ENTRY = np.dtype([("value", "<f8"), ("address", "<u4"), ("distribution", "<u4")])
"""An entry, as the struct of the PPX schema; `address` and `distribution` are numbers of an `AddressKeys` object."""
DETAIL = np.dtype(
    [
        ("log_prob", "<f8"), ("support", "<u8"), ("scope", "<u4"), ("repetition", "<u4"), ("row", "<i4"),
        ("flags", "<u4"),
    ]
)  # fmt: skip
"""Details of an entry, which only some engines request: log density of the value, digest of the prior's kind and
support, scope and repetition, the row that the value was copied from (-1: none), and flags (`trace.REJECTED`)."""

# the value and the log density are the first fields
_double = struct.Struct("<d").pack
_NAN = _double(math.nan)
_VALUE_AND_PRIOR, _LOG_PROB = struct.Struct("<d4xI").unpack_from, struct.Struct("<d").unpack_from

OWN_PRIOR = 1 << 31
"""Numbers in the column `distribution` from here on belong to the trace alone; lower ones belong to its `keys`."""

AddressKey = tuple[str, int, str, int]
"""Identity of an entry: base address, instance number in the trace, name, and flags without `REJECTED`."""


class AddressKeys(Protocol):
    """Maps the numbers in the column `address` to the keys of addresses."""

    def key(self, number: int) -> AddressKey:
        """Return the key of a number."""
        ...


class Rows(Protocol):
    """Entries of a trace to replay, which only the model that made the trace has to understand. Never changed."""

    @property
    def size(self) -> int:
        """Number of rows."""
        ...

    @property
    def structure(self) -> Hashable:
        """Addresses and scopes: equal for rows that differ in values and priors only."""
        ...

    @property
    def values(self) -> Columns:
        """Array (row,) of the values."""
        ...

    def row(self, position: int) -> tuple[float, int, float]:
        """Return the value, the number of the prior and the log density of one row."""
        ...

    def first(self, count: int) -> "Rows":
        """Return the first rows."""
        ...

    def with_value(self, position: int, value: float) -> "Rows":
        """Return a copy with another value, of unknown log density, at `position`."""
        ...

    def with_values(self, values: Mapping[int, float], unknown: slice) -> "Rows":
        """Return a copy with other values at some positions, and unknown log densities in the range `unknown`."""
        ...


class Numbering(AddressKeys, Protocol):
    """The numbers that a model uses for addresses and priors, and builds proposed rows from."""

    def proposed(self, entries: Sequence[tuple[float, int, int]], scopes: Sequence[int]) -> Rows:
        """Return proposed rows.

        Parameters
        ----------
        entries
            Value (NaN leaves the entry to the model), number of the address and number of the prior of each.
        scopes
            Number of the rejection scope of each.
        """
        ...


class ReplayRows:
    """Rows as structs, for models in another process.

    Addresses and priors are numbers of the object that created the rows; a model in another process translates them
    into its own. Rows are immutable. They are stored as bytes, because slicing and joining bytes is faster than
    creating numpy views of structs.

    Parameters
    ----------
    entries, details
        Arrays of dtype `ENTRY` and `DETAIL`, one row per entry, or their bytes.
    keys
        Maps the numbers of the addresses.
    addresses
        Bytes of the column `address`, if the caller has them already.
    """

    __slots__ = ("_addresses", "detail_bytes", "entry_bytes", "keys")

    def __init__(
        self, entries: Columns | bytes, details: Columns | bytes, keys: AddressKeys, addresses: bytes | None = None
    ) -> None:
        self.entry_bytes = entries if isinstance(entries, bytes) else entries.tobytes()
        self.detail_bytes = details if isinstance(details, bytes) else details.tobytes()
        self.keys = keys
        self._addresses = addresses

    @property
    def entries(self) -> Columns:
        """The rows as an array of dtype `ENTRY`."""
        return np.frombuffer(self.entry_bytes, ENTRY)

    @property
    def details(self) -> Columns:
        """The details as an array of dtype `DETAIL`."""
        return np.frombuffer(self.detail_bytes, DETAIL)

    @property
    def values(self) -> Columns:
        """Array (row,) of the values."""
        return self.entries["value"]

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.entry_bytes) // ENTRY.itemsize

    @property
    def structure(self) -> tuple[AddressKeys, bytes, bytes]:
        """Addresses and scopes: equal for rows that differ in values and priors only."""
        if self._addresses is None:
            self._addresses = self.entries["address"].tobytes()
        return self.keys, self._addresses, self.details["scope"].tobytes()

    def row(self, position: int) -> tuple[float, int, float]:
        """Return the value, the number of the prior and the log density of one row."""
        value, number = _VALUE_AND_PRIOR(self.entry_bytes, position * ENTRY.itemsize)
        return value, number, _LOG_PROB(self.detail_bytes, position * DETAIL.itemsize)[0]

    def first(self, count: int) -> "ReplayRows":
        """Return the first rows."""
        return ReplayRows(
            self.entry_bytes[: count * ENTRY.itemsize], self.detail_bytes[: count * DETAIL.itemsize], self.keys
        )

    def with_value(self, position: int, value: float) -> "ReplayRows":
        """Return a copy with another value, of unknown log density, at `position`."""
        entries, details = self.entry_bytes, self.detail_bytes
        at, detail_at = position * ENTRY.itemsize, position * DETAIL.itemsize
        return ReplayRows(
            b"".join((entries[:at], _double(value), entries[at + 8 :])),
            b"".join((details[:detail_at], _NAN, details[detail_at + 8 :])),
            self.keys,
        )

    def with_values(self, values: Mapping[int, float], unknown: slice) -> "ReplayRows":
        """Return a copy with other values at some positions, and unknown log densities in the range `unknown`."""
        entries, details = self.entries.copy(), self.details.copy()
        entries["value"][list(values)] = list(values.values())
        details["log_prob"][unknown] = np.nan
        return ReplayRows(entries, details, self.keys, self._addresses)


def as_structs(rows: Rows | None) -> ReplayRows | None:
    """Return rows for a model in another process; raise TypeError if they are those of a model in this one."""
    if rows is None or isinstance(rows, ReplayRows):
        return rows
    raise TypeError(f"expected rows of a simulator's traces or saved ones, found {type(rows).__name__}")


class SavedKeys:
    """The keys of rows that another process saved: row i has number i."""

    def __init__(self, keys: Sequence[AddressKey]) -> None:
        self._keys = keys

    def key(self, number: int) -> AddressKey:
        """Return the key of a number."""
        return self._keys[number]

    def rows(self, values: Sequence[float], scopes: Sequence[int]) -> ReplayRows:
        """Return rows to replay by position."""
        entries, details = np.zeros(len(values), ENTRY), np.zeros(len(values), DETAIL)
        entries["value"], entries["address"] = values, np.arange(len(values))
        details["scope"], details["log_prob"] = scopes, np.nan
        return ReplayRows(entries, details, self)
