# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Moves of a chain to runs that a network proposes.

A move compares the state with `candidates` independent runs of the network, and chooses one of them all by its weight
(iterated sampling importance resampling: Tjelmeland 2004; Andrieu, Lee and Vihola 2018). With the log weight of
inference compilation at inverse temperature beta,

    log w_beta(x) = beta log p(y | x) + sum_{i proposed} [log p(x_i) - log q(x_i)] - sum_{s proposed} log Z(c_s)

the state has a weight as if the network had proposed it, and the move leaves prior x likelihood^beta invariant for any
network. Z is replaced by auxiliary variables, see `AuxiliaryInverseAcceptance`. If the network proposes well, each move
gives a nearly independent state. If it does not, the state stays, and the steps of single entries have to do the work.
"""

import math
from typing import Any

import numpy as np

from etalumis import seeds
from etalumis.inference.acceptance import AuxiliaryInverseAcceptance
from etalumis.inference.chain import NETWORK_MOVES, Chain
from etalumis.inference.first_runs import require_finite_weight
from etalumis.inference.proposal_controller import ProposalSource, proposed_before
from etalumis.inference.proposed_runs import ProposedRun, run_proposer
from etalumis.inference.runner import ModelRunner
from etalumis.inference.scope_choice import ScopeChoice, Scopes
from etalumis.log_weights import normalise

_NEGLIGIBLE = 30.0
"""A candidate is left out if its log weight without 1 / Z is so far below the largest: its probability is 1e-13 / Z."""


class NetworkMoves:
    """Makes such moves, each with new runs.

    Parameters
    ----------
    runner
        Runs the model.
    session
        The network, given the observation.
    seed, stage
        Candidate i of all moves draws from (seed, "<stage>/candidates", i), and the other random numbers of move k from
        (seed, "<stage>/moves", k).
    candidates
        Number of runs of each move.
    replays, shared_replays
        Number of replays of each proposed rejection scope, per move, see `AuxiliaryInverseAcceptance`.
    scopes
        Which rejection scopes the network proposes, see `ScopeChoice`.

    Attributes
    ----------
    moves
        Number of moves so far.
    """

    def __init__(
        self,
        runner: ModelRunner,
        session: ProposalSource,
        seed: int,
        stage: str,
        *,
        candidates: int,
        replays: int,
        shared_replays: int,
        scopes: Scopes = "auto",
    ) -> None:
        self._runner, self._session, self._seed, self._stage = runner, session, seed, stage
        self._candidates, self._replays, self._shared_replays = candidates, replays, shared_replays
        self._drawn: dict[str, bool] = {}
        self._choice = ScopeChoice(runner, seed, stage, scopes, self._drawn)
        self._propose = run_proposer(
            runner, session, lambda i: seeds.generator(seed, f"{stage}/candidates", i), self._begin, self._choice
        )
        self.moves = 0

    def move(self, chain: Chain) -> bool:
        """Make one move of a chain; return whether its state changed."""
        rng = seeds.generator(self._seed, f"{self._stage}/moves", self.moves)
        first = self.moves * self._candidates
        self.moves += 1
        state = chain.state
        log_weight, scopes = proposed_before(state.trace, self._session, self._runner.addresses, self._choice)
        inverse_acceptance = AuxiliaryInverseAcceptance(self._runner, rng, self._replays, self._shared_replays)
        row = chain.counts.setdefault(NETWORK_MOVES, [0, 0, 0])
        row[0] += 1
        if log_weight == math.inf:
            return False  # the network never proposes this state, which has all the weight
        log_weight += chain.beta * state.log_likelihood
        proposed = filter(self._is_possible, self._propose(range(first, first + self._candidates)))
        weighted = [(chain.beta * run.trace.log_likelihood + run.log_weight, run) for run in proposed]
        least = max([log_weight, *(weight for weight, _ in weighted)]) - _NEGLIGIBLE
        weighted = [(weight, run) for weight, run in weighted if weight > least]  # others would cost replays
        log_weights = [
            log_weight + inverse_acceptance.state(state.trace, scopes),
            *(weight + inverse_acceptance.proposed(run.trace, run.proposed_scopes) for weight, run in weighted),
        ]
        chosen = int(rng.choice(len(log_weights), p=normalise(np.array(log_weights))))
        if chosen == 0:
            return False
        row[1] += 1
        chain.state = chain.structures.state(weighted[chosen - 1][1].trace)
        return True

    def snapshot(self) -> dict[str, Any]:
        """Return the JSON values that `resume` needs."""
        return {"moves": self.moves, "drawn": self._drawn}

    def resume(self, snapshot: dict[str, Any]) -> None:
        """Restore a snapshot."""
        self.moves = snapshot["moves"]
        self._drawn.update(snapshot["drawn"])

    def _begin(self, first: int, last: int) -> None:
        self._runner.begin(
            seeds.derive(self._seed, f"{self._stage}/candidates", first),
            f"candidates {first} to {last} of {self._stage}",
        )

    def _is_possible(self, run: ProposedRun) -> bool:
        require_finite_weight(self._runner.model.name, "a run of the network", run.trace, run.log_weight)
        return run.log_weight > -math.inf and run.trace.log_likelihood > -math.inf
