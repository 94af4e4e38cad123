# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import math
import shutil
import struct
import subprocess
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalumis.distributions import BY_CODE, ArrayDistribution, Categorical, Normal, Uniform, from_code
from etalumis.errors import ProtocolError, RefusedError
from etalumis.ppx import messages as m
from etalumis.ppx.decode import PARAMETERS, Decoder
from etalumis.ppx.encode import FIELDS, encode, sample_result
from etalumis.ppx.generated import ppx_generated as fb

ROOT = Path(__file__).parents[2]
PARAMETER_VALUES = {
    1: (0.5, 2.0), 2: (-1.0, 3.0), 3: (0.25, 0.75), 4: (4.0,), 5: (0.25,), 6: (2.0, 3.0), 7: (2.0,), 8: (2.0, 3.0),
    9: (0.5, 0.25), 10: (10.0, 0.25), 11: (2.0, 3.0),
    12: (2.5, 0.6), 13: (3.0, -1.0, 2.0),
}  # fmt: skip
SCALARS = [from_code(code, values) for code, values in PARAMETER_VALUES.items()]
GRID = np.arange(24.0).reshape(2, 3, 4)

MESSAGES = [
    m.Handshake("etalumis"),
    m.Handshake("etalumis", 1, 13),
    m.HandshakeResult("peer", "τ decays"),
    m.Run(),
    m.RunResult(None),
    m.RunResult(np.array(3.5)),
    *(m.Sample("[forward()+0x7c; f(double)+0x314]", d, "mu", False, True, 3, 17) for d in SCALARS),
    *(m.Sample("[g()+0x1]", d, shape=(1,)) for d in SCALARS),
    m.Sample("[g()+0x1]", ArrayDistribution(1, (GRID[0], np.array([2.0]))), "theta", shape=(3, 4)),
    m.Sample("[g()+0x1]", ArrayDistribution(3, (np.full((2, 3), 1 / 3),)), shape=(2,)),
    m.SampleResult(np.array([0.25])),
    m.Observe("[h()+0x2]", ArrayDistribution(1, (GRID, np.array(0.1))), "calorimeter", GRID + 1),
    m.Observe("[h()+0x2]", ArrayDistribution(4, (np.array([6.0]),)), "obs"),
    m.ObserveResult(),
    m.Tag("[h()+0x3]", "final_state", GRID[0]),
    m.Tag("[h()+0x3]", "empty", np.empty((0, 5))),
    m.TagResult(),
    m.Reset(),
    m.Reset("why"),
]
ENCODED = [encode(message) for message in MESSAGES]


