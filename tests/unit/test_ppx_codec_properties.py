# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Properties of the codec: agreement with flatc's code in both directions, and robustness to hostile bytes."""

import contextlib
import struct

import flatbuffers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.test_ppx_codec import ENCODED, decodes_or_refuses, generated_tensor, same

from etalumis.distributions import ArrayDistribution, Categorical, Normal, Uniform, from_code
from etalumis.errors import ProtocolError, RefusedError
from etalumis.ppx import buffer
from etalumis.ppx import messages as m
from etalumis.ppx.decode import Decoder
from etalumis.ppx.encode import FIELDS, encode, sample_result
from etalumis.ppx.generated import ppx_generated as fb

POSITIVE = st.floats(1e-300, 1e300)
SHARE = st.floats(0, 1)
LAWS = st.one_of(
    st.builds(Normal, st.floats(-1e300, 1e300), POSITIVE),
    st.lists(SHARE, min_size=1, max_size=40).filter(any).map(lambda probs: Categorical(tuple(probs))),
    st.tuples(st.sampled_from([6, 8, 11]), POSITIVE, POSITIVE).map(lambda law: from_code(law[0], law[1:])),
    st.floats(0, 2.0**53).map(lambda rate: from_code(4, (rate,))),
    POSITIVE.map(lambda rate: from_code(7, (rate,))),
    SHARE.map(lambda p: from_code(5, (p,))),
    st.tuples(st.integers(0, 2**53).map(float), SHARE).map(lambda parameters: from_code(10, parameters)),
    st.tuples(st.floats(-1e300, 0), POSITIVE).map(lambda ends: Uniform(*ends)),
)
U32S = st.integers(0, 2**32 - 1)
SAMPLES = st.builds(
    m.Sample, st.text(max_size=80), LAWS, st.text(max_size=20), st.booleans(), st.booleans(), U32S, U32S,
    shape=st.sampled_from([(), (1,), (1, 1)]), instance=U32S,
)  # fmt: skip


@given(SAMPLES)
def test_samples_agree_with_generated_code_in_both_directions(message):
    """Check both directions against flatc's object code."""
    ours = encode(message)
    found = read_sample(ours)
    assert (found.Address().decode(), found.Name().decode()) == (message.address, message.name)
    marks = (found.Control(), found.Replace(), found.Scope(), found.Repetition(), found.Instance())
    assert marks == (message.control, message.replace, message.scope, message.repetition, message.instance)
    law = getattr(fb, message.distribution.kind)()
    assert found.DistributionType() == message.distribution.code
    law.Init(found.Distribution().Bytes, found.Distribution().Pos)
    tensors = [getattr(law, field)() for field in FIELDS[message.distribution.code]]
    values = [tensor.Data(i) for tensor in tensors for i in range(tensor.DataLength())]
    assert tuple(values) == message.distribution.parameters
    # and the way back: another writer, which leaves out defaults and orders fields by itself
    again = Decoder().decode(repacked(found, message.distribution.kind, tensors))
    # a categorical is normalised when it is made, also of shares that sum to 1 but for rounding
    expected = from_code(message.distribution.code, message.distribution.parameters)
    assert again == message._replace(distribution=expected)


def read_sample(data):
    message = fb.Message.GetRootAs(data, 0)
    sample = fb.Sample()
    sample.Init(message.Body().Bytes, message.Body().Pos)
    return sample


def repacked(sample, kind, tensors):
    builder = flatbuffers.Builder(0)
    name, address = builder.CreateString(sample.Name()), builder.CreateString(sample.Address())
    parameters = []
    for tensor in tensors:
        data = [tensor.Data(i) for i in range(tensor.DataLength())]
        parameters.append(generated_tensor(builder, data, [tensor.Shape(i) for i in range(tensor.ShapeLength())]))
    getattr(fb, f"{kind}Start")(builder)
    for field, parameter in zip(reversed(FIELDS[getattr(fb.Distribution, kind)]), reversed(parameters), strict=True):
        getattr(fb, f"{kind}Add{field}")(builder, parameter)
    law = getattr(fb, f"{kind}End")(builder)
    fb.SampleStart(builder)
    fb.SampleAddInstance(builder, sample.Instance())
    fb.SampleAddRepetition(builder, sample.Repetition())
    fb.SampleAddScope(builder, sample.Scope())
    fb.SampleAddReplace(builder, sample.Replace())
    fb.SampleAddControl(builder, sample.Control())
    fb.SampleAddDistribution(builder, law)
    fb.SampleAddDistributionType(builder, sample.DistributionType())
    fb.SampleAddName(builder, name)
    fb.SampleAddAddress(builder, address)
    body = fb.SampleEnd(builder)
    fb.MessageStart(builder)
    fb.MessageAddBody(builder, body)
    fb.MessageAddBodyType(builder, fb.MessageBody.Sample)
    builder.Finish(fb.MessageEnd(builder))
    return bytes(builder.Output())


