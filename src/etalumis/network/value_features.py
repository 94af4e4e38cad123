# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Features of a numeric value, of which its sample embedding is a linear function.

The paper embeds the value itself. A linear function of an angle between 0 and 2 pi cannot say that both ends are one
direction, and a narrow proposal that depends on an earlier value needs a steep function of it. Sines and cosines of
several frequencies are the usual remedy (Tancik et al. 2020).
"""

import math

import torch
from torch import Tensor

from etalumis.network.standardise import FAMILIES

_SQRT_HALF = math.sqrt(0.5)


def feature_count(frequencies: int) -> int:
    """Return the number of features of a value."""
    return 1 + 2 * frequencies


def value_features(kind: str, feature: Tensor, frequencies: int) -> Tensor:
    """Return the features (token, 1 + 2 frequencies): the value, and sin(pi k c) and cos(pi k c) for k = 1, 2, ...

    Parameters
    ----------
    kind
        Kind of the distribution, not Categorical.
    feature
        (token,) values as in `standardise.Standardised.feature`.
    frequencies
        Number of frequencies. c in [-1, 1] is the value on the unit interval, scaled; on the line, and for counts, the
        probability of smaller values under a standard normal, scaled.
    """
    own = feature.unsqueeze(1)
    if frequencies == 0:
        return own
    c = own if FAMILIES[kind] == "unit" else torch.erf(_SQRT_HALF * own)
    phase = math.pi * c * torch.arange(1, frequencies + 1, dtype=feature.dtype, device=feature.device)
    return torch.cat([own, torch.sin(phase), torch.cos(phase)], 1)


def embed_values(features: Tensor, weight: Tensor) -> Tensor:
    """Return the sum over features (token, n) x weight (token, n, width) as (token, width).

    The result of a token does not depend on the other tokens, bit for bit.
    """
    return (features.unsqueeze(2) * weight).sum(1)
