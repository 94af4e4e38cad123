# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tags and observations of a message, read column by column, are those of its traces one by one.

The messages are written by flatc's code, with arrays of any kind: sparse and dense, with and without a shape.
"""

from dataclasses import dataclass, field

import numpy as np
from delegation_bytes import generated_traces
from hypothesis import example, given
from hypothesis import strategies as st

from etalumis.address import AddressTable
from etalumis.delegation import RunPlan
from etalumis.errors import DatasetError
from etalumis.ppx.decode import Decoder
from etalumis.ppx.delegated import DelegatedBatch
from etalumis.ppx.vocabulary import Vocabulary
from etalumis.traces.block import EXPECTED, Layout
from etalumis.traces.ragged import Ragged
from etalumis.traces.recording.ids import View
from etalumis.traces.recording.images import ImageBuilder
from etalumis.traces.recording.tags import TagColumns

TEXTS = ["channel", "momentum", "final_state", "image", "[f]", "channel"]
"""One of them has two numbers."""
NORMAL, UNIFORM = 1, 2
STATED = 4
SHAPE = (4, 5)


@dataclass
class Arrays:
    """Arrays of a message that is being built."""

    records: list[tuple[int, ...]] = field(default_factory=list)
    data: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    extents: list[int] = field(default_factory=list)

    def add(self, shape, stated=True, sparse=None):
        """Add an array whose elements are numbered; `sparse` are the elements that are there of one that is sparse."""
        count = int(np.prod(shape, dtype=np.int64)) if sparse is None else len(sparse)
        rank = len(shape) if stated else 0
        self.records.append(
            (len(self.data), len(self.positions), count, len(self.extents), rank, 0 if sparse is None else 1)
        )
        self.data += [float(len(self.data) + i) for i in range(count)]
        self.positions += sparse or []
        self.extents += shape[:rank]
        return len(self.records) - 1


tags = st.tuples(
    st.sampled_from([0, 1, 2, 5]),
    st.one_of(
        st.tuples(st.sampled_from([(), (1,), (3,), (0,), (1, 2), (3, 2), (0, 2), (2, 3), (2, 2, 2)]), st.just(True)),
        st.tuples(st.sampled_from([(), (3,), (1,)]), st.just(False)),
    ),
    st.one_of(st.none(), st.none(), st.none(), st.just([])),
)
alike = st.lists(tags, max_size=3).flatmap(lambda one: st.lists(st.just(one), min_size=1, max_size=4))
traces_with_tags = st.one_of(alike, st.lists(st.lists(tags, max_size=3), min_size=1, max_size=4))


def batch_of(arrays, counts, results, observes=(), tag_records=()):
    """Return the traces of a message; `counts` are the observe records and tags of each."""
    vectors = {
        "Arrays": arrays.records,
        "Data": arrays.data,
        "Index": arrays.positions,
        "Shape": arrays.extents,
        "Observes": list(observes),
        "Tags": list(tag_records),
        "Traces": [
            (number, 0, 0, observed, tagged, result, 0, 0, 0.0, 0.0)
            for number, ((observed, tagged), result) in enumerate(zip(counts, results, strict=True))
        ],
    }
    message = Decoder().decode(generated_traces(1, 0, TEXTS, **{k: v for k, v in vectors.items() if v})).traces
    batch = DelegatedBatch(message, Vocabulary(AddressTable()), RunPlan(parameters=True))
    return batch, batch.traces()


def outcome(build, *steps):
    """Return the columns that `build` gives after some steps, or that it refused them."""
    try:
        for step in steps:
            step()
        return [(name, described(column)) for name, column in build().items()]
    except DatasetError:
        return "refused"


def described(column):
    if isinstance(column, Ragged):
        content = column.columns["content"]
        return column.offset.tolist(), content.shape[1:], np.nan_to_num(content, nan=-1).tolist()
    return column.shape, np.nan_to_num(column, nan=-1).tolist()


@given(traces_with_tags, st.lists(st.sampled_from([-1, 0]), min_size=4, max_size=4), st.integers(0, 3), st.booleans())
@example([[(0, ((), True), None), (2, ((3, 2), True), None)], [(0, ((), True), None), (2, ((0, 2), True), None)]],
         [-1] * 4, 0, True)  # fmt: skip
@example([[(1, ((3,), False), None)], [(1, ((3,), True), None)]], [-1] * 4, 1, True)
@example([[(2, ((3, 2), True), None)], [(2, ((2, 3), True), None)]], [-1] * 4, 0, True)
@example([[(1, ((3,), True), None)], [(1, ((1,), True), None)]], [-1] * 4, 0, True)
@example([[(0, ((), True), None), (5, ((), True), None)]] * 2, [-1] * 4, 0, True)
def test_tags_of_a_message(content, results, first, keep_all):
    arrays = Arrays()
    arrays.add((2,) if keep_all else ())  # the result, if there is one
    records = [(name, arrays.add(shape, stated, sparse)) for one in content for name, (shape, stated), sparse in one]
    batch, traces = batch_of(arrays, [(0, len(one)) for one in content], results[: len(content)], tag_records=records)
    selected = traces[min(first, len(traces) - 1) :]
    kept = None if keep_all else ("channel", "final_state")
    together, singly = TagColumns(kept), TagColumns(kept)
    assert outcome(together.columns, lambda: together.add_all(View.of(batch, selected), selected)) == outcome(
        singly.columns, *[lambda tags=trace.tags: singly.add(tags) for trace in selected]
    )


images = st.tuples(
    st.lists(st.integers(0, 19), unique=True, max_size=6).map(sorted),
    st.sampled_from([SHAPE, SHAPE, SHAPE, (5, 4), (20,)]),
    st.sampled_from([(), (1,)]),
    st.sampled_from([3, 3, 3, 3, 2]),
    st.sampled_from([NORMAL, NORMAL, NORMAL, NORMAL, UNIFORM]),
    st.booleans(),
)


@given(st.lists(images, min_size=1, max_size=5), st.integers(0, 3))
@example([([1, 2, 7], SHAPE, (), 3, NORMAL, True), ([], SHAPE, (), 3, NORMAL, True)], 0)
def test_images_of_a_message(content, first):
    """The images are those of the traces; if one trace has something else, no image is added."""
    arrays, observes = Arrays(), []
    for elements, shape, stddev_shape, name, kind, is_sparse in content:
        at = arrays.add(shape, sparse=elements if is_sparse else None)
        arrays.add(stddev_shape)
        observes.append((0.0, name, 4, kind, STATED, at, 0))
    batch, traces = batch_of(arrays, [(1, 0)] * len(content), [-1] * len(content), observes)
    start = min(first, len(traces) - 1)
    selected = traces[start:]
    view = View.of(batch, selected)
    together, singly = (ImageBuilder(Layout("image", SHAPE, EXPECTED)) for _ in range(2))
    fit = all(
        shape == SHAPE and name == 3 and kind == NORMAL and is_sparse
        for _, shape, _, name, kind, is_sparse in content[start:]
    )
    assert together.add_records(view, view.observes) == fit
    if not fit:
        assert together._index == together._mean == together._lengths == together._stddev == []
        return
    for trace in selected:
        singly.add(trace.observes[0], trace.seed)
    found, expected = together.column(), singly.column()
    assert found.image.offset.tolist() == expected.image.offset.tolist()
    assert found.index.tolist() == expected.index.tolist() == [i for one in content[start:] for i in one[0]]
    for name in ("step", "mean"):
        np.testing.assert_array_equal(found.image.columns[name], expected.image.columns[name])
    np.testing.assert_array_equal(found.stddev, expected.stddev)