def same(one, other):
    """Return whether two messages, whose fields may be arrays, are equal."""
    if isinstance(one, ArrayDistribution):
        return one.code == other.code and same(one.arrays, other.arrays)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.shape == other.shape and np.array_equal(one, other)
    if isinstance(one, tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_decode_inverts_encode(message):
    decoder = Decoder()
    for _ in range(2):  # the second time from the caches
        assert same(decoder.decode(encode(message)), message)


def test_every_body_is_covered():
    assert {type(message) for message in MESSAGES} == set(m.BODIES)


def test_numbers_and_fields_are_those_of_the_schema():
    unions = {fb.MessageBody: [body.__name__ for body in m.BODIES], fb.Distribution: [d.kind for d in SCALARS]}
    for union, names in unions.items():
        assert [name for name in vars(union) if not name.startswith("_")] == ["NONE", *names]
        assert [getattr(union, name) for name in names] == list(range(1, len(names) + 1))
    assert {code: len(fields) for code, fields in FIELDS.items()} == PARAMETERS
    assert set(PARAMETERS) == set(BY_CODE)


def test_generated_code_reads_what_is_encoded():
    message = fb.Message.GetRootAs(encode(m.Sample("[f]", Normal(0.5, 2.0), "mu", False, True, 3, 17)), 0)
    assert message.BodyType() == fb.MessageBody.Sample
    sample = fb.Sample()
    sample.Init(message.Body().Bytes, message.Body().Pos)
    assert (sample.Address(), sample.Name()) == (b"[f]", b"mu")
    assert (sample.Control(), sample.Replace(), sample.Scope(), sample.Repetition()) == (False, True, 3, 17)
    assert sample.DistributionType() == fb.Distribution.Normal
    normal = fb.Normal()
    normal.Init(sample.Distribution().Bytes, sample.Distribution().Pos)
    assert (normal.Mean().Data(0), normal.Stddev().Data(0)) == (0.5, 2.0)
    assert normal.Mean().ShapeLength() == 0


def generated_tensor(builder, values, shape):
    """A tensor by flatc's code; `shape` None omits the field."""
    data = builder.CreateNumpyVector(np.asarray(values, dtype=float))
    dimensions = None if shape is None else builder.CreateNumpyVector(np.asarray(shape, dtype=np.int32))
    fb.TensorStart(builder)
    fb.TensorAddData(builder, data)
    if dimensions is not None:
        fb.TensorAddShape(builder, dimensions)
    return fb.TensorEnd(builder)


def generated_sample(low, high, shape, identifier=None, tensors=2):
    """A Sample of a PPX 1.0 peer: only address and distribution."""
    builder = flatbuffers.Builder(0)
    address = builder.CreateString("[f()+0x1]")
    parameters = [generated_tensor(builder, values, shape) for values in (low, high)[:tensors]]
    fb.UniformStart(builder)
    for add, parameter in zip((fb.UniformAddLow, fb.UniformAddHigh), parameters, strict=False):
        add(builder, parameter)
    uniform = fb.UniformEnd(builder)
    fb.SampleStart(builder)
    fb.SampleAddDistribution(builder, uniform)
    fb.SampleAddDistributionType(builder, fb.Distribution.Uniform)
    fb.SampleAddAddress(builder, address)
    sample = fb.SampleEnd(builder)
    fb.MessageStart(builder)
    fb.MessageAddBody(builder, sample)
    fb.MessageAddBodyType(builder, fb.MessageBody.Sample)
    builder.Finish(fb.MessageEnd(builder), identifier)
    return bytes(builder.Output())


@pytest.mark.parametrize("identifier", [None, b"PPXF"])
@pytest.mark.parametrize("shape", [None, (), (1,), (1, 1)])
def test_ppx_1_0_samples_have_the_defaults(identifier, shape):
    sample = Decoder().decode(generated_sample([0.0], [2.0], shape, identifier))
    assert sample == m.Sample("[f()+0x1]", Uniform(0.0, 2.0), "", True, False, 0, 0, shape or ())


@given(st.floats(), st.sampled_from([(), (1,), (1, 1)]))
def test_sample_result_is_the_generated_message(value, shape):
    assert sample_result(value, shape) == encode(m.SampleResult(np.full(shape, value)))


def test_sample_result_refuses_shapes_of_several_data():
    with pytest.raises(ProtocolError, match="expected one datum"):
        sample_result(1.0, (2,))


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 9), st.booleans(), st.integers(0, 2**32 - 1)), max_size=8))
def test_caches_do_not_affect_results(draws):
    shared = Decoder()
    for low, width, control, repetition in draws * 2:
        message = m.Sample(f"[f+{repetition % 3}]", Uniform(low, low + width), "", control, False, 1, repetition)
        assert shared.decode(encode(message)) == message


def test_the_rank_of_parameters_is_part_of_the_cached_key():
    decoder = Decoder()
    for shape in ((), (1,), (1, 1), ()):
        assert decoder.decode(encode(m.Sample("[f]", Uniform(0.0, 1.0), shape=shape))).shape == shape
        categorical = m.Sample("[f]", Categorical((0.25, 0.75)), shape=shape)
        assert decoder.decode(encode(categorical)) == categorical


def decodes_or_refuses(data):
    try:
        message = Decoder().decode(data)
    except (ProtocolError, RefusedError):
        return None
    assert isinstance(message, m.BODIES)
    return message


def test_every_truncation_is_refused():
    for message, data in zip(MESSAGES, ENCODED, strict=True):
        for length in range(len(data)):
            decoded = decodes_or_refuses(data[:length])
            # Behind the last table or string there is padding, which carries nothing.
            assert decoded is None or (same(decoded, message) and len(data) - length <= 8)


