# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A population of traces at one inverse temperature, and how traces are saved for resuming."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etalumis.inference.chain import Chain
from etalumis.inference.replays import SavedTrace
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
    stratum
        Number of the stratum of all traces, see `etalumis.inference.strata`.
    """

    states: list[ChainState]
    lineage: Array
    beta: float
    log_evidence: float
    stages: list[dict[str, float]] = field(default_factory=list)
    stratum: int = 0

    @property
    def log_likelihood(self) -> Array:
        """(particle,) log likelihoods."""
        return np.array([state.log_likelihood for state in self.states])

    def select(self, indices: Array) -> None:
        """Replace the particles by those at `indices` (particle,)."""
        self.states = [self.states[i] for i in indices]
        self.lineage = self.lineage[indices]


def save_states(chain: Chain, states: Sequence[ChainState]) -> dict[str, Any]:
    """Return JSON values of states. Equal states, and the addresses of equal structures, are saved once."""
    structures: dict[tuple[Any, ...], int] = {}
    numbers: dict[int, int] = {}
    traces: list[tuple[int, list[float], float]] = []
    for state in states:
        if id(state) not in numbers:
            trace = chain.saved(state)
            structure = structures.setdefault((tuple(trace.keys), tuple(trace.scopes)), len(structures))
            numbers[id(state)] = len(traces)
            traces.append((structure, list(trace.values), state.log_likelihood))
    return {
        "structures": list(structures),
        "traces": traces,
        "states": [numbers[id(state)] for state in states],
    }


def restore_states(chain: Chain, saved: Mapping[str, Any]) -> list[ChainState]:
    """Return saved states; each of their traces is replayed once.

    Raises
    ------
    InferenceError
        If a replayed trace differs.
    """
    structures = [([tuple(key) for key in keys], list(scopes)) for keys, scopes in saved["structures"]]
    restored = []
    for structure, values, log_likelihood in saved["traces"]:
        keys, scopes = structures[structure]
        restored.append(chain.restore(SavedTrace(keys, values, scopes), log_likelihood))
    return [restored[i] for i in saved["states"]]


def save_population(chain: Chain, population: Population) -> dict[str, Any]:
    """Return JSON values of a population."""
    return {
        **save_states(chain, population.states),
        "lineage": population.lineage.tolist(),
        "beta": population.beta,
        "log_evidence": population.log_evidence,
        "stages": population.stages,
        "stratum": population.stratum,
    }


def restore_population(chain: Chain, saved: Mapping[str, Any]) -> Population:
    """Return a saved population; raises like `restore_states`."""
    states, lineage = restore_states(chain, saved), np.array(saved["lineage"])
    return Population(states, lineage, saved["beta"], saved["log_evidence"], list(saved["stages"]), saved["stratum"])
