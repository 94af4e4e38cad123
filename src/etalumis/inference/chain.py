# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A Markov chain over traces: its start, its steps, and going on after an interruption."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from etalumis.errors import InferenceError
from etalumis.inference.controllers import Prior, Restore
from etalumis.inference.kernel import START, Change, Move, Settings, choose_move, log_acceptance
from etalumis.inference.runner import Runner
from etalumis.inference.state import State
from etalumis.trace import Trace


class Chain:
    """One Markov chain: `start` draws its first state, `step` moves it.

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
    """

    def __init__(
        self, runner: Runner, rng: np.random.Generator, settings: Settings, focus: Collection[str] | None = None
    ) -> None:
        self.runner, self.rng, self.settings = runner, rng, settings
        self._focus = focus
        self.counts: dict[str, list[int]] = {}
        """Kind of move -> [proposed, accepted, lost to the scope rule]."""
        self.state: State | None = None

    def start(self, init_runs: int) -> None:
        """Run the prior `init_runs` times and start from one of the traces, drawn by likelihood.

        Where a chain starts does not bias it; a likely start shortens the burn-in.

        Raises
        ------
        InferenceError
            Where the observation has likelihood zero in all of them.
        """
        kept: Trace | None = None
        total = -math.inf
        for _ in range(init_runs):
            trace, _ = self.runner.run(self.rng, lambda: Prior(self.rng, self.runner.observations))
            log_likelihood = trace.log_likelihood
            total = float(np.logaddexp(total, log_likelihood))
            # keeping each new trace with its share of the total so far draws one by weight, without storing all
            if log_likelihood > -math.inf and math.log(1.0 - self.rng.random()) <= log_likelihood - total:
                kept = trace
        if kept is None:
            raise InferenceError(
                f"{self.runner.model.name}: the observation has likelihood zero in all of {init_runs} prior runs, so "
                "the chain has no place to start; expected at least one run that can produce it. Check the "
                "observation, or allow more prior runs."
            )
        self.state = State(kept, self._focus)

    def snapshot(self) -> dict[str, Any]:
        """Return what `resume` needs, JSON-able."""
        state = self._require_state()
        return {
            "addresses": [self.runner.addresses.name(address) for address in state.address],
            "values": state.value,
            "log_likelihood": state.log_likelihood,
            "rng": self.rng.bit_generator.state,
            "counts": self.counts,
            "simulator_runs": self.runner.runs,
            "failures": self.runner.failures,
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken: its trace is replayed, its generator set back.

        Raises
        ------
        InferenceError
            Where the replayed trace is another one: the model is not the one of the snapshot.
        """
        self.rng.bit_generator.state = snapshot["rng"]
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
        self.runner.runs, self.runner.failures = snapshot["simulator_runs"], snapshot["failures"]

    def _require_state(self) -> State:
        if self.state is None:
            raise InferenceError("this chain has no state yet: call start() or resume() first")
        return self.state

    def step(self) -> bool:
        """Propose one move and return whether it was accepted."""
        state = self._require_state()
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
        log_ratio = log_acceptance(state, move, change, trace, new, self.settings)
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
