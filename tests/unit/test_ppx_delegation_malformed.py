# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Invalid messages with traces raise ProtocolError, and do not fill the memory."""

import struct
import tracemalloc

import flatbuffers
import numpy as np
import pytest
from delegation_bytes import SMALL, generated_traces, run_result, trace
from hypothesis import given
from hypothesis import strategies as st

from etalumis.address import AddressTable
from etalumis.delegation import RunPlan
from etalumis.errors import ProtocolError
from etalumis.ppx import Simulator
from etalumis.ppx.decode import Decoder
from etalumis.ppx.delegated import DelegatedBatch
from etalumis.ppx.generated import ppx_generated as fb
from etalumis.ppx.messages import RunResult
from etalumis.ppx.vocabulary import Vocabulary

GIB = 1 << 30
OF_TRACES = (
    "value", "address", "distribution", "name", "flags", "accepted", "controlled", "type", "lost", "mismatch", "seed",
    "draws", "log_prior", "log_ratio", "log_likelihood", "result", "observes", "tags",
)  # fmt: skip
OF_DETAILED_TRACES = ("log_prob", "scope", "repetition", "rows")


WRONG = {
    "entries of no trace": {"Entries": SMALL["Entries"] * 2},
    "details of other entries": {"Details": SMALL["Details"][:1]},
    "address without key": {"Entries": [(0.5, 2, 0), (0.5, 0, 0)]},
    "kept prior that is not there": {"Entries": [(0.5, 0, 1), (0.5, 0, 0)]},
    "own prior that is not there": {"Entries": [(0.5, 0, 2**31 + 1), (0.5, 0, 0)]},
    "more kept than there are": {"distributions": 3},
    "prior past its parameters": {"Priors": [(1, 2, 4), (3, 3, 2)]},
    "prior beyond its parameters": {"Priors": [(1, 2, 2**64 - 1), (3, 3, 2)]},
    "prior of no kind": {"Priors": [(12, 2, 0), (3, 3, 2)]},
    "prior of too many parameters": {"Priors": [(1, 3, 0), (3, 3, 2)]},
    "prior outside its domain": {"Parameters": [0.0, -2.0, 0.25, 0.25, 0.5]},
    "prior that is not a number": {"Parameters": [0.0, float("nan"), 0.25, 0.25, 0.5]},
    "base without text": {"Addresses": [(4, 1, 1, 1), (0, 2, 1, 3)]},
    "name without text": {"Addresses": [(0, 1, 9, 1), (0, 2, 1, 3)]},
    "address twice": {"Addresses": [(0, 1, 1, 1), (0, 1, 1, 1)]},
    "tag without text": {"Tags": [(4, 0)]},
    "tag without array": {"Tags": [(1, 5)]},
    "observation of no kind": {"Observes": [(0.0, 3, 2, 0, 0, 0, 0)]},
    "observation without text": {"Observes": [(0.0, 3, 4, 1, 0, 0, 0)]},
    "observation without its arrays": {"Observes": [(0.0, 3, 2, 1, 6, 3, 0)]},
    "observation whose parameters do not broadcast": {
        "Observes": [(0.0, 3, 2, 1, 4, 0, 0)],
        "Arrays": [(0, 0, 2, 0, 1, 0), (0, 0, 3, 1, 1, 0), *SMALL["Arrays"][2:]],
    },
    "result without array": {"Traces": [trace(5, 2, 1, 1, 5), trace()]},
    "result before all arrays": {"Traces": [trace(5, 2, 1, 1, -2), trace()]},
    "array past its numbers": {"Arrays": [(4, 0, 2, 0, 1, 0), *SMALL["Arrays"][1:]]},
    "array beyond its numbers": {"Arrays": [(2**64 - 2, 0, 2, 0, 1, 0), *SMALL["Arrays"][1:]]},
    "array past its shape": {"Arrays": [(0, 0, 2, 3, 1, 0), *SMALL["Arrays"][1:]]},
    "array of another shape": {"Arrays": [(0, 0, 3, 0, 1, 0), *SMALL["Arrays"][1:]]},
    "sparse array past its positions": {"Arrays": [*SMALL["Arrays"][:4], (0, 2, 2, 1, 2, 1)]},
    "sparse array with an element outside": {"Index": [9, 3, 12]},
    "sparse array that fills the memory": {"Shape": [2, 2**16, 2**16]},
    "array of a negative extent": {"Shape": [-2, -3, -4]},
    "empty array of more elements than there are numbers": {
        "Shape": [2, 0, *[2**31 - 1] * 4], "Arrays": [*SMALL["Arrays"][:4], (3, 0, 0, 1, 5, 0)],
    },
    "empty sparse array of more elements than there are numbers": {
        "Shape": [2, 0, *[2**31 - 1] * 4], "Arrays": [*SMALL["Arrays"][:4], (3, 0, 0, 1, 5, 1)],
    },
}  # fmt: skip


def touch(data):
    """Read everything in a message; raise ProtocolError if it is invalid, and no other error."""
    message = Decoder().decode(data)
    if not isinstance(message, RunResult) or message.traces is None:
        return message
    found = DelegatedBatch(message.traces, Vocabulary(AddressTable()), RunPlan(observed={}, rejected=True))
    for one in found.traces():
        for name in OF_TRACES + (OF_DETAILED_TRACES if len(message.traces.details) else ()):
            getattr(one, name)
        one.misfits()
    return found


