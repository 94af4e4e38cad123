# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A Markov chain over traces: its steps, and going on after an interruption."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from etalumis.errors import InferenceError
from etalumis.inference.controllers import Restore
from etalumis.inference.kernel import START, Change, Move, Settings, choose_move, log_acceptance
from etalumis.inference.runner import Runner
from etalumis.inference.state import State


class Chain:
    """One Markov chain, with target prior x likelihood^beta: give it a `state`, and `step` moves it.

    Its state never has likelihood zero, at beta = 0 neither: swaps with other replicas then never meet infinities, and
    the target of beta > 0 has no such states anyway.

    Parameters
    ----------
    runner
        Runs the model.
    rng
        Source of all randomness of the chain.
    settings
        Shares of the moves.
    focus
        Names of the entries that get the focus share; None: all that have a name.
    beta
        Inverse temperature: 1 samples the posterior, 0 the prior.
    """

    def __init__(
        self,
        runner: Runner,
        rng: np.random.Generator,
        settings: Settings,
        focus: Collection[str] | None = None,
        beta: float = 1.0,
    ) -> None:
        self.runner, self.rng, self.settings, self.beta = runner, rng, settings, beta
        self._focus = focus
        self.counts: dict[str, list[int]] = {}
        """Kind of move -> [proposed, accepted, lost to the scope rule]."""
        self._state: State | None = None

    @property
    def state(self) -> State:
        """Where the chain is; `State` is never changed in place, so chains may share and exchange one."""
        if self._state is None:
            raise InferenceError("this chain has no state yet: give it one, or call resume() first")
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    def snapshot(self) -> dict[str, Any]:
        """Return what `resume` needs, JSON-able."""
        return {
            "addresses": [self.runner.addresses.name(address) for address in self.state.address],
            "values": self.state.value,
            "log_likelihood": self.state.log_likelihood,
            "counts": self.counts,
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken: its trace is replayed. The generator is for the caller to set back.

        Raises
        ------
        InferenceError
            Where the replayed trace is another one: the model is not the one of the snapshot.
        """
        values = snapshot["values"]

        def make() -> Restore:
            return Restore(self.runner.addresses, snapshot["addresses"], values, self.runner.observations)

        trace, _ = self.runner.run(self.rng, make)
        if len(trace) != len(values) or trace.log_likelihood != snapshot["log_likelihood"]:
            raise InferenceError(
                f"{self.runner.model.name}: the trace to go on from has {len(trace)} entries and log likelihood "
                f"{trace.log_likelihood}; expected {len(values)} and {snapshot['log_likelihood']}. The model has "
                "changed: delete the .part file and start anew."
            )
        self.state = State(trace, self._focus)
        self.counts = {label: list(count) for label, count in snapshot["counts"].items()}

    def step(self) -> bool:
        """Propose one move and return whether it was accepted."""
        state = self.state
        move = choose_move(state, self.rng, self.settings)
        if move is None:
            return False
        count = self.counts.setdefault(_label(state, move), [0, 0, 0])
        count[0] += 1
        if move.log_ratio == -math.inf:
            return False  # the prior rules the value out: no need to run the model
        new = self._propose(state, move, count)
        if new is None:
            return False
        count[1] += 1
        self.state = new
        return True

    def _propose(self, state: State, move: Move, count: list[int]) -> State | None:
        """Run the model with the move made; return the new state if it is accepted."""
        trace, change = self.runner.run(self.rng, lambda: Change(state, move, self.rng, self.runner.observations))
        if change.lost:
            count[2] += 1
            return None
        if trace.log_likelihood == -math.inf:
            return None
        new = State(trace, self._focus)
        log_ratio = log_acceptance(state, move, change, trace, new, self.settings, self.beta)
        return new if math.log(1.0 - self.rng.random()) < log_ratio else None


def _label(state: State, move: Move) -> str:
    """Return the kind of move for the acceptance table: by name of the entry, or by its distribution."""
    if not move.keep:
        return "all redrawn" if move.position == START else "tail redrawn"
    place = "in a scope" if state.scope[move.position] else "outside scopes"
    return state.name[move.position] or f"{state.distribution[move.position].kind} {place}"


def acceptance(counts: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return the acceptance of each kind of move, and the share of all proposals lost to the scope rule."""
    proposed = sum(count[0] for count in counts.values())
    return {
        "acceptance": {
            label: {"proposed": n, "accepted": yes / n, "lost": lost / n}
            for label, (n, yes, lost) in sorted(counts.items())
        },
        "acceptance_overall": sum(count[1] for count in counts.values()) / max(proposed, 1),
        "lost_share": sum(count[2] for count in counts.values()) / max(proposed, 1),
    }