@given(st.floats(allow_nan=False), st.sampled_from([(), (1,), (1, 1)]))
def test_answers_agree_with_generated_code_in_both_directions(value, shape):
    data = sample_result(value, shape)
    message = fb.Message.GetRootAs(data, 0)
    result = fb.SampleResult()
    result.Init(message.Body().Bytes, message.Body().Pos)
    tensor = result.Result()
    assert (message.BodyType(), tensor.DataLength(), tensor.Data(0)) == (fb.MessageBody.SampleResult, 1, value)
    assert [tensor.Shape(i) for i in range(tensor.ShapeLength())] == list(shape)
    builder = flatbuffers.Builder(0)
    held = generated_tensor(builder, [value], shape)
    fb.SampleResultStart(builder)
    fb.SampleResultAddResult(builder, held)
    body = fb.SampleResultEnd(builder)
    fb.MessageStart(builder)
    fb.MessageAddBodyType(builder, fb.MessageBody.SampleResult)
    fb.MessageAddBody(builder, body)
    builder.Finish(fb.MessageEnd(builder), b"PPXF")
    assert same(Decoder().decode(bytes(builder.Output())), m.SampleResult(np.full(shape, value)))


@given(st.sampled_from(ENCODED), st.sampled_from(ENCODED), st.data())
def test_spliced_messages_give_a_message_or_a_protocol_error(one, other, source):
    """The beginning of one message and the end of another; a part omitted, repeated or from another place."""
    begin = source.draw(st.integers(0, len(one)))
    end = source.draw(st.integers(0, len(other)))
    decodes_or_refuses(one[:begin] + other[end:])
    decodes_or_refuses(one[:begin] + other[end : end + 64] + one[begin:])


class CountingReader(buffer.BufferReader):
    """Counts the tables and tensors that are read for a message."""

    def __init__(self):
        super().__init__()
        self.followed = 0

    def fields(self, data, table):
        self.followed += 1
        return super().fields(data, table)


@given(st.sampled_from(ENCODED), st.data())
def test_no_message_leads_to_endless_decoding(data, source):
    """Every offset leads to a table of the schema, whose depth bounds the work."""
    altered = bytearray(data)
    for _ in range(source.draw(st.integers(1, 6))):
        position = source.draw(st.integers(0, len(data) // 4 - 1)) * 4
        target = source.draw(st.integers(0, len(data)))
        struct.pack_into("<i", altered, position, target - position)  # back, forth and to itself
    decoder = Decoder()
    decoder._reader = reader = CountingReader()
    with contextlib.suppress(ProtocolError, RefusedError):
        decoder.decode(bytes(altered))
    assert reader.followed <= 16


def test_parameters_that_overflow_in_their_sum_are_refused():
    for probs in ([1.7e308, 1.7e308], [-1.7e308, -1.7e308]):
        builder_bytes = encode(m.Observe("[f]", ArrayDistribution(3, (np.array(probs),))))
        with pytest.raises(RefusedError, match=r"sample statement at \[f\]"):
            Decoder().decode(as_sample(builder_bytes))


def as_sample(observe):
    """The same message as a Sample: both tables have their first four fields in common."""
    numbers = [i for i, byte in enumerate(observe) if byte == fb.MessageBody.Observe]
    for i in numbers:
        changed = observe[:i] + bytes((fb.MessageBody.Sample,)) + observe[i + 1 :]
        if fb.Message.GetRootAs(changed, 0).BodyType() == fb.MessageBody.Sample:
            return changed
    raise AssertionError(numbers)


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros((2, 2)), np.zeros(1)])
def test_a_given_value_has_the_shape_of_its_distribution_or_is_refused(value):
    law = ArrayDistribution(1, (np.zeros(()), np.ones(())))
    if value.size == 1:  # peers do not distinguish (1,) and ()
        observe = Decoder().decode(encode(m.Observe("[f]", law, "x", value)))
        assert observe.value.shape == ()
        return
    with pytest.raises(RefusedError, match=r"\[f\]: a value of shape .* for a distribution of shape \(\)"):
        Decoder().decode(encode(m.Observe("[f]", law, "x", value)))


def test_broadcasting_cannot_make_an_observation_larger_than_any_message():
    tall, wide = np.zeros((20_000, 1)), np.ones((1, 20_000))
    with pytest.raises(RefusedError, match=r"broadcast to the shape \(20000, 20000\)"):
        Decoder().decode(encode(m.Observe("[f]", ArrayDistribution(1, (tall, wide)), "x")))
    with pytest.raises(RefusedError, match=r"\[f\]"):
        Decoder().decode(encode(incompatible(m.Observe("[f]", ArrayDistribution(4, (np.ones(5),)), "x"))))


def incompatible(observe):
    """Write an observe statement with parameters that do not broadcast, which ArrayDistribution refuses."""
    law = ArrayDistribution(1, (np.zeros(()), np.ones(())))
    object.__setattr__(law, "arrays", (np.zeros(3), np.ones(2)))
    return observe._replace(distribution=law)
