# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A population of traces at one inverse temperature, and how it is saved for resuming."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etalumis.inference.chain import Chain
from etalumis.inference.controllers import SavedTrace
from etalumis.inference.state import ChainState
from etalumis.typing import Array


@dataclass
class Population:
    """Equally weighted draws from prior x likelihood^beta.

    Attributes
    ----------
    states
        The traces.
    lineage
        (particle,) index of the first run that each one descends from.
    beta
        Inverse temperature.
    log_evidence
        Estimate of the log of the normalising constant of the target.
    stages
        One dict per completed stage: ``beta``, ``log_evidence``, ``lineages`` and ``runs``.
    """

    states: list[ChainState]
    lineage: Array
    beta: float
    log_evidence: float
    stages: list[dict[str, float]] = field(default_factory=list)

    @property
    def log_likelihood(self) -> Array:
        """(particle,) log likelihoods."""
        return np.array([state.log_likelihood for state in self.states])

    def select(self, indices: Array) -> None:
        """Replace the particles by those at `indices` (particle,)."""
        self.states = [self.states[i] for i in indices]
        self.lineage = self.lineage[indices]


def saved(chain: Chain, population: Population) -> dict[str, Any]:
    """Return JSON values of a population. Equal traces, and the addresses of equal structures, are saved once."""
    structures: dict[tuple[Any, ...], int] = {}
    traces: dict[int, int] = {}
    rows: list[tuple[int, list[float], float]] = []
    particles: list[int] = []
    for state in population.states:
        if id(state) not in traces:
            trace = chain.saved(state)
            structure = structures.setdefault((tuple(trace.keys), tuple(trace.scopes)), len(structures))
            traces[id(state)] = len(rows)
            rows.append((structure, list(trace.values), state.log_likelihood))
        particles.append(traces[id(state)])
    return {
        "structures": list(structures),
        "traces": rows,
        "particles": particles,
        "lineage": population.lineage.tolist(),
        "beta": population.beta,
        "log_evidence": population.log_evidence,
        "stages": population.stages,
    }


def restored(chain: Chain, snapshot: Mapping[str, Any]) -> Population:
    """Return a saved population; each of its traces is replayed once.

    Raises
    ------
    InferenceError
        If a replayed trace differs.
    """
    structures = [([tuple(key) for key in keys], list(scopes)) for keys, scopes in snapshot["structures"]]
    states = []
    for structure, values, log_likelihood in snapshot["traces"]:
        keys, scopes = structures[structure]
        states.append(chain.restore(SavedTrace(keys, values, scopes), log_likelihood))
    return Population(
        [states[i] for i in snapshot["particles"]],
        np.array(snapshot["lineage"]),
        snapshot["beta"],
        snapshot["log_evidence"],
        list(snapshot["stages"]),
    )
