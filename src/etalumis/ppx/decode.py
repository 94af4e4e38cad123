# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Decoding of messages. A malformed message always raises ProtocolError."""

import math
import struct
from collections.abc import Callable

import numpy as np

from etalumis.distributions import BY_CODE, ArrayDistribution, Categorical, Distribution, Normal, from_code
from etalumis.errors import ProtocolError, RefusedError
from etalumis.ppx.buffer import ABSENT, U32, U64, BufferReader, Extent, Malformed, array_of, shape_of
from etalumis.ppx.columns import trace_columns
from etalumis.ppx.messages import (
    BODIES,
    PARAMETERS,
    Handshake,
    HandshakeResult,
    Message,
    Observe,
    ObserveResult,
    Reset,
    Run,
    RunResult,
    Sample,
    SampleResult,
    Tag,
    TagResult,
)
from etalumis.ppx.reply_cache import ReplyCache
from etalumis.typing import FloatArray

_LOCATIONS = {1: (0,), 9: (0,), 13: (1,)}
"""Parameters of any sign, by distribution: Normal.mean, LogNormal.loc and StudentT.loc."""

_MAX_ELEMENTS = 1 << 27
"""Elements of the largest observation: 1 GiB of doubles, the limit of a message, which broadcasting could exceed."""
_MAX_CACHED = 65_536
"""Entries of a cache before it is emptied, for peers whose parameters never repeat."""
_MAX_CACHED_MESSAGES = 8_192
_MAX_CACHED_BYTES = 4_096
_MAX_CACHED_REPETITIONS = 32
"""Only the first repetitions of a rejection loop are cached: the messages of later ones rarely come again."""
_MAX_DRAWN = 1 << 16
"""Elements of the largest draw: each is an entry of the trace."""
_MAX_CACHED_ELEMENTS = 64
"""Elements of the largest draw whose distribution is cached."""
_DescribedDistribution = tuple[Distribution | ArrayDistribution, tuple[int, ...]]


