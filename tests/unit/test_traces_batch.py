# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import math

import numpy as np
import pytest
from unit.traces_support import DETECTOR, PROVENANCE, SHAPE, STDDEV, TraceWriter, draw, part

from etalumis.address import AddressTable
from etalumis.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Exponential,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    Uniform,
    Weibull,
)
from etalumis.layers import build
from etalumis.models import FunctionModel, examples, observe, sample
from etalumis.traces.ragged import Ragged, concatenate
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.sorting.sort import sort

COUNT = 80


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    for number in range(2):
        part(folder, number, COUNT // 2)
    return folder


@pytest.fixture(scope="module")
def files(folder):
    return sorted(folder.glob("*.h5"))


@pytest.fixture(scope="module")
def traces():
    addresses = AddressTable()
    return [draw(DETECTOR, index, addresses) for index in range(COUNT)]


def dataset_of(model, count, path):
    addresses = AddressTable()
    drawn = [draw(model, index, addresses) for index in range(count)]
    with TraceWriter(path, PROVENANCE) as writer:
        for index, trace in enumerate(drawn):
            writer.add(trace, index, index)
    return TraceDataset(path), drawn


def test_tokens_agree_with_a_plain_loop_over_traces(files, traces):
    layers = build(files)
    dataset = TraceDataset(files, layers)
    indices = np.array([70, 3, 3, 41, 0, 79, 12])
    batch = dataset.batch(indices, (1, 2))
    assert len(batch) == len(indices)
    assert len(layers) > 5
    for position, index in enumerate(indices):
        trace, rows = traces[index], slice(batch.offset[position], batch.offset[position + 1])
        controlled = trace.controlled
        priors = [trace.distribution[i] for i in controlled]
        names = [trace.addresses.name(trace.address[i]) for i in controlled]
        assert batch.layer[rows].tolist() == [layers.row(name) for name in names]
        assert min(batch.layer[rows]) >= 0
        assert batch.value[rows].tolist() == [trace.value[i] for i in controlled]
        expected = [p.parameters if isinstance(p, Uniform) else (math.nan, math.nan) for p in priors]
        np.testing.assert_array_equal(np.stack([batch.low[rows], batch.high[rows]], 1), expected)
        np.testing.assert_array_equal(batch.parameters[rows, :2], expected)  # Categorical gives NaN, too
        np.testing.assert_allclose(batch.log_prior[rows], [trace.log_prob[i] for i in controlled], rtol=1e-14)


def test_without_layers_every_token_is_unknown(files):
    assert set(TraceDataset(files).batch(np.arange(5), (0,)).layer.tolist()) == {-1}


def test_noise_is_normal_with_the_given_standard_deviation(files, traces):
    dataset = TraceDataset(files)
    indices = np.tile(np.arange(COUNT), 4)
    noisy = np.concatenate([dataset.batch(indices[k::4], (3, k)).observation for k in range(4)])
    order = np.concatenate([indices[k::4] for k in range(4)])
    mean = np.stack([traces[i].observes[0].distribution.arrays[0] for i in order])
    z = ((noisy - mean) / STDDEV).ravel()
    assert noisy.shape == (4 * COUNT, *SHAPE)
    assert noisy.dtype == np.float32
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / z.size)
    assert abs((np.abs(z) > 1.96).mean() - 0.05) < 5 * math.sqrt(0.05 * 0.95 / z.size)


