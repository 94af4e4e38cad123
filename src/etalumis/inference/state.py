# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""State of a Metropolis-Hastings chain: the accepted entries of a trace, and the choice of the entry to change."""

import math
from collections.abc import Collection

import numpy as np

from etalumis.trace import CONTROLLED, Trace


class State:
    """Accepted entries of a trace as parallel lists, in trace order; rejected repetitions are no part of it.

    Attributes
    ----------
    address, value, distribution, log_prob, scope
        Columns of the accepted entries, as in `Trace`.
    control
        Whether the entry may be steered.
    scopes_begun
        Largest scope number among the entries up to and including each one: a scope numbered up to it has begun.
    index
        Address -> position among the accepted entries.
    candidates
        Positions that a step may choose, in order.
    focused
        Those of them that get the focus share.
    log_likelihood
        sum_n log p(y_n | x).
    """

    __slots__ = (
        "address", "candidates", "control", "distribution", "focused", "index", "log_likelihood", "log_prob", "name",
        "scope", "scopes_begun", "trace", "value",
    )  # fmt: skip

    def __init__(self, trace: Trace, focus: Collection[str] | None) -> None:
        accepted = trace.accepted
        self.trace = trace
        self.address = [trace.address[i] for i in accepted]
        self.value = [trace.value[i] for i in accepted]
        self.distribution = [trace.distribution[i] for i in accepted]
        self.log_prob = [trace.log_prob[i] for i in accepted]
        self.scope = [trace.scope[i] for i in accepted]
        self.name = [trace.name[i] for i in accepted]
        self.control = [bool(trace.flags[i] & CONTROLLED) for i in accepted]
        self.scopes_begun = _running_maximum(self.scope)
        self.index = {address: position for position, address in enumerate(self.address)}
        self.candidates = [i for i, control in enumerate(self.control) if control]
        self.focused = [i for i in self.candidates if self.name[i] and (focus is None or self.name[i] in focus)]
        self.log_likelihood = trace.log_likelihood

    def choose(self, rng: np.random.Generator, focus_share: float) -> int:
        """Choose a candidate: with probability `focus_share` among the focused ones, else among all."""
        among = self.focused if self.focused and rng.random() < focus_share else self.candidates
        return among[int(rng.integers(len(among)))]

    def log_choice(self, position: int, focus_share: float) -> float:
        """Return the log probability that `choose` chooses `position`.

        rho(j | x) = (1 - f) / n + f 1{j focused} / m, with n candidates and m > 0 focused ones; 1 / n where m = 0.
        """
        if not self.focused:
            return -math.log(len(self.candidates))
        probability = (1.0 - focus_share) / len(self.candidates)
        if position in self.focused:
            probability += focus_share / len(self.focused)
        return math.log(probability)


def _running_maximum(scopes: list[int]) -> list[int]:
    found, largest = [], 0
    for scope in scopes:
        largest = max(largest, scope)
        found.append(largest)
    return found
