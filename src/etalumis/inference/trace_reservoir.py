# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Some traces of a posterior, chosen by weight while they come."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from etalumis import seeds
from etalumis.address import AddressTable
from etalumis.inference.replays import SavedTrace, saved_trace
from etalumis.trace import Trace

PLACES = 100
"""Largest number of traces that are chosen, with replacement."""
_DRAWS_PER_PLACE = 20
"""Fewer traces are chosen from fewer draws, since each is replayed."""
_MIN_PLACES = 10


def places_for(draws: int) -> int:
    """Return the number of traces to choose from a number of draws."""
    return min(max(draws // _DRAWS_PER_PLACE, _MIN_PLACES), PLACES)


class KeptTrace(NamedTuple):
    """A chosen trace, with the log likelihood that its replay must have."""

    saved: SavedTrace
    log_likelihood: float


class TraceReservoir:
    """Chooses traces by weight, with replacement.

    The n-th draw takes each place, independently, with probability w_n / (w_1 + ... + w_n), so that in the end a place
    has draw n with probability w_n over the sum of all weights (Chao 1982).

    Parameters
    ----------
    addresses
        Table of the addresses of the traces.
    seed, stage
        The choice derives from (seed, "<stage>/predictive", 0).
    places
        Number of traces to choose.

    Attributes
    ----------
    rng
        Its source of randomness.
    log_total
        Log of the sum of all weights.
    """

    def __init__(self, addresses: AddressTable, seed: int, stage: str, places: int = PLACES) -> None:
        self._addresses = addresses
        self.rng = seeds.generator(seed, f"{stage}/predictive", 0)
        self.log_total = -math.inf
        self._places = places
        self._kept: list[KeptTrace] = []

    @property
    def traces(self) -> list[KeptTrace]:
        """The chosen traces; none if every weight is zero."""
        return self._kept

    def offer(self, trace: Trace, log_weight: float) -> None:
        """Offer one draw; one of weight zero is never chosen, nor is one of infinite weight, which no posterior has."""
        if not math.isfinite(log_weight):
            return
        largest = max(log_weight, self.log_total)
        self.log_total = largest + math.log1p(math.exp(min(log_weight, self.log_total) - largest))
        taken = int(self.rng.binomial(self._places, math.exp(log_weight - self.log_total))) if self._kept else -1
        if taken == 0:
            return
        kept = KeptTrace(saved_trace(self._addresses, trace), trace.log_likelihood)
        if taken < 0:  # the first one takes all places
            self._kept = [kept] * self._places
            return
        for place in self.rng.choice(self._places, taken, replace=False).tolist():
            self._kept[place] = kept

    def snapshot(self) -> dict[str, Any]:
        """Return the JSON values that `resume` needs."""
        distinct = list({id(kept): kept for kept in self._kept}.values())
        number = {id(kept): n for n, kept in enumerate(distinct)}
        return {
            "rng": self.rng.bit_generator.state,
            "log_total": self.log_total if distinct else None,
            "distinct": [[*kept.saved, kept.log_likelihood] for kept in distinct],
            "traces": [number[id(kept)] for kept in self._kept],
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Restore a snapshot."""
        self.rng.bit_generator.state = snapshot["rng"]
        if snapshot["log_total"] is None:
            return
        distinct = [
            KeptTrace(SavedTrace([tuple(key) for key in keys], values, scopes), log_likelihood)
            for keys, values, scopes, log_likelihood in snapshot["distinct"]
        ]
        self.log_total = snapshot["log_total"]
        self._kept = [distinct[n] for n in snapshot["traces"]]
