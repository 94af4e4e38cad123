# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The traces of delegated runs out of a message: views of its bytes, and the check that they fit together."""

import math
from typing import Any

import numpy as np

from etalumis.plan import DETAIL, ENTRY
from etalumis.ppx.buffer import MAX_RANK, U32, U64, Malformed, Reader
from etalumis.ppx.messages import PARAMETERS, ArrayRecord, Columns, ObserveRecord, TraceColumns, TraceRecord

ADDRESS_KEY = np.dtype([("base", "<u4"), ("instance", "<u4"), ("name", "<u4"), ("flags", "<u4")])
PRIOR = np.dtype([("kind", "<u4"), ("count", "<u4"), ("first", "<u8")])
ARRAY = np.dtype(
    [
        ("start", "<u8"), ("index_start", "<u8"), ("count", "<u4"), ("shape_start", "<u4"), ("rank", "<u4"),
        ("sparse", "<u4"),
    ]
)  # fmt: skip
TAG = np.dtype([("name", "<u4"), ("array", "<u4")])
OBSERVE = np.dtype(
    [
        ("log_prob", "<f8"), ("name", "<u4"), ("address", "<u4"), ("kind", "<u4"), ("flags", "<u4"), ("arrays", "<u4"),
        ("padding", "<u4"),
    ]
)  # fmt: skip
TRACE = np.dtype(
    [
        ("seed", "<u8"), ("draws", "<u8"), ("entries", "<u4"), ("observes", "<u4"), ("tags", "<u4"), ("result", "<i4"),
        ("flags", "<u4"), ("padding", "<u4"), ("log_prior", "<f8"), ("log_ratio", "<f8"),
    ]
)  # fmt: skip
_F8, _U4, _I4 = np.dtype("<f8"), np.dtype("<u4"), np.dtype("<i4")

SCORED, VALUE, STATED, MISFIT = 1, 2, 4, 8
"""Flags of an observe record."""
LOST, MISMATCH = 1, 2
"""Flags of a trace record."""
_LARGEST = 1 << 24
"""Elements of the largest array that a sparse one may stand for: a message must not fill the memory."""


def trace_columns(reader: Reader, data: bytes, table: int) -> TraceColumns:
    """Return the columns of the table `Traces` at `table`.

    Raises
    ------
    Malformed
        Where a record points outside of what it refers to. Numbers of texts, addresses and kept priors are for
        `Numbering` to check, which knows how many there are.
    """
    fields = reader.fields(data, table)[:15]
    session, texts, addresses, kept, priors, parameters, traces, entries, details, observes, tags = fields[:11]
    numbers = reader.vector(data, table, fields[12], _F8)
    positions = reader.vector(data, table, fields[13], _U4)
    shapes = reader.vector(data, table, fields[14], _I4).tolist()
    arrays = [
        _array(record, shapes, len(numbers), positions)
        for record in reader.vector(data, table, fields[11], ARRAY).tolist()
    ]
    found = TraceColumns(
        U64(data, table + session)[0] if session else 0,
        _texts(reader, data, table, texts) if texts else [],
        reader.vector(data, table, addresses, ADDRESS_KEY),
        U32(data, table + kept)[0] if kept else 0,
        reader.vector(data, table, priors, PRIOR),
        reader.vector(data, table, parameters, _F8),
        [TraceRecord(*record) for record in reader.vector(data, table, traces, TRACE).tolist()],
        reader.vector(data, table, entries, ENTRY),
        reader.vector(data, table, details, DETAIL),
        [ObserveRecord(*record) for record in reader.vector(data, table, observes, OBSERVE).tolist()],
        reader.vector(data, table, tags, TAG).tolist(),
        arrays,
        numbers,
        positions,
    )
    _check_records(found)
    if len(found.priors):
        _check_priors(found)
    return found


def _texts(reader: Reader, data: bytes, table: int, field: int) -> list[str]:
    start = table + field
    start += U32(data, start)[0] + 4
    count = U32(data, start - 4)[0]
    if start + 4 * count > len(data):
        raise Malformed(f"the {count} texts at byte {start} run past the end")
    found, left = [], len(data)
    for i in range(count):
        text = reader.string(data, start + 4 * i)
        left -= len(text)
        _require(left >= 0, "texts that lie over each other")
        found.append(text.decode())
    return found


