# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Supports of scalar distributions."""

from etalumis.distributions.base import Distribution
from etalumis.distributions.continuous import Uniform
from etalumis.distributions.discrete import Binomial, Categorical


def same_support(a: Distribution, b: Distribution) -> bool:
    """Return whether a value of `a` may be kept under `b`: equal kind and support. Symmetric in a and b."""
    if a is b:
        return True
    if a.code != b.code:
        return False
    if isinstance(a, Uniform) and isinstance(b, Uniform):
        return a.low == b.low and a.high == b.high
    if isinstance(a, Categorical) and isinstance(b, Categorical):
        return len(a.probs) == len(b.probs)
    if isinstance(a, Binomial) and isinstance(b, Binomial):
        return a.total_count == b.total_count
    return True