@pytest.mark.parametrize("what", WRONG)
def test_records_that_do_not_fit_together_are_refused(what):
    touch(generated_traces(**SMALL))
    with pytest.raises(ProtocolError):
        touch(generated_traces(**{**SMALL, **WRONG[what]}))


def peak_of(data):
    tracemalloc.start()
    try:
        touch(data)
    except ProtocolError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def same_text_often(count, length):
    """A vector of texts whose offsets all refer to one string."""
    builder = flatbuffers.Builder(256)
    text = builder.CreateString("x" * length)
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(text)
    texts = builder.EndVector()
    fb.TracesStart(builder)
    fb.TracesAddTexts(builder, texts)
    return run_result(builder, fb.TracesEnd(builder))


BOMBS = {
    # each a message of about 1 MB with overlapping parts
    "priors": lambda: generated_traces(
        Priors=[(3, 20_000, 0)] * 10_000, Parameters=np.ones(20_000), Traces=[trace()]
    ),
    "texts": lambda: same_text_often(20_000, 500_000),
    "sparse tags": lambda: generated_traces(
        texts=[str(i) for i in range(100)],
        Traces=[trace(tags=100)], Tags=[(i, 0) for i in range(100)],
        Arrays=[(0, 0, 0, 0, 1, 1)], Shape=[1 << 27],
    ),
    "dense tags": lambda: generated_traces(
        texts=[str(i) for i in range(10_000)],
        Traces=[trace(tags=10_000)], Tags=[(i, 0) for i in range(10_000)],
        Arrays=[(0, 0, 50_000, 0, 1, 0)], Data=np.ones(50_000), Shape=[50_000],
    ),
    "observations": lambda: generated_traces(
        texts=["obs"], Traces=[trace(observes=100)], Observes=[(0.0, 0, 0, 4, 4, 0, 0)] * 100,
        Arrays=[(0, 0, 0, 0, 1, 1)], Shape=[1 << 27],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BOMBS)
def test_overlapping_parts_do_not_fill_the_memory(what):
    data = BOMBS[what]()
    assert len(data) < 2e6
    assert peak_of(data) <= len(data) + GIB + 2**24


# ---------------------------------------------------------------------- altered messages


@pytest.fixture(scope="module")
def real(cpp_examples):
    """First answers of real simulators in a session."""
    found = []
    plan = RunPlan(observed={}, parameters=True, details=True, rejected=True, draw_below=100)
    for words in (["drifting"], ["all_distributions"], ["marsaglia", "--replaced"], ["drifting", "--steps", "0"]):
        for asked in (plan, RunPlan(observed={"track": np.zeros(3), "obs": np.zeros(2), "obs0": np.array(1.0)})):
            with Simulator([str(cpp_examples / words[0]), *words[1:]]) as simulator:
                both = simulator._session.request(asked, (1, 2), AddressTable())
                found.append(simulator._connection.request(both, 30.0))
    for data in found:
        assert isinstance(touch(data), DelegatedBatch)
    return found


def read_or_refused(data):
    try:
        touch(data)
    except ProtocolError:
        return


@given(data=st.data())
def test_flipped_bytes_of_real_messages(real, data):
    message = bytearray(data.draw(st.sampled_from(real)))
    for _ in range(data.draw(st.integers(1, 4))):
        # vtables, offsets and lengths are a small part of a message: half of the flips are near its ends
        ends = st.integers(0, 400) | st.integers(len(message) - 200, len(message) - 1)
        position = data.draw(ends | st.integers(0, len(message) - 1)) % len(message)
        message[position] = data.draw(st.integers(0, 255))
    read_or_refused(bytes(message))


@given(data=st.data())
def test_real_messages_with_other_words(real, data):
    """Numbers, offsets and lengths have four bytes: they get similar and extreme values."""
    message = bytearray(data.draw(st.sampled_from(real)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = 4 * data.draw(st.integers(0, len(message) // 4 - 1))
        [old] = struct.unpack_from("<I", message, at)
        new = st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(message)]) | st.integers(-9, 9).map(old.__add__)
        struct.pack_into("<I", message, at, data.draw(new) % 2**32)
    read_or_refused(bytes(message))


@given(data=st.data())
def test_truncated_and_spliced_real_messages(real, data):
    one, other = data.draw(st.sampled_from(real)), data.draw(st.sampled_from(real))
    cut, start = data.draw(st.integers(0, len(one))), data.draw(st.integers(0, len(other)))
    read_or_refused(one[:cut] + data.draw(st.sampled_from([b"", other[start:]])))


def test_altered_messages_do_not_fill_the_memory(real):
    rng = np.random.default_rng(3)
    largest = 0
    for _ in range(60):
        message = bytearray(real[int(rng.integers(len(real)))])
        for _ in range(2):
            at = 4 * int(rng.integers(len(message) // 4))
            struct.pack_into("<I", message, at, int(rng.choice([2**27, 2**31 - 1, 2**26, 1000])))
        largest = max(largest, peak_of(bytes(message)) - len(message))
    assert largest <= GIB + 2**24
