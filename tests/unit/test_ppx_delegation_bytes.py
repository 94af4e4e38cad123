# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Bytes of delegated runs, compared with flatc's code in both directions."""

import struct

import numpy as np
from delegation_bytes import SMALL, generated_traces, trace
from hypothesis import given
from hypothesis import strategies as st

from etalumis.address import AddressTable
from etalumis.delegation import RunPlan
from etalumis.errors import ProtocolError
from etalumis.ppx import columns
from etalumis.ppx.decode import Decoder
from etalumis.ppx.delegated import DelegatedBatch
from etalumis.ppx.generated import ppx_generated as fb
from etalumis.ppx.messages import RunResult
from etalumis.ppx.requests import ASSISTED, DELEGATED, request, request_with_terms
from etalumis.ppx.vocabulary import NewTerms, Vocabulary
from etalumis.rows import DETAIL, ENTRY, ReplayRows, SavedKeys

U32, U64, I32 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1)


def same(one, other):
    """Compare bit by bit, because of NaN."""
    return struct.pack("<d", one) == struct.pack("<d", other)


def table(message, kind):
    found = getattr(fb, kind)()
    found.Init(message.Bytes, message.Pos)
    return found


def run_in(data):
    message = fb.Message.GetRootAs(data, 0)
    assert message.BodyType() == fb.MessageBody.Run
    return table(message.Body(), "Run")


# ---------------------------------------------------------------------- requests


def columns_of(dtype, rows):
    return np.array([tuple(row) for row in rows], dtype)


ENTRIES = st.tuples(st.floats(), U32, U32)
DETAILS = st.tuples(st.floats(), U64, U32, U32, I32, U32)


@st.composite
def plans(draw):
    rows = None
    if draw(st.booleans()):
        count = draw(st.integers(0, 5))
        entries = [draw(ENTRIES) for _ in range(count)]
        details = [draw(DETAILS) for _ in range(count)]
        rows = ReplayRows(columns_of(ENTRY, entries), columns_of(DETAIL, details), SavedKeys([]))
    flags = [draw(st.booleans()) for _ in range(3)]
    return RunPlan(rows, draw(U32), {} if draw(st.booleans()) else None, flags[0], draw(U32), *flags[1:])


def assert_says(run, mode, session, plan, seeds):
    """The fields of a Run, read by flatc's code."""
    assert (run.Mode(), run.Session()) == (mode, session)
    assert [run.Seeds(i) for i in range(run.SeedsLength())] == seeds
    assert run.Prefix() == plan.prefix
    assert bool(run.Score()) == (plan.observed is not None)
    assert (run.DrawBelow(), bool(run.Parameters())) == (plan.draw_below, plan.parameters)
    assert (bool(run.Details()), bool(run.Rejected())) == (plan.details, plan.rejected)
    entries = [] if plan.rows is None else plan.rows.entries.tolist()
    details = [] if plan.rows is None else plan.rows.details.tolist()
    assert (run.RowsLength(), run.RowDetailsLength()) == (len(entries), len(details))
    for i, (value, address, distribution) in enumerate(entries):
        row = run.Rows(i)
        assert same(row.Value(), value)
        assert (row.Address(), row.Distribution()) == (address, distribution)
    for i, (log_prob, *others) in enumerate(details):
        row = run.RowDetails(i)
        assert same(row.LogProb(), log_prob)
        assert [row.Support(), row.Scope(), row.Repetition(), row.Row(), row.Flags()] == others


SEEDS = st.lists(U64, min_size=1, max_size=6)
MODES = st.sampled_from([DELEGATED, ASSISTED])


@given(MODES, U64, plans(), SEEDS)
def test_the_fixed_layout_is_read_by_flatc(mode, session, plan, seeds):
    data = request(mode, session, plan, seeds)
    run = run_in(data)
    assert_says(run, mode, session, plan, seeds)
    assert run.TextsIsNone()
    assert run.AddressesIsNone()
    assert run.Observations() is None
    for slot in (2, 5, 6):  # seeds, rows and details are aligned to eight bytes
        assert run._tab.Vector(run._tab.Offset(4 + 2 * slot)) % 8 == 0


