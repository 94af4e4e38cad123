# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The traces of delegated runs in a message: views of its bytes, checked for consistency."""

import math
from typing import Any

import numpy as np

from etalumis.ppx.buffer import MAX_RANK, U32, U64, BufferReader, Malformed
from etalumis.ppx.messages import (
    PARAMETERS,
    TRACE,
    ArrayRecord,
    Columns,
    Frame,
    TraceColumns,
    TraceRecord,
    VectorOffsets,
)
from etalumis.rows import DETAIL, ENTRY

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
STEP = np.dtype([("position", "<i4"), ("flags", "<u4")])
_F8, _U4, _I4 = np.dtype("<f8"), np.dtype("<u4"), np.dtype("<i4")

SCORED, VALUE, STATED, MISFIT = 1, 2, 4, 8
"""Flags of an observe record."""
LOST, MISMATCH, DIVERGED, REPEATED = 1, 2, 4, 8
"""Flags of a trace record."""
_PARAMETERS = np.array([0, *(PARAMETERS[kind] for kind in range(1, len(PARAMETERS) + 1))], np.int64)
_MAX_ARRAYS = 1 + max(PARAMETERS.values())
"""Largest number of arrays of an observe record: the value and the parameters."""
_MAX_ELEMENTS = 1 << 24
"""Bound on the number of elements of a sparse array, so that a small message cannot fill the memory."""


def trace_columns(reader: BufferReader, data: bytes, table: int) -> TraceColumns:
    """Return the columns of the table `Traces` at `table`.

    Raises
    ------
    Malformed
        If a record refers to something outside the message. `Vocabulary` checks the numbers of texts, addresses and
        shared priors, because it knows how many exist.
    """
    fields = reader.fields(data, table)
    session, texts, addresses, kept, priors, parameters, traces, entries, details, observes, tags = fields[:11]
    entries_at, entry_count = reader.extent(data, table, entries, ENTRY.itemsize)
    details_at, detail_count = reader.extent(data, table, details, DETAIL.itemsize)
    data_at, data_count = reader.extent(data, table, fields[12], 8)
    traces_at, trace_count = reader.extent(data, table, traces, TRACE.itemsize)
    observes_at, observe_count = reader.extent(data, table, observes, OBSERVE.itemsize)
    positions = reader.vector(data, table, fields[13], _U4)
    extents, array_records = reader.vector(data, table, fields[14], _I4), reader.vector(data, table, fields[11], ARRAY)
    shapes = extents.tolist()
    arrays = [
        ArrayRecord(record[0], 1, (), -1)
        if record[2] == 1 and not record[4] and not record[5] and record[0] < data_count  # most are scalars
        else _array(record, shapes, data_count, positions)
        for record in array_records.tolist()
    ]
    tag_records = reader.vector(data, table, tags, TAG)
    trace_records = np.frombuffer(data, TRACE, trace_count, traces_at)
    observe_records = np.frombuffer(data, OBSERVE, observe_count, observes_at)
    expected = entry_count, observe_count, len(tag_records)
    _check_traces(trace_records, expected, detail_count, len(arrays))
    _check_arrays_of(observe_records, tag_records, len(arrays))
    frame = Frame(
        U64(data, table + session)[0] if session else 0,
        1 + max(_largest(tag_records["name"]), _largest(observe_records["name"]), _largest(observe_records["address"])),
        _texts(reader, data, table, texts) if texts else [],
        reader.vector(data, table, addresses, ADDRESS_KEY),
        U32(data, table + kept)[0] if kept else 0,
        reader.vector(data, table, priors, PRIOR),
        reader.vector(data, table, parameters, _F8),
        tag_records.tolist(),
        arrays,
        tag_records,
        array_records,
        extents,
        positions,
        observe_records,
        reader.vector(data, table, fields[15], STEP).tolist(),
        VectorOffsets(traces_at, entries_at, entry_count, details_at, detail_count, observes_at, data_at, data_count),
    )
    found = TraceColumns(
        data, frame, list(map(TraceRecord._make, trace_records.tolist())), observe_records["log_prob"].tolist()
    )
    if arrays:
        _check_sizes(found)
    if len(frame.priors):
        _check_priors(frame)
    return found


def _largest(numbers: Columns) -> int:
    return int(numbers.max()) if len(numbers) else -1


