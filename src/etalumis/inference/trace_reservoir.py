# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Some traces of a posterior, chosen by weight while they come."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from etalumis import seeds
from etalumis.address import AddressTable
from etalumis.inference.controllers import SavedTrace, saved_trace
from etalumis.trace import Trace

PLACES = 100
"""Number of traces that are chosen, with replacement."""


class KeptTrace(NamedTuple):
    """A chosen trace, with the log likelihood that its replay must have."""

    saved: SavedTrace
    log_likelihood: float


class TraceReservoir:
    """Chooses traces by weight, with replacement.

    Each place keeps the trace with the largest sum of log weight and a Gumbel variable of its own, which is a draw with
    probability in proportion to the weight (Yellott 1977).

    Parameters
    ----------
    addresses
        Table of the addresses of the traces.
    seed, stage
        The choice derives from (seed, "<stage>/predictive", 0).

    Attributes
    ----------
    rng
        Its source of randomness.
    log_total
        Log of the sum of all weights.
    """

    def __init__(self, addresses: AddressTable, seed: int, stage: str) -> None:
        self._addresses = addresses
        self.rng = seeds.generator(seed, f"{stage}/predictive", 0)
        self.log_total = -np.inf
        self._keys = np.full(PLACES, -np.inf)
        self._kept: list[KeptTrace | None] = [None] * PLACES

    @property
    def traces(self) -> list[KeptTrace]:
        """The chosen traces, `PLACES` of them; none if every weight is zero."""
        return [kept for kept in self._kept if kept is not None]

    def offer(self, trace: Trace, log_weight: float) -> None:
        """Offer one draw."""
        keys = log_weight + self.rng.gumbel(size=PLACES)
        self.log_total = float(np.logaddexp(self.log_total, log_weight))
        places = np.flatnonzero(keys > self._keys)
        if len(places):
            kept = KeptTrace(saved_trace(self._addresses, trace), trace.log_likelihood)
            self._keys[places] = keys[places]
            for place in places:
                self._kept[place] = kept

    def snapshot(self) -> dict[str, Any]:
        """Return the JSON values that `resume` needs."""
        traces = self.traces
        distinct = list({id(kept): kept for kept in traces}.values())
        number = {id(kept): n for n, kept in enumerate(distinct)}
        return {
            "rng": self.rng.bit_generator.state,
            "keys": self._keys.tolist() if traces else None,
            "log_total": self.log_total if traces else None,
            "distinct": [[*kept.saved, kept.log_likelihood] for kept in distinct],
            "traces": [number[id(kept)] for kept in traces],
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Restore a snapshot."""
        self.rng.bit_generator.state = snapshot["rng"]
        if snapshot["keys"] is None:
            return
        distinct = [
            KeptTrace(SavedTrace([tuple(key) for key in keys], values, scopes), log_likelihood)
            for keys, values, scopes, log_likelihood in snapshot["distinct"]
        ]
        self._keys, self.log_total = np.array(snapshot["keys"]), snapshot["log_total"]
        self._kept = [distinct[n] for n in snapshot["traces"]]
