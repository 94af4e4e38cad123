# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Bounds-checked reading of flatbuffers.

The Python code that flatc generates trusts its input. This reader checks every offset that it follows: a malformed
message raises an error and never leads to an array larger than the message.
"""

import struct
from functools import cache
from typing import Any

import numpy as np

I32 = struct.Struct("<i").unpack_from
U32 = struct.Struct("<I").unpack_from
U64 = struct.Struct("<Q").unpack_from
_VTABLE_HEAD = struct.Struct("<HH").unpack_from

MAX_FIELDS = 16
"""Number of fields of the largest table in the schema (Traces); further fields come from newer schemas."""
MAX_RANK = 32
_MAX_CACHED_VTABLES = 1024

Extent = tuple[int, int, int, int]
"""Location of a tensor: offset and number of its data, offset and number of its dimensions."""
ABSENT: Extent = (0, 0, 0, 0)


@cache
def _empty_array(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return np.empty(0, dtype)


class Malformed(ValueError):
    """The bytes are not a message of the schema; the text says what was found where."""


class BufferReader:
    """Reads tables, strings and tensors; caches vtables, which repeat in every message."""

    def __init__(self) -> None:
        self._vtables: dict[bytes, tuple[int, ...]] = {}

    def fields(self, data: bytes, table: int) -> tuple[int, ...]:
        """Return the offsets of the first `MAX_FIELDS` fields relative to the table at `table`; 0 if absent.

        Raises `struct.error` or `Malformed` if the table or its vtable is not within the message.
        """
        vtable = table - I32(data, table)[0]
        if vtable < 0:
            raise Malformed(f"the table at byte {table} has its vtable before the message")
        size, extent = _VTABLE_HEAD(data, vtable)
        key = data[vtable : vtable + size]
        if table + extent > len(data):
            raise Malformed(f"the table at byte {table} has {extent} bytes and runs past the end")
        found = self._vtables.get(key)
        if found is None:
            if size < 4 or size % 2 or len(key) != size or extent < 4:
                raise Malformed(f"the vtable at byte {vtable} has {size} bytes for a table of {extent}")
            slots = struct.unpack(f"<{size // 2}H", key)[2:][:MAX_FIELDS]
            if any(slot >= extent for slot in slots):
                raise Malformed(f"the vtable at byte {vtable} points past its table of {extent} bytes")
            found = slots + (0,) * (MAX_FIELDS - len(slots))
            if len(self._vtables) < _MAX_CACHED_VTABLES:
                self._vtables[key] = found
        return found

    def string(self, data: bytes, field: int) -> bytes:
        """Return the UTF-8 bytes of the string that the offset at `field` points to."""
        start = field + U32(data, field)[0] + 4
        end = start + U32(data, start - 4)[0]
        if end > len(data):
            raise Malformed(f"the string at byte {start} ends at {end}, past the end")
        return data[start:end]

    def text(self, data: bytes, table: int, field: int) -> str:
        """Return the string in a field of a table; "" if it is absent."""
        return self.string(data, table + field).decode() if field else ""

    def vector(self, data: bytes, table: int, field: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Return a vector of numbers or structs as a read-only view of the message; empty if it is absent.

        Raises `struct.error` or `ValueError` if it is not within the message.
        """
        if not field:
            return _empty_array(dtype)
        start = table + field
        start += U32(data, start)[0] + 4
        return np.frombuffer(data, dtype, U32(data, start - 4)[0], start)

    @staticmethod
    def extent(data: bytes, table: int, field: int, size: int) -> tuple[int, int]:
        """Return offset and number of a vector's elements of `size` bytes; (0, 0) if it is absent.

        Raises `struct.error` or `Malformed` if it is not within the message.
        """
        if not field:
            return 0, 0
        start = table + field
        start += U32(data, start)[0] + 4
        count = U32(data, start - 4)[0]
        if start + count * size > len(data):
            raise Malformed(f"the {count} structs of {size} bytes at byte {start} run past the end")
        return start, count

    def tensor(self, data: bytes, field: int) -> Extent:
        """Return the location of the tensor that the offset at `field` points to."""
        table = field + U32(data, field)[0]
        values, shape = self.fields(data, table)[:2]
        start = count = shape_start = rank = 0
        if values:
            start = table + values
            start += U32(data, start)[0] + 4
            count = U32(data, start - 4)[0]
            if start + 8 * count > len(data):
                raise Malformed(f"the {count} doubles at byte {start} run past the end")
        if shape:
            shape_start = table + shape
            shape_start += U32(data, shape_start)[0] + 4
            rank = U32(data, shape_start - 4)[0]
            if rank > MAX_RANK:
                raise Malformed(f"a tensor of {rank} dimensions at byte {shape_start}; expected at most {MAX_RANK}")
            if shape_start + 4 * rank > len(data):
                raise Malformed(f"the {rank} dimensions at byte {shape_start} run past the end")
        elif count != 1:
            rank = -1  # no shape: a plain vector
        return start, count, shape_start, rank


def shape_of(data: bytes, extent: Extent) -> tuple[int, ...]:
    """Return the shape of a tensor; without one, a single datum is a scalar and several are a vector."""
    start, count, shape_start, rank = extent
    if rank < 0:
        return (count,)
    shape = struct.unpack_from(f"<{rank}i", data, shape_start)
    product = 1
    for size in shape:
        if size < 0:
            raise Malformed(f"the tensor at byte {start} has the negative dimension {size}")
        product *= size
    if product != count:
        # Public peers write an empty tensor with the shape () for None.
        if count == 0 and rank == 0:
            return (0,)
        raise Malformed(f"the tensor at byte {start} has {count} data for the shape {shape}")
    return shape


def array_of(data: bytes, extent: Extent) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a tensor as an array that is independent of the message."""
    shape = shape_of(data, extent)
    values = np.frombuffer(data, dtype="<f8", count=extent[1], offset=extent[0]) if extent[1] else np.empty(0)
    return values.astype(np.float64).reshape(shape)
