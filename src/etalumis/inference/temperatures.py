# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inverse temperatures of the replicas of a chain, and what depends on them alone."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from etalumis.errors import InferenceError
from etalumis.inference.kernel import Settings

HOT_TAIL_SHARE, HOT_REDRAW_SHARE = 0.5, 0.1
"""Fractions of these moves near beta = 0, where draws from the prior are accepted more often."""


def inverse_temperatures(count: int, hottest_beta: float) -> tuple[float, ...]:
    """Return `count` inverse temperatures: 1 to `hottest_beta` in equal ratios, then 0 for the prior.

    Equal ratios give about equal swap rates if the likelihood is nearly Gaussian in the latents. One temperature is
    (1,), plain Metropolis-Hastings; two are (1, 0), which do not depend on `hottest_beta`.

    Raises
    ------
    InferenceError
        If `count` < 1, or `hottest_beta` is not in (0, 1).
    """
    if count < 1 or not 0.0 < hottest_beta < 1.0:
        raise InferenceError(
            f"temperatures: expected a count of 1 or more and 0 < hottest_beta < 1; found {count} and {hottest_beta}"
        )
    if count == 1:
        return (1.0,)
    steps = max(count - 2, 1)
    return (*(hottest_beta ** (k / steps) for k in range(count - 1)), 0.0)


def equalise_swap_rates(betas: Sequence[float], rejection: Sequence[float]) -> tuple[float, ...]:
    """Return a ladder of the same length and with the same ends, whose pairs have equal swap rejection rates.

    For close temperatures, the rejection rates nearly add up along the ladder. Let R(beta) be their sum from the cold
    end; the new inverse temperatures divide R into equal steps. Between two old ones, R is interpolated linearly in
    log beta, or in beta if the hotter one is 0 (Syed et al. 2022, Algorithm 4, which uses a cubic).

    Parameters
    ----------
    betas
        (K,) current inverse temperatures.
    rejection
        (K - 1,) mean rejection probability of the swaps of each neighbouring pair, positive.
    """
    barrier = np.concatenate([[0.0], np.cumsum(rejection)])
    inner = []
    for target in np.linspace(0.0, barrier[-1], len(betas))[1:-1]:
        i = min(int(np.searchsorted(barrier, target, side="right")) - 1, len(rejection) - 1)
        share = float((target - barrier[i]) / rejection[i])
        cold, hot = betas[i], betas[i + 1]
        inner.append(cold * (hot / cold) ** share if hot > 0.0 else cold * (1.0 - share))
    return (betas[0], *inner, betas[-1])


def replica_settings(settings: Settings, beta: float) -> Settings:
    """Return the fractions of the moves of a replica, which depend on its temperature but not on its state.

    The closer beta is to 0, the more moves draw from the prior. At 0, every move redraws the whole trace and is
    accepted, which gives independent draws.
    """
    if beta == 0.0:
        return settings._replace(redraw_share=1.0)
    heat = 1.0 - math.sqrt(beta)
    return settings._replace(
        tail_share=settings.tail_share + heat * max(HOT_TAIL_SHARE - settings.tail_share, 0.0),
        redraw_share=settings.redraw_share + heat * max(HOT_REDRAW_SHARE - settings.redraw_share, 0.0),
    )


def check_betas(betas: Sequence[float]) -> None:
    """Check a ladder of inverse temperatures.

    Raises
    ------
    InferenceError
        If it is not strictly decreasing from 1 to at least 0.
    """
    falls = all(a > b for a, b in pairwise(betas))
    if not betas or betas[0] != 1.0 or betas[-1] < 0.0 or not falls:
        raise InferenceError(
            f"inverse temperatures: expected 1 = beta_0 > beta_1 > ... >= 0, found {list(betas)}; "
            "inverse_temperatures() returns such a ladder"
        )