class Decoder:
    """Decodes the messages of one connection.

    Addresses and parameters are cached, because a simulator repeats them in every run: a known statement needs no new
    string or object, and a message of known bytes needs one dictionary look-up. Do not share a decoder between threads.

    Attributes
    ----------
    refused_shape
        Shape of the value of the last sample statement that was refused.
    """

    def __init__(self) -> None:
        self.refused_shape: tuple[int, ...] = ()
        self._reader = BufferReader()
        self._reply_cache = ReplyCache()
        self._whole: dict[bytes, Sample] = {}
        self._texts: dict[bytes, str] = {}
        self._distributions: dict[tuple[int, bytes, bytes], _DescribedDistribution] = {}
        self._bodies: dict[int, Callable[[bytes, int], Message]] = {
            1: self._handshake,
            2: self._handshake_result,
            3: lambda data, table: Run(),
            4: self._run_result,
            5: self._sample,
            6: self._sample_result,
            7: self._observe,
            8: lambda data, table: ObserveResult(),
            9: self._tag,
            10: lambda data, table: TagResult(),
            11: lambda data, table: Reset(self._reader.text(data, table, self._reader.fields(data, table)[0])),
        }

    def decode(self, data: bytes) -> Message:
        """Return the message in `data`, with or without the file identifier ``PPXF``.

        Raises
        ------
        ProtocolError
            If `data` is not a message of the schema.
        RefusedError
            If it is a statement with parameters for which the distribution does not exist, or whose shapes do not
            agree.
        """
        if (traces := self._reply_cache.read(data)) is not None:
            return RunResult(None, traces)
        if len(data) <= _MAX_CACHED_BYTES and (known := self._whole.get(data)) is not None:
            return known
        try:
            root = U32(data, 0)[0]
            kind_field, body_field = self._reader.fields(data, root)[:2]
            kind = data[root + kind_field] if kind_field else 0
            if kind not in self._bodies or not body_field:
                raise Malformed(f"body type {kind}; expected 1 to {len(BODIES)} with a body")
            field = root + body_field
            message = self._bodies[kind](data, field + U32(data, field)[0])
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise ProtocolError(
                f"malformed PPX message of {len(data)} bytes (it starts with {data[:16].hex(' ')}): {error}. "
                "Is the peer a PPX simulator, and of schema version 0.1 or 1.0?"
            ) from error
        if (
            isinstance(message, Sample)
            and len(data) <= _MAX_CACHED_BYTES
            and message.repetition < _MAX_CACHED_REPETITIONS
        ):
            if len(self._whole) >= _MAX_CACHED_MESSAGES:
                self._whole.clear()
            self._whole[data] = message
        return message

    def _handshake(self, data: bytes, table: int) -> Handshake:
        fields = self._reader.fields(data, table)
        system_name, delegation, distributions = fields[:3]
        return Handshake(
            self._reader.text(data, table, system_name),
            _u32(data, table, delegation),
            _u32(data, table, distributions),
        )

    def _handshake_result(self, data: bytes, table: int) -> HandshakeResult:
        fields = self._reader.fields(data, table)
        system_name, model_name, delegation, session, chains, proposals = fields[:6]
        return HandshakeResult(
            self._reader.text(data, table, system_name),
            self._reader.text(data, table, model_name),
            _u32(data, table, delegation),
            U64(data, table + session)[0] if session else 0,
            _u32(data, table, chains),
            _u32(data, table, proposals),
        )

    def _run_result(self, data: bytes, table: int) -> RunResult:
        traces = self._reader.fields(data, table)[1]
        if not traces:
            return RunResult(_none_if_empty(self._tensor(data, table, 0)))
        members = table + traces
        columns = trace_columns(self._reader, data, members + U32(data, members)[0])
        self._reply_cache.add(columns)
        return RunResult(None, columns)

    def _sample_result(self, data: bytes, table: int) -> SampleResult:
        hand_over = self._reader.fields(data, table)[1]
        return SampleResult(_none_if_empty(self._tensor(data, table, 0)), data[table + hand_over] if hand_over else 0)

    def _sample(self, data: bytes, table: int) -> Sample:
        fields = self._reader.fields(data, table)[:9]
        address, name, kind, parameters, control, replace, scope, repetition, instance = fields
        if not address:
            raise Malformed("a Sample without address")
        stack = self._text(data, table + address)
        distribution, shape = self._scalar(data, table, kind, parameters, stack)
        return Sample(
            stack,
            distribution,
            self._text(data, table + name) if name else "",
            data[table + control] != 0 if control else True,
            data[table + replace] != 0 if replace else False,
            U32(data, table + scope)[0] if scope else 0,
            U32(data, table + repetition)[0] if repetition else 0,
            shape,
            U32(data, table + instance)[0] if instance else 0,
        )

    def _observe(self, data: bytes, table: int) -> Observe:
        address, name, kind, parameters, value = self._reader.fields(data, table)[:5]
        stack = self._text(data, table + address) if address else ""
        code, extents = self._parameters(data, table, kind, parameters, stack)
        arrays = tuple(array_of(data, extent) for extent in extents)
        try:
            _check_domain(code, arrays)
            distribution = ArrayDistribution(code, arrays)
            given = _none_if_empty(array_of(data, self._reader.tensor(data, table + value))) if value else None
            fitted = _reshaped(given, distribution.shape)
        except ValueError as error:
            raise RefusedError(f"the observe statement at {stack}: {error}") from error
        return Observe(
            stack,
            distribution,
            self._text(data, table + name) if name else "",
            fitted,
        )

    def _tag(self, data: bytes, table: int) -> Tag:
        address, name = self._reader.fields(data, table)[:2]
        return Tag(
            self._text(data, table + address) if address else "",
            self._text(data, table + name) if name else "",
            self._tensor(data, table, 2),
        )

    def _tensor(self, data: bytes, table: int, field: int) -> FloatArray:
        position = self._reader.fields(data, table)[field]
        return array_of(data, self._reader.tensor(data, table + position)) if position else np.empty(0)

    def _text(self, data: bytes, field: int) -> str:
        encoded = self._reader.string(data, field)
        text = self._texts.get(encoded)
        if text is None:
            if len(self._texts) >= _MAX_CACHED:
                self._texts.clear()
            text = self._texts[encoded] = encoded.decode()
        return text

    def _parameters(self, data: bytes, table: int, kind: int, field: int, stack: str) -> tuple[int, list[Extent]]:
        """Return the number of the distribution and the locations of its parameters."""
        code = data[table + kind] if kind else 0
        if code not in PARAMETERS or not field:
            raise Malformed(f"distribution type {code} at {stack}; expected 1 to {len(PARAMETERS)}")
        members = table + field
        members += U32(data, members)[0]
        slots = self._reader.fields(data, members)[: PARAMETERS[code]]
        extents = [self._reader.tensor(data, members + slot) if slot else ABSENT for slot in slots]
        if any(extent[1] == 0 for extent in extents):
            raise Malformed(f"a {BY_CODE[code].__name__} with a missing or empty parameter at {stack}")
        return code, extents

    def _scalar(self, data: bytes, table: int, kind: int, field: int, stack: str) -> _DescribedDistribution:
        code, extents = self._parameters(data, table, kind, field, stack)
        values = shapes = b""
        for start, count, shape_start, rank in extents:
            values += data[start : start + 8 * count]
            # The rank comes first, so that (2,), (3,) differs from (2, 3), ().
            shapes += bytes((rank + 1,)) + data[shape_start : shape_start + 4 * rank] if rank >= 0 else b"\0"
        key = (code, values, shapes)
        found = self._distributions.get(key)
        if found is None:
            if len(self._distributions) >= _MAX_CACHED:
                self._distributions.clear()
            found = self._described(data, code, extents, stack)
            if math.prod(found[1]) <= _MAX_CACHED_ELEMENTS:
                self._distributions[key] = found
        return found

    def _described(self, data: bytes, code: int, extents: list[Extent], stack: str) -> _DescribedDistribution:
        """Return the distribution and the shape that the simulator expects its value to have."""
        shapes = [shape_of(data, extent) for extent in extents]
        # The last axis of a categorical's parameters holds the categories; the others are the shape of the draw.
        draws = [shape[:-1] for shape in shapes] if code == Categorical.code else shapes
        shape = self.refused_shape = max(draws, key=lambda draw: (math.prod(draw), len(draw)))
        arrays = [array_of(data, extent) for extent in extents]
        try:
            if any(size != 1 for draw in draws for size in draw):
                return _array_distribution(code, arrays, shapes)
            return from_code(code, tuple(float(x) for array in arrays for x in array.ravel())), shape
        except (ValueError, OverflowError) as error:
            raise RefusedError(f"the sample statement at {stack}: {error}") from error


