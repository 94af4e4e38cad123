# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Encoding of requests for delegated and assisted runs.

The request that a chain sends at every step has a fixed layout, which is computed once. Rare requests are written by
the code that flatc generated.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

from etalumis.delegation import RunPlan, Steps
from etalumis.ppx.generated import ppx_generated
from etalumis.ppx.vocabulary import NewTerms
from etalumis.rows import DETAIL, ENTRY, as_structs

# flatc and its library have no types.
fb: Any = ppx_generated
_builder: Any = flatbuffers.Builder

DELEGATED, ASSISTED = 1, 2
"""Modes of a Run."""
DELEGATION_VERSION = 1
"""Version of delegated runs that this module writes."""
CHAIN_VERSION = 1
"""Version of chains that this module requests."""
PROPOSAL_VERSION = 1
"""Version of proposed rows that this module requests."""


def _skeleton() -> bytes:
    """Return the bytes of a Run before its numbers: two vtables and the table Message, at fixed offsets.

    Offsets: 0 root, 4 vtable of Message, 12 Message, 24 vtable of Run, 64 Run, 108 seeds, then rows and their details.
    The length of a vector is 4 bytes before a multiple of 8, so that its elements are aligned.
    """
    message = struct.pack("<I4H i I B 3x", 12, 8, 12, 8, 4, 8, _RUN_AT - 16, fb.MessageBody.Run)
    # mode, session, seeds, texts, addresses, rows, row_details, prefix, observations, score, parameters, draw_below,
    # details, rejected, chain, proposed
    slots = (32, 16, 4, 0, 0, 8, 12, 24, 0, 33, 34, 28, 35, 36, 0, 37)
    return message + struct.pack("<18H4x i", 36, 40, *slots, _RUN_AT - 24)


_RUN_AT, _SEEDS_AT = 64, 112
_SKELETON = _skeleton()
_NUMBERS = struct.Struct("<IIIQIIBBBBBB6xI")
_LENGTH = struct.Struct("<4xI").pack


def request(mode: int, session: int, plan: RunPlan, seeds: Sequence[int]) -> bytes:
    """Return a Run for a plan in the numbers of the session. The simulator must have its observations already."""
    count = len(seeds)
    _, prefix, observed, parameters, draw_below, with_details, rejected, proposed = plan
    rows = as_structs(plan.rows)
    entries, details = (b"", b"") if rows is None else (rows.entry_bytes, rows.detail_bytes)
    rows_at = _SEEDS_AT + 8 * count + 8
    numbers = _NUMBERS.pack(
        _SEEDS_AT - 4 - (_RUN_AT + 4),  # from the field to the vector's length
        rows_at - 4 - (_RUN_AT + 8),
        rows_at + len(entries) + 4 - (_RUN_AT + 12),
        session,
        prefix,
        draw_below,
        mode,
        observed is not None,
        parameters,
        with_details,
        rejected,
        proposed,
        count,
    )
    length = _LENGTH(len(entries) // ENTRY.itemsize)
    return b"".join((_SKELETON, numbers, struct.pack(f"<{count}Q", *seeds), length, entries, length, details))


def request_with_terms(
    mode: int,
    session: int,
    plan: RunPlan,
    seeds: Sequence[int],
    new_terms: NewTerms | None,
    observations: Mapping[str, np.ndarray] | None,
    steps: Steps | None = None,
) -> bytes:
    """Return a Run with new terms, with observations that the simulator keeps, or for the steps of a chain."""
    builder = _builder(1024)
    fields: dict[str, int] = {}
    if new_terms is not None:
        strings = [builder.CreateString(text) for text in new_terms.texts]
        builder.StartVector(4, len(strings), 4)
        for string in reversed(strings):
            builder.PrependUOffsetTRelative(string)
        fields["Texts"] = builder.EndVector()
        fields["Addresses"] = _structs(builder, np.array(new_terms.keys, "<u4").reshape(-1, 4).tobytes(), 16, 4)
    if observations is not None:
        fields["Observations"] = _observations(builder, observations)
    fields["Seeds"] = _structs(builder, np.array(seeds, "<u8").tobytes(), 8, 8)
    if (rows := as_structs(plan.rows)) is not None:
        fields["Rows"] = _structs(builder, rows.entry_bytes, ENTRY.itemsize, 8)
        fields["RowDetails"] = _structs(builder, rows.detail_bytes, DETAIL.itemsize, 8)
    if steps is not None:
        fields["Chain"] = _chain(builder, steps)
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
    fb.RunAddProposed(builder, plan.proposed)
    run = fb.RunEnd(builder)
    fb.MessageStart(builder)
    fb.MessageAddBodyType(builder, fb.MessageBody.Run)
    fb.MessageAddBody(builder, run)
    builder.Finish(fb.MessageEnd(builder))
    return bytes(builder.Output())


def _chain(builder: Any, steps: Steps) -> int:
    settings = steps.settings
    names = [builder.CreateString(name) for name in settings.focus or ()]
    builder.StartVector(4, len(names), 4)
    for name in reversed(names):
        builder.PrependUOffsetTRelative(name)
    focus = builder.EndVector()
    fb.ChainStart(builder)
    fb.ChainAddCount(builder, steps.number)
    fb.ChainAddFirst(builder, steps.first)
    fb.ChainAddBeta(builder, settings.beta)
    fb.ChainAddFocusShare(builder, settings.focus_share)
    fb.ChainAddFreshShare(builder, settings.fresh_share)
    fb.ChainAddTailShare(builder, settings.tail_share)
    fb.ChainAddAnewShare(builder, settings.redraw_share)
    fb.ChainAddFocus(builder, focus)
    fb.ChainAddFocusNamed(builder, settings.focus is None)
    return int(fb.ChainEnd(builder))


def _structs(builder: Any, content: bytes, size: int, alignment: int) -> int:
    """Write a vector of structs with the bytes `content`."""
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
