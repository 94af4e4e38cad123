# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A model whose addresses occur one after the other, for tests of networks that grow."""

import numpy as np

from etalumis.distributions import ArrayDistribution, Categorical, Normal, Uniform
from etalumis.models import FunctionModel, observe, sample, tag

CHOICES = (0.45, 0.3, 0.25)
SHAPE = (8, 9)


def walk() -> float:
    """Walk until a choice ends it: the addresses of a long walk occur late in a stream of traces, if at all."""
    total, steps = 0.0, 0
    while True:
        total += sample(Normal(0.5, 1.0), name="step")
        steps += 1
        choice = int(sample(Categorical(CHOICES), name="choice"))
        if choice == 0:
            break
        if choice == 2:
            total += sample(Uniform(-1.0, 3.0), name="jump")
    image = np.zeros(SHAPE)
    image[steps % 8, :4] = total
    observe(ArrayDistribution(Normal.code, (image, np.asarray(0.3))), name="image")
    observe(Normal(total, 0.5), name="end")
    tag("steps", [steps, total])
    return total


WALK = FunctionModel(walk, "walk")