def _array_distribution(code: int, arrays: list[FloatArray], shapes: list[tuple[int, ...]]) -> _DescribedDistribution:
    array = ArrayDistribution(code, tuple(arrays))
    size = math.prod(array.shape)
    if not 0 < size <= _MAX_DRAWN:
        raise ValueError(f"{array.kind} with parameters of shapes {shapes}: expected from 1 to {_MAX_DRAWN} elements")
    for _ in array.elements():  # refuses parameters that are out of range
        pass
    return array, array.shape


def _u32(data: bytes, table: int, field: int) -> int:
    return int(U32(data, table + field)[0]) if field else 0


def _none_if_empty(array: FloatArray) -> FloatArray | None:
    """Return None for an empty tensor, which means that there is no value."""
    return array if array.size else None


def _reshaped(value: FloatArray | None, shape: tuple[int, ...]) -> FloatArray | None:
    """Return an observed value in the shape of its distribution; peers do not distinguish () and (1,)."""
    size = math.prod(shape)
    if size > _MAX_ELEMENTS:
        raise ValueError(f"parameters that broadcast to the shape {shape}; expected at most {_MAX_ELEMENTS} elements")
    if value is None or value.shape == shape:
        return value
    if value.size == size == 1:
        return value.reshape(shape)
    raise ValueError(f"a value of shape {value.shape} for a distribution of shape {shape}")


def _check_domain(code: int, arrays: tuple[FloatArray, ...]) -> None:
    """Refuse parameters for which no density exists; NaN is accepted and leads to a likelihood of NaN."""
    for position, array in enumerate(arrays):
        if position in _LOCATIONS.get(code, ()) or code == 2:
            continue
        low = float(array.min())
        if low < 0 or (code == Normal.code and low == 0):
            raise ValueError(f"{BY_CODE[code].__name__}: parameter {position + 1} has the value {low}; expected > 0")