def test_the_noise_scale_multiplies_the_noise_alone(files):
    dataset = TraceDataset(files)
    full, half, none = (dataset.batch(np.arange(8), (3, 1), scale).observation for scale in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(full - none, 2 * (half - none), atol=1e-5)
    np.testing.assert_allclose(none[5], dataset.trace(5).expected["calorimeter"], atol=1e-6)


def test_noise_depends_on_seed_and_trace_only(files, folder, tmp_path):
    dataset = TraceDataset(files)
    sort(files, tmp_path / "sorted", 30)
    ordered = TraceDataset(tmp_path / "sorted")
    place = {seed: position for position, seed in enumerate(ordered.column("seed").tolist())}
    batch = dataset.batch(np.arange(10), (5, 0))
    again = ordered.batch(np.array([place[s] for s in dataset.column("seed")[:10].tolist()]), (5, 0))
    np.testing.assert_array_equal(batch.observation, again.observation)
    np.testing.assert_array_equal(batch.value, again.value)
    alone = dataset.batch(np.array([4]), (5, 0))
    np.testing.assert_array_equal(alone.observation[0], batch.observation[4])
    for other in ((5, 1), (6, 0)):
        shared = dataset.batch(np.arange(10), other).observation == batch.observation
        assert shared.mean() < 0.01


def test_a_small_cache_gives_the_same(files):
    roomy, tight = TraceDataset(files), TraceDataset(files, cache_mb=0)
    for start in range(0, COUNT, 16):
        indices = np.arange(start, COUNT, 7)
        a, b = roomy.batch(indices, (1,)), tight.batch(indices, (1,))
        for name in a.__slots__:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_trace_numbers_out_of_range(files):
    with pytest.raises(IndexError, match="from 0 to 79"):
        TraceDataset(files).batch(np.array([80]), (0,))


def test_several_observations_make_one_vector(tmp_path):
    dataset, drawn = dataset_of(examples.model("gaussian_unknown_mean"), 20, tmp_path / "t.h5")
    batch = dataset.batch(np.arange(20), (0,))
    expected = [[float(observed.value) for observed in trace.observes] for trace in drawn]
    assert dataset.observation_shape == (2,)
    np.testing.assert_allclose(batch.observation, expected, rtol=1e-6)
    assert not np.array_equal(batch.observation[:, 0], batch.observation[:, 1])


def test_log_prior_of_every_kind(tmp_path):
    priors = [
        Normal(1.0, 2.0), Uniform(-1.0, 3.0), Categorical((0.2, 0.3, 0.5)), Poisson(4.0), Bernoulli(0.3),
        Beta(2.0, 3.0), Exponential(1.5), Gamma(2.0, 3.0), LogNormal(0.1, 0.7), Binomial(10.0, 0.4), Weibull(2.0, 1.5),
        NegativeBinomial(2.5, 0.6), StudentT(3.0, 1.0, 2.0),
    ]  # fmt: skip

    def model():
        for prior in priors:
            sample(prior)
        observe(Normal(0.0, 1.0), name="y")

    dataset, drawn = dataset_of(FunctionModel(model), 5, tmp_path / "t.h5")
    batch = dataset.batch(np.arange(5), (0,))
    np.testing.assert_allclose(batch.log_prior, [lp for trace in drawn for lp in trace.log_prob], rtol=1e-13)
    rows = [(*(p.parameters if p.kind != "Categorical" else ()), *(math.nan,) * 3)[:3] for p in priors]
    np.testing.assert_array_equal(batch.parameters, rows * 5)


def test_ragged_take_agrees_with_its_reference():
    rng = np.random.default_rng(2)
    lengths = rng.integers(0, 5, 30)
    content = rng.random((lengths.sum(), 2))
    offset = np.concatenate([[0], np.cumsum(lengths)])
    ragged = Ragged(offset, {"content": content})
    rows = rng.integers(0, 30, 50)
    taken = ragged.take(rows)
    pieces = [content[offset[i] : offset[i + 1]] for i in rows]
    np.testing.assert_array_equal(taken.columns["content"], np.concatenate(pieces))
    np.testing.assert_array_equal(taken.lengths, lengths[rows])
    joined = concatenate([ragged, taken])
    np.testing.assert_array_equal(joined.lengths, np.concatenate([lengths, lengths[rows]]))
    np.testing.assert_array_equal(joined.list_numbers(), np.repeat(np.arange(80), joined.lengths))
