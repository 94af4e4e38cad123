# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Encoding of messages. The answer to a draw is a precomputed template with one double inserted."""

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import flatbuffers
import numpy as np

from etalumis.distributions import ArrayDistribution, Categorical
from etalumis.errors import ProtocolError
from etalumis.ppx.generated import ppx_generated
from etalumis.ppx.messages import (
    BODIES,
    Handshake,
    HandshakeResult,
    Message,
    Observe,
    Reset,
    RunResult,
    Sample,
    SampleResult,
    Tag,
)
from etalumis.typing import FloatArray

# flatc and its library have no types.
fb: Any = ppx_generated
_builder: Any = flatbuffers.Builder

FIELDS: dict[int, tuple[str, ...]] = {
    1: ("Mean", "Stddev"),
    2: ("Low", "High"),
    3: ("Probs",),
    4: ("Rate",),
    5: ("Probs",),
    6: ("Concentration1", "Concentration0"),
    7: ("Rate",),
    8: ("Concentration", "Rate"),
    9: ("Loc", "Scale"),
    10: ("TotalCount", "Probs"),
    11: ("Scale", "Concentration"),
    12: ("TotalCount", "Probs"),
    13: ("Df", "Loc", "Scale"),
}
"""Names of the parameters in the generated code, by the number of the distribution."""
_NAMES = {number: name for name, number in vars(fb.Distribution).items() if not name.startswith("_")}
_PLACEHOLDER_DOUBLE = struct.pack("<d", 0.1234567890123456789)


def encode(message: Message) -> bytes:
    """Return a message as flatbuffers bytes, without the file identifier, which public peers do not write either."""
    builder = _builder(256)
    build: Callable[[Any, Any], int] = _BUILD.get(type(message), _empty)
    body = build(builder, message)
    fb.MessageStart(builder)
    fb.MessageAddBodyType(builder, BODIES.index(type(message)) + 1)
    fb.MessageAddBody(builder, body)
    builder.Finish(fb.MessageEnd(builder))
    return bytes(builder.Output())


def sample_result(value: float, shape: tuple[int, ...] = ()) -> bytes:
    """Return ``encode(SampleResult(np.full(shape, value)))`` for one datum, a hundred times faster."""
    layout, head, tail = _template(shape)
    return layout.pack(head, value, tail)


@cache
def _template(shape: tuple[int, ...]) -> tuple[struct.Struct, bytes, bytes]:
    message = encode(SampleResult(np.full(shape, struct.unpack("<d", _PLACEHOLDER_DOUBLE)[0])))
    head, mark, tail = message.partition(_PLACEHOLDER_DOUBLE)
    if not mark or _PLACEHOLDER_DOUBLE in tail or np.prod(shape, dtype=int) != 1:
        raise ProtocolError(f"a sample result of shape {shape}: expected one datum")
    return struct.Struct(f"<{len(head)}sd{len(tail)}s"), head, tail


def _empty(builder: Any, message: Message) -> int:
    name = type(message).__name__
    getattr(fb, f"{name}Start")(builder)
    return int(getattr(fb, f"{name}End")(builder))


def _tensor(builder: Any, array: FloatArray | None) -> int:
    values = np.asarray([] if array is None else array, dtype=np.float64)
    data = builder.CreateNumpyVector(values.ravel())
    shape = builder.CreateNumpyVector(np.asarray(() if array is None else values.shape, dtype=np.int32))
    fb.TensorStart(builder)
    fb.TensorAddData(builder, data)
    fb.TensorAddShape(builder, shape)
    return int(fb.TensorEnd(builder))


def _distribution(builder: Any, code: int, arrays: tuple[FloatArray, ...]) -> int:
    kind = _NAMES[code]
    tensors = [_tensor(builder, array) for array in arrays]
    getattr(fb, f"{kind}Start")(builder)
    for field, tensor in zip(FIELDS[code], tensors, strict=True):
        getattr(fb, f"{kind}Add{field}")(builder, tensor)
    return int(getattr(fb, f"{kind}End")(builder))