@given(MODES, U64, plans(), SEEDS)
def test_the_fixed_layout_is_equivalent_to_that_of_flatc(mode, session, plan, seeds):
    run = run_in(request_with_terms(mode, session, plan, seeds, None, None))
    assert_says(run, mode, session, plan, seeds)
    assert run.Observations() is None


KEYS = st.lists(st.tuples(U32, U32, U32, U32), max_size=4)
ARRAYS = st.dictionaries(
    st.text(max_size=6),
    st.sampled_from([(), (1,), (3,), (2, 3), (0, 2)]).flatmap(
        lambda shape: st.lists(st.floats(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
            lambda data: np.array(data, float).reshape(shape)
        )
    ),
    max_size=3,
)


@given(plans(), SEEDS, st.lists(st.text(max_size=9), max_size=4), KEYS, ARRAYS)
def test_new_terms_and_observations_are_sent(plan, seeds, texts, keys, observations):
    run = run_in(request_with_terms(DELEGATED, 7, plan, seeds, NewTerms(texts, keys), observations))
    assert_says(run, DELEGATED, 7, plan, seeds)
    assert [run.Texts(i).decode() for i in range(run.TextsLength())] == texts
    found = [run.Addresses(i) for i in range(run.AddressesLength())]
    assert [(key.Base(), key.Instance(), key.Name(), key.Flags()) for key in found] == keys
    handed = run.Observations()
    assert handed.TensorsLength() == len(observations)
    for i, (name, value) in enumerate(observations.items()):
        tensor = handed.Tensors(i).Value()
        assert handed.Tensors(i).Name().decode() == name
        assert [tensor.Shape(j) for j in range(tensor.ShapeLength())] == list(value.shape)
        data = np.array([tensor.Data(j) for j in range(tensor.DataLength())], float)
        assert data.tobytes() == value.tobytes()


# ---------------------------------------------------------------------- traces


def batch(data):
    message = Decoder().decode(data)
    assert isinstance(message, RunResult)
    return DelegatedBatch(message.traces, Vocabulary(AddressTable()), RunPlan(observed={}, rejected=True))


def test_every_field_of_a_trace_is_read():
    first, second = batch(generated_traces(**SMALL, session=2**64 - 1)).traces()
    assert (first.seed, first.draws, first.result, first.log_prior, first.log_ratio) == (5, 2, 0.75, 0.5, 0.25)
    assert [first.addresses.name(i) for i in first.address] == ["[f]__Normal__2", "[f]__Normal__1"]
    assert (first.value, first.name, first.log_prob) == ([0.5, 2.0], ["mu", "mu"], [-1.5, -0.5])
    assert (first.flags, first.scope, first.repetition) == ([7, 1], [3, 0], [4, 0])
    assert [law.parameters for law in first.distribution] == [(0.0, 2.0), (0.25, 0.25, 0.5)]
    assert first.rows.details["row"].tolist() == [2**31 - 1]
    [observe] = first.observes
    assert (observe.name, observe.address, observe.log_prob) == ("obs", "[g]", -3.5)
    assert (observe.value.tolist(), [a.tolist() for a in observe.likelihood.arrays]) == ([1.5, 2.5], [[1.5, 2.5], 0.75])
    assert first.tags["mu"].tolist() == [[0, 0, 0, -4], [0, 0, 0, 0], [0, 0, 0, -5]]
    assert (second.seed, len(second), second.observes, second.tags, second.result) == (2**64 - 1, 0, [], {}, None)


def values_of(draw, strategies, count):
    return [tuple(draw(strategy) for strategy in strategies) for _ in range(count)]


@given(st.data(), st.lists(st.tuples(U64, st.integers(0, 4)), min_size=1, max_size=4), U64, st.booleans())
def test_columns_written_by_flatc_are_read(data, runs, session, detailed):
    draw = data.draw
    count = sum(entries for _, entries in runs)
    doubles = draw(st.lists(st.floats(), min_size=1, max_size=9))
    content = {
        "texts": draw(st.lists(st.text(max_size=5), max_size=3)),
        "Addresses": values_of(draw, (U32, U32, U32, U32), draw(st.integers(0, 3))),
        "Priors": values_of(draw, (st.integers(1, 11), st.just(1), st.just(0)), draw(st.integers(0, 1))),
        "Parameters": doubles,
        "Traces": [trace(seed, entries) for seed, entries in runs],
        "Entries": values_of(draw, (st.floats(), U32, U32), count),
        "Details": values_of(draw, (st.floats(), U64, U32, U32, I32, U32), count if detailed else 0),
        "Arrays": [(0, 0, len(doubles), 0, 1, 0)],
        "Data": doubles,
        "Index": draw(st.lists(U32, max_size=3)),
        "Shape": [len(doubles)],
    }
    found = Decoder().decode(generated_traces(session, len(content["Priors"]), **content)).traces
    frame = found.frame
    assert (frame.session, frame.kept_priors, frame.texts) == (session, len(content["Priors"]), content["texts"])
    assert [record[:2] for record in found.traces] == [record[:2] for record in content["Traces"]]
    for column, name, dtype in (
        (frame.addresses, "Addresses", columns.ADDRESS_KEY),
        (frame.priors, "Priors", columns.PRIOR),
        (found.entries, "Entries", ENTRY),
        (found.details, "Details", DETAIL),
        (frame.parameters, "Parameters", "<f8"),
        (found.data, "Data", "<f8"),
        (frame.positions, "Index", "<u4"),
    ):
        assert column.tobytes() == np.array(content[name], dtype).tobytes()
    assert columns.array_of(found, 0).tobytes() == np.array(doubles).tobytes()


# ---------------------------------------------------------------------- answers with the layout of an earlier one


def alone(count, observes, numbers, detailed):
    """A message with one trace and no new terms, as for a chain."""
    return {
        "Traces": [trace(7, count, observes, 1, 0)],
        "Entries": [(0.5 + i, i, 0) for i in range(count)],
        "Details": [(-0.5 - i, 9, 0, 0, i, 0) for i in range(count if detailed else 0)],
        "Observes": [(-2.5 - i, 0, 1, 1, 1, 0, 0) for i in range(observes)],
        "Tags": [(1, 0)],
        "Arrays": [(0, 0, len(numbers), 0, 1, 0)],
        "Data": numbers,
        "Shape": [len(numbers)],
    }


def read(decoder, data):
    """The decoded content of a message, bit for bit; None if it is refused."""
    try:
        found = decoder.decode(data)
    except ProtocolError:
        return None
    if not isinstance(found, RunResult) or found.traces is None:
        return repr(found)
    traces, frame = found.traces, found.traces.frame
    return (
        repr((traces.traces, traces.observes, traces.scores)),
        *(column.tobytes() for column in (traces.entries, traces.details, traces.data)),
        repr((frame.session, frame.text_bound, frame.texts, frame.kept_priors, frame.tags, frame.arrays, frame.steps)),
        *(column.tobytes() for column in (frame.addresses, frame.priors, frame.parameters, frame.positions)),
    )


@given(
    st.integers(0, 4),
    st.integers(0, 2),
    st.lists(st.floats(), min_size=1, max_size=3),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
)
def test_an_answer_with_the_layout_of_an_earlier_one_is_read_correctly(count, observes, numbers, detailed, changes):
    data = generated_traces(3, **alone(count, observes, numbers, detailed))
    decoder = Decoder()
    for _ in range(2):
        assert read(decoder, data) == read(Decoder(), data) is not None
    assert decoder._reply_cache.read(data) is not None
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(data)] = value
    assert read(decoder, bytes(changed)) == read(Decoder(), bytes(changed))
    assert read(decoder, data) == read(Decoder(), data)
