# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Layer tables and minibatches of random traces over all distributions, for tests of network and training."""

import math

import numpy as np

from etalumis.config import NetworkConfig
from etalumis.distributions import BY_CODE, Categorical, Distribution
from etalumis.layers import LayerRow, LayerTable, ObservationLayout, TagInput
from etalumis.traces.reading.batch import Minibatch

SMALL = NetworkConfig(
    conv_channels=(2, 2, 2, 2, 2),
    observation_embedding=8,
    lstm_hidden=16,
    address_embedding=4,
    value_frequencies=2,
    dtype="float32",
)
"""An architecture with every part, small enough for tests."""

_SCALAR = tuple(
    BY_CODE[code](*parameters)
    for code, parameters in {
        1: (1.5, 0.5),
        2: (-3.0, 5.0),
        4: (3.5,),
        5: (0.3,),
        6: (2.0, 3.0),
        7: (0.25,),
        8: (2.5, 4.0),
        9: (0.3, 0.8),
        10: (9.0, 0.4),
        11: (2.0, 1.7),
        12: (1.5, 0.6),
        13: (3.0, 0.5, 2.0),
    }.items()
)
PRIORS: tuple[Distribution, ...] = (*_SCALAR, Categorical((0.1, 0.2, 0.3, 0.4)), Categorical((0.5, 0.0, 0.5)))
"""One prior of each kind, and Categoricals of two sizes."""


def layer_table(
    priors: tuple[Distribution, ...], instances: int, shape: tuple[int, ...], tags: tuple[TagInput, ...] = ()
) -> LayerTable:
    """Return a table with `instances` addresses for each prior; the first instance of each has a name."""
    rows = []
    for instance in range(1, instances + 1):
        for number, prior in enumerate(priors):
            categories = len(prior.parameters) if isinstance(prior, Categorical) else 0
            name = f"{prior.kind}{number}" if instance == 1 else ""
            rows.append(LayerRow(f"[f+{number}]__{prior.suffix}__{instance}", name, prior.kind, categories, 1))
    return LayerTable(rows, [ObservationLayout("y", shape, 0.5)], "build", "config", tags)


def prior_columns(prior: Distribution) -> tuple[float, ...]:
    """Return (low, high, three parameters) as a batch has them."""
    low, high = prior.parameters if prior.kind == "Uniform" else (math.nan, math.nan)
    numbers = () if prior.kind == "Categorical" else prior.parameters
    return (low, high, *(*numbers, math.nan, math.nan, math.nan)[:3])


def random_batch(
    layers: LayerTable,
    priors: tuple[Distribution, ...],
    lengths: list[int],
    rng: np.random.Generator,
    unknown: float = 0.0,
    tags: int = 0,
    layer: np.ndarray | None = None,
) -> Minibatch:
    """Return traces of given lengths with prior draws, and `tags` numbers as tags.

    Their tokens have the given or random layers; a share `unknown` has none.
    """
    count = sum(lengths)
    layer = rng.integers(0, len(layers), count) if layer is None else layer
    drawn = [priors[int(number) % len(priors)] for number in layer]
    value = np.array([prior.sample(rng) for prior in drawn])
    columns = np.array([prior_columns(prior) for prior in drawn]).reshape(count, 5)
    return Minibatch(
        observation=rng.standard_normal((len(lengths), *layers.observation_shape)).astype(np.float32),
        offset=np.cumsum([0, *lengths]),
        layer=np.where(rng.random(count) < unknown, -1, layer),
        value=value,
        low=columns[:, 0],
        high=columns[:, 1],
        parameters=columns[:, 2:],
        log_prior=np.array([prior.log_prob(x) for prior, x in zip(drawn, value, strict=True)]),
        tags=rng.standard_normal((len(lengths), tags)),
    )