def _handshake(builder: Any, message: Handshake) -> int:
    system_name = builder.CreateString(message.system_name)
    fb.HandshakeStart(builder)
    fb.HandshakeAddSystemName(builder, system_name)
    fb.HandshakeAddDelegation(builder, message.delegation)
    fb.HandshakeAddDistributions(builder, message.distributions)
    return int(fb.HandshakeEnd(builder))


def _handshake_result(builder: Any, message: HandshakeResult) -> int:
    system_name = builder.CreateString(message.system_name)
    model_name = builder.CreateString(message.model_name)
    fb.HandshakeResultStart(builder)
    fb.HandshakeResultAddSystemName(builder, system_name)
    fb.HandshakeResultAddModelName(builder, model_name)
    fb.HandshakeResultAddDelegation(builder, message.delegation)
    fb.HandshakeResultAddSession(builder, message.session)
    fb.HandshakeResultAddChains(builder, message.chains)
    fb.HandshakeResultAddProposals(builder, message.proposals)
    return int(fb.HandshakeResultEnd(builder))


def _run_result(builder: Any, message: RunResult) -> int:
    result = None if message.result is None else _tensor(builder, message.result)
    fb.RunResultStart(builder)
    if result is not None:
        fb.RunResultAddResult(builder, result)
    return int(fb.RunResultEnd(builder))


def _sample_result(builder: Any, message: SampleResult) -> int:
    result = _tensor(builder, message.result)
    fb.SampleResultStart(builder)
    fb.SampleResultAddResult(builder, result)
    fb.SampleResultAddHandOver(builder, message.hand_over)
    return int(fb.SampleResultEnd(builder))


def _sample(builder: Any, message: Sample) -> int:
    prior = message.distribution
    if isinstance(prior, ArrayDistribution):
        arrays = prior.arrays
    elif isinstance(prior, Categorical):
        arrays = (np.reshape(prior.probs, (*message.shape, -1)),)
    else:
        arrays = tuple(np.full(message.shape, parameter) for parameter in prior.parameters)
    distribution = _distribution(builder, prior.code, arrays)
    address = builder.CreateString(message.address)
    name = builder.CreateString(message.name)
    fb.SampleStart(builder)
    fb.SampleAddAddress(builder, address)
    fb.SampleAddName(builder, name)
    fb.SampleAddDistributionType(builder, prior.code)
    fb.SampleAddDistribution(builder, distribution)
    fb.SampleAddControl(builder, message.control)
    fb.SampleAddReplace(builder, message.replace)
    fb.SampleAddScope(builder, message.scope)
    fb.SampleAddRepetition(builder, message.repetition)
    fb.SampleAddInstance(builder, message.instance)
    return int(fb.SampleEnd(builder))


def _observe(builder: Any, message: Observe) -> int:
    distribution = _distribution(builder, message.distribution.code, message.distribution.arrays)
    value = None if message.value is None else _tensor(builder, message.value)
    address = builder.CreateString(message.address)
    name = builder.CreateString(message.name)
    fb.ObserveStart(builder)
    fb.ObserveAddAddress(builder, address)
    fb.ObserveAddName(builder, name)
    fb.ObserveAddDistributionType(builder, message.distribution.code)
    fb.ObserveAddDistribution(builder, distribution)
    if value is not None:
        fb.ObserveAddValue(builder, value)
    return int(fb.ObserveEnd(builder))


def _tag(builder: Any, message: Tag) -> int:
    value = _tensor(builder, message.value)
    address = builder.CreateString(message.address)
    name = builder.CreateString(message.name)
    fb.TagStart(builder)
    fb.TagAddAddress(builder, address)
    fb.TagAddName(builder, name)
    fb.TagAddValue(builder, value)
    return int(fb.TagEnd(builder))


def _reset(builder: Any, message: Reset) -> int:
    if not message.reason:
        return _empty(builder, message)
    reason = builder.CreateString(message.reason)
    fb.ResetStart(builder)
    fb.ResetAddReason(builder, reason)
    return int(fb.ResetEnd(builder))


_BUILD: dict[type[Any], Callable[[Any, Any], int]] = {
    Handshake: _handshake,
    HandshakeResult: _handshake_result,
    RunResult: _run_result,
    Sample: _sample,
    SampleResult: _sample_result,
    Observe: _observe,
    Tag: _tag,
    Reset: _reset,
}