def test_every_bit_flip_gives_a_message_or_a_protocol_error():
    for data in ENCODED:
        if len(data) > 400:
            continue
        for position in range(len(data)):
            for bit in range(8):
                flipped = bytearray(data)
                flipped[position] ^= 1 << bit
                decodes_or_refuses(bytes(flipped))


@given(st.sampled_from(ENCODED), st.data())
def test_altered_words_give_a_message_or_a_protocol_error(data, source):
    altered = bytearray(data)
    for _ in range(source.draw(st.integers(1, 4))):
        position = source.draw(st.integers(0, len(data) // 4 - 1)) * 4
        word = source.draw(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2**31, 2**32 - 1])))
        struct.pack_into("<I", altered, position, word)
    decodes_or_refuses(bytes(altered))


@given(st.binary(max_size=300))
def test_random_bytes_give_a_message_or_a_protocol_error(data):
    decodes_or_refuses(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "0 bytes"),
        (b"hello, I speak HTTP", "starts with 68 65 6c 6c 6f"),
        (generated_sample([0.0], [1.0], (2,)), r"1 data for the shape \(2,\)"),
        (generated_sample([0.0], [1.0], (-1, -1)), "negative dimension"),
        (generated_sample([], [], (0, 2**31 - 1, 2**31 - 1)), "missing or empty parameter"),
        (generated_sample([0.0], [1.0], (1,) * 33), "33 dimensions"),
        (generated_sample([0.0], [1.0], (), tensors=1), "missing or empty parameter"),
        (generated_sample([0.0], [math.nan], ()), "expected low < high"),
        (generated_sample([3.0], [1.0], ()), "expected low < high"),
        (generated_sample([0.0, 1.0], [1.0, 0.5], (2,)), r"Uniform\(1.0, 0.5\): expected low < high"),
        (generated_sample([0.0] * 70_000, [1.0] * 70_000, (70_000,)), "expected from 1 to 65536 elements"),
    ],
)
def test_bad_messages_say_what_is_wrong(data, what):
    with pytest.raises((ProtocolError, RefusedError), match=what):
        Decoder().decode(data)


def test_unknown_bodies_and_distributions_are_named():
    for altered, what in ((fb.MessageBody.Sample, "body type 14"), (fb.Distribution.Uniform, "distribution type 14")):
        data = generated_sample([0.0], [1.0], ())
        candidates = (data[:i] + b"\x0e" + data[i + 1 :] for i in range(len(data)) if data[i] == altered)
        assert any(what in refusal(candidate) for candidate in candidates)


def refusal(data):
    try:
        Decoder().decode(data)
    except (ProtocolError, RefusedError) as error:
        return str(error)
    return ""


def test_observe_parameters_outside_their_domain_are_refused():
    message = m.Observe("[h()+0x2]", ArrayDistribution(1, (GRID, np.array(0.0))), "calorimeter")
    with pytest.raises(RefusedError, match=r"\[h\(\)\+0x2\].*parameter 2 has the value 0"):
        Decoder().decode(encode(message))


def test_arrays_outlive_the_message():
    observe = Decoder().decode(encode(m.Observe("[h]", ArrayDistribution(1, (GRID, np.array(1.0))), "x")))
    mean = observe.distribution.arrays[0]
    assert mean.flags.owndata or mean.base.flags.owndata
    assert mean.flags.aligned
    assert mean.flags.writeable


@pytest.mark.skipif(shutil.which("flatc") is None, reason="flatc is not installed")
def test_generated_code_is_what_flatc_writes(tmp_path):
    found = subprocess.run(["flatc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if found != "flatc version 2.0.8":
        pytest.skip(f"the committed code is flatc 2.0.8's, here is {found}")
    schema = ROOT / "resources/ppx/ppx.fbs"
    subprocess.run(["flatc", "--python", "--gen-onefile", "-o", tmp_path, schema], check=True)
    licence = "# SPDX-FileCopyrightText: 2026 The etalumis authors\n# SPDX-License-Identifier: BSD-3-Clause\n"
    committed = ROOT / "src/etalumis/ppx/generated/ppx_generated.py"
    assert committed.read_text() == licence + (tmp_path / "ppx_generated.py").read_text(), (
        "the schema has changed: run flatc --python --gen-onefile and put the two licence lines in front"
    )
