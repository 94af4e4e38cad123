# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Requests for delegated and assisted runs as bytes.

What a chain sends at every step has one layout, computed once; what is sent rarely goes through flatc's code.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

from etalumis.plan import DETAIL, ENTRY, Plan
from etalumis.ppx.generated import ppx_generated
from etalumis.ppx.numbering import Lesson

# flatc and its library have no types.
fb: Any = ppx_generated
_builder: Any = flatbuffers.Builder

DELEGATED, ASSISTED = 1, 2
"""Modes of a Run."""
VERSION = 1
"""Version of delegated runs spoken here."""


def _skeleton() -> bytes:
    """Return the bytes of a Run up to its numbers: two vtables and the table Message, at fixed places.

    Byte 0 root, 4 vtable of Message, 12 Message, 24 vtable of Run, 56 Run; 100 seeds, then rows and their details. A
    vector's length lies 4 bytes before a multiple of 8, so that its elements are aligned.
    """
    message = struct.pack("<I4H i I B 3x", 12, 8, 12, 8, 4, 8, _RUN_AT - 16, fb.MessageBody.Run)
    # mode, session, seeds, texts, addresses, rows, row_details, prefix, observations, score, parameters, draw_below,
    # details, rejected
    slots = (32, 16, 4, 0, 0, 8, 12, 24, 0, 33, 34, 28, 35, 36)
    return message + struct.pack("<16H i", 32, 40, *slots, _RUN_AT - 24)


_RUN_AT, _SEEDS_AT = 56, 104
_SKELETON = _skeleton()
_NUMBERS = struct.Struct("<IIIQIIBBBBB7xI")


def request(mode: int, session: int, plan: Plan, seeds: Sequence[int]) -> bytes:
    """Return a Run for a plan in the session's numbers, whose observations, if any, the simulator has already."""
    count = len(seeds)
    rows, details = (b"", b"") if plan.rows is None else (plan.rows.entries.tobytes(), plan.rows.details.tobytes())
    rows_at = _SEEDS_AT + 8 * count + 8
    numbers = _NUMBERS.pack(
        _SEEDS_AT - 4 - (_RUN_AT + 4),  # from the field to the vector's length
        rows_at - 4 - (_RUN_AT + 8),
        rows_at + len(rows) + 4 - (_RUN_AT + 12),
        session,
        plan.prefix,
        plan.draw_below,
        mode,
        plan.observed is not None,
        plan.parameters,
        plan.details,
        plan.rejected,
        count,
    )
    length = struct.pack("<4xI", len(rows) // ENTRY.itemsize)
    return b"".join((_SKELETON, numbers, struct.pack(f"<{count}Q", *seeds), length, rows, length, details))


def teaching_request(
    mode: int,
    session: int,
    plan: Plan,
    seeds: Sequence[int],
    lesson: Lesson | None,
    observations: Mapping[str, np.ndarray] | None,
) -> bytes:
    """Return a Run that brings along new numbers, or observations that the simulator is to keep."""
    builder = _builder(1024)
    fields: dict[str, int] = {}
    if lesson is not None:
        strings = [builder.CreateString(text) for text in lesson.texts]
        builder.StartVector(4, len(strings), 4)
        for string in reversed(strings):
            builder.PrependUOffsetTRelative(string)
        fields["Texts"] = builder.EndVector()
        fields["Addresses"] = _structs(builder, np.array(lesson.keys, "<u4").reshape(-1, 4).tobytes(), 16, 4)
    if observations is not None:
        fields["Observations"] = _observations(builder, observations)
    fields["Seeds"] = _structs(builder, np.array(seeds, "<u8").tobytes(), 8, 8)
    if plan.rows is not None:
        fields["Rows"] = _structs(builder, plan.rows.entries.tobytes(), ENTRY.itemsize, 8)
        fields["RowDetails"] = _structs(builder, plan.rows.details.tobytes(), DETAIL.itemsize, 8)
    fb.RunStart(builder)
    for name, offset in fields.items():
        getattr(fb, f"RunAdd{name}")(builder, offset)
    fb.RunAddMode(builder, mode)
    fb.RunAddSession(builder, session)
    fb.RunAddPrefix(builder, plan.prefix)
    fb.RunAddScore(builder, plan.observed is not None)
    fb.RunAddParameters(builder, plan.parameters)
    fb.RunAddDrawBelow(builder, plan.draw_below)
    fb.RunAddDetails(builder, plan.details)
    fb.RunAddRejected(builder, plan.rejected)
    run = fb.RunEnd(builder)
    fb.MessageStart(builder)
    fb.MessageAddBodyType(builder, fb.MessageBody.Run)
    fb.MessageAddBody(builder, run)
    builder.Finish(fb.MessageEnd(builder))
    return bytes(builder.Output())


def _structs(builder: Any, content: bytes, size: int, alignment: int) -> int:
    """Write a vector of structs, whose bytes are `content`."""
    builder.StartVector(size, len(content) // size, alignment)
    builder.head = builder.head - len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    return int(builder.EndVector())


def _observations(builder: Any, observations: Mapping[str, np.ndarray]) -> int:
    tensors = []
    for name, value in observations.items():
        data = builder.CreateNumpyVector(np.ascontiguousarray(value, np.float64).ravel())
        shape = builder.CreateNumpyVector(np.asarray(np.shape(value), np.int32))
        fb.TensorStart(builder)
        fb.TensorAddData(builder, data)
        fb.TensorAddShape(builder, shape)
        tensor = fb.TensorEnd(builder)
        text = builder.CreateString(name)
        fb.NamedTensorStart(builder)
        fb.NamedTensorAddName(builder, text)
        fb.NamedTensorAddValue(builder, tensor)
        tensors.append(fb.NamedTensorEnd(builder))
    builder.StartVector(4, len(tensors), 4)
    for tensor in reversed(tensors):
        builder.PrependUOffsetTRelative(tensor)
    vector = builder.EndVector()
    fb.ObservationsStart(builder)
    fb.ObservationsAddTensors(builder, vector)
    return int(fb.ObservationsEnd(builder))