def _require(held: bool, what: str) -> None:
    if not held:
        raise Malformed(f"traces with {what}")


def _array(record: tuple[int, ...], shapes: list[int], numbers: int, positions: Columns) -> ArrayRecord:
    start, at, count, first, rank, sparse = record
    _require(start + count <= numbers, "an array that leaves its numbers")
    _require(first + rank <= len(shapes) and rank <= MAX_RANK, "an array that leaves its shape")
    shape = tuple(shapes[first : first + rank]) if rank or sparse or count == 1 else (count,)
    size = 1
    for extent in shape:
        _require(extent >= 0, f"an array of the shape {shape}")
        size *= extent
    # numpy has no array of more elements, not even an empty one
    _require(math.prod(extent or 1 for extent in shape) <= max(_LARGEST, numbers), f"an array of the shape {shape}")
    if not sparse:
        _require(size == count, f"an array of {count} numbers whose shape is {shape}")
        return ArrayRecord(start, count, shape, -1)
    _require(size <= _LARGEST, f"an array of {size} elements")
    _require(at + count <= len(positions), "an array that leaves its positions")
    _require(not count or int(positions[at : at + count].max()) < size, "an array with an element outside its shape")
    return ArrayRecord(start, count, shape, at)


def _check_records(found: TraceColumns) -> None:
    entries = observes = tags = 0
    arrays = len(found.arrays)
    for trace in found.traces:
        entries += trace.entries
        observes += trace.observes
        tags += trace.tags
        _require(-1 <= trace.result < arrays, "a result outside the arrays")
    expected = len(found.entries), len(found.observes), len(found.tags)
    _require((entries, observes, tags) == expected, "other numbers of records than they say")
    _require(len(found.details) in (0, len(found.entries)), "details of other entries")
    for observe in found.observes:
        _require(observe.kind in PARAMETERS, "an observation of an unknown kind")
        used = (1 if observe.flags & VALUE else 0) + (PARAMETERS[observe.kind] if observe.flags & STATED else 0)
        _require(observe.arrays + used <= arrays, "an observation without its arrays")
    for _, array in found.tags:
        _require(array < arrays, "a tag without its array")
    if arrays:
        _check_sizes(found)


def _check_sizes(found: TraceColumns) -> None:
    """Refuse a message of which one trace would fill the memory: arrays may be sparse, or lie over each other."""
    sizes = [math.prod(array.shape) for array in found.arrays]
    largest = max(sizes)
    if largest * (3 * len(found.observes) + len(found.tags)) <= _LARGEST:
        return
    observe = tag = 0
    for trace in found.traces:
        total = sum(sizes[array] for _, array in found.tags[tag : tag + trace.tags])
        total += sum(sum(sizes[o.arrays : o.arrays + 3]) for o in found.observes[observe : observe + trace.observes])
        _require(total <= _LARGEST, f"arrays of {total} elements in one of them")
        tag += trace.tags
        observe += trace.observes


def _check_priors(found: TraceColumns) -> None:
    kind = found.priors["kind"]
    _require(bool(((kind >= 1) & (kind <= max(PARAMETERS))).all()), "a prior of an unknown kind")
    _require(found.kept_priors <= len(found.priors), "more priors to keep than there are")
    # as floats: integers near 2^64 would wrap around
    ends = found.priors["first"].astype(np.float64) + found.priors["count"]
    _require(float(ends.max()) <= len(found.parameters), "a prior without parameters")
    _require(int(found.priors["count"].sum(dtype=np.uint64)) <= len(found.parameters), "priors over each other")


def array_of(found: TraceColumns, number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return an array of a message as one of its own."""
    start, count, shape, at = found.arrays[number]
    values = found.data[start : start + count]
    if at < 0:
        return values.reshape(shape).copy()
    dense = np.zeros(math.prod(shape))
    dense[found.positions[at : at + count]] = values
    return dense.reshape(shape)
