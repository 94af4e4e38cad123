# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Observations that the simulator leaves to the recorder: drawn here, reproducibly and independently."""

import numpy as np

from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution, Normal
from etalumis.recorded_trace import RecordedTrace
from etalumis.trace import Observed
from etalumis.traces.recording.builder import BlockBuilder

SIZE = 4000


def block(seed):
    stddev = np.full(SIZE, 2.0)  # one for each element: stored noisy
    observes = [
        Observed(name, "[f]", ArrayDistribution(Normal.code, (np.zeros(SIZE), stddev)), None, 0.0)
        for name in ("near", "far")
    ]
    builder = BlockBuilder()
    builder.add(RecordedTrace(AddressTable(), observes=observes), seed, 0)
    return builder.block()


def test_noise_of_two_observations_is_independent():
    found = block(5).observations
    near, far = (np.asarray(found[name]).ravel().astype(float) for name in ("near", "far"))
    for noise in (near, far):
        assert abs(noise.std() - 2.0) < 5 * 2.0 / np.sqrt(2 * SIZE)
    assert abs(np.corrcoef(near, far)[0, 1]) < 5 / np.sqrt(SIZE)


def test_noise_comes_from_the_seed_of_the_trace():
    first, again, other = (np.asarray(block(seed).observations["near"]) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