def _texts(reader: BufferReader, data: bytes, table: int, field: int) -> list[str]:
    start = table + field
    start += U32(data, start)[0] + 4
    count = U32(data, start - 4)[0]
    if start + 4 * count > len(data):
        raise Malformed(f"the {count} texts at byte {start} run past the end")
    found, left = [], len(data)
    for i in range(count):
        text = reader.string(data, start + 4 * i)
        left -= len(text)
        _require(left >= 0, "overlapping texts")
        found.append(text.decode())
    return found


def _require(held: bool, what: str) -> None:
    if not held:
        raise Malformed(f"traces with {what}")


def _array(record: tuple[int, ...], shapes: list[int], numbers: int, positions: Columns) -> ArrayRecord:
    start, at, count, first, rank, sparse = record
    _require(start + count <= numbers, "an array outside the numbers")
    _require(first + rank <= len(shapes) and rank <= MAX_RANK, "an array whose shape is outside the extents")
    shape = tuple(shapes[first : first + rank]) if rank or sparse or count == 1 else (count,)
    size = 1
    for extent in shape:
        _require(extent >= 0, f"an array of the shape {shape}")
        size *= extent
    # numpy rejects such shapes even for empty arrays
    _require(
        math.prod(extent or 1 for extent in shape) <= max(_MAX_ELEMENTS, numbers), f"an array of the shape {shape}"
    )
    if not sparse:
        _require(size == count, f"an array of {count} numbers whose shape is {shape}")
        return ArrayRecord(start, count, shape, -1)
    _require(size <= _MAX_ELEMENTS, f"an array of {size} elements")
    _require(at + count <= len(positions), "an array outside the positions")
    _require(not count or int(positions[at : at + count].max()) < size, "an array with an element outside its shape")
    return ArrayRecord(start, count, shape, at)


def _check_traces(traces: Columns, expected: tuple[int, int, int], details: int, arrays: int) -> None:
    counted = tuple(int(traces[field].sum(dtype=np.uint64)) for field in ("entries", "observes", "tags"))
    _require(counted == expected, "numbers of records that differ from those announced")
    _require(details in (0, expected[0]), "details of other entries")
    if len(traces):
        result = traces["result"]
        _require(int(result.min()) >= -1 and int(result.max()) < arrays, "a result outside the arrays")


def _check_arrays_of(observes: Columns, tags: Columns, arrays: int) -> None:
    _require(_largest(tags["array"]) < arrays or not len(tags), "a tag that refers to a missing array")
    if not len(observes):
        return
    kind, flags = observes["kind"], observes["flags"]
    _require(int(kind.min()) >= 1 and int(kind.max()) < len(_PARAMETERS), "an observation of an unknown kind")
    used = np.where(flags & STATED, _PARAMETERS[kind], 0) + ((flags & VALUE) != 0)
    _require(int((observes["arrays"] + used).max()) <= arrays, "an observation that refers to missing arrays")


def _check_sizes(found: TraceColumns) -> None:
    """Refuse a message if one of its traces would fill the memory: arrays may be sparse, or overlap."""
    frame = found.frame
    sizes = [math.prod(array.shape) if array.shape else 1 for array in frame.arrays]
    largest = max(sizes)
    if largest * (3 * len(frame.observes) + len(frame.tags)) <= _MAX_ELEMENTS:
        return
    observe = tag = 0
    for trace in found.traces:
        total = sum(sizes[array] for _, array in frame.tags[tag : tag + trace.tags])
        total += sum(
            sum(sizes[o.arrays : o.arrays + _MAX_ARRAYS]) for o in found.observes[observe : observe + trace.observes]
        )
        _require(total <= _MAX_ELEMENTS, f"arrays of {total} elements in one trace")
        tag += trace.tags
        observe += trace.observes


def _check_priors(found: Frame) -> None:
    kind = found.priors["kind"]
    _require(bool(((kind >= 1) & (kind <= max(PARAMETERS))).all()), "a prior of an unknown kind")
    _require(found.kept_priors <= len(found.priors), "more priors to keep than there are")
    # as floats: integers near 2^64 would wrap around
    ends = found.priors["first"].astype(np.float64) + found.priors["count"]
    _require(float(ends.max()) <= len(found.parameters), "a prior without parameters")
    _require(int(found.priors["count"].sum(dtype=np.uint64)) <= len(found.parameters), "priors over each other")


def array_of(found: TraceColumns, number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return an array of a message as one of its own."""
    start, count, shape, at = found.frame.arrays[number]
    values = found.data[start : start + count]
    if at < 0:
        return values.reshape(shape).copy()
    dense = np.zeros(math.prod(shape))
    dense[found.frame.positions[at : at + count]] = values
    return dense.reshape(shape)
