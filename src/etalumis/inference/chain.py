# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A Markov chain over traces: its steps, and its snapshots for resuming."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from etalumis.delegation import RunPlan, StepFlag
from etalumis.errors import InferenceError, ProtocolError
from etalumis.inference.block_moves import BlockMove
from etalumis.inference.kernel import WHOLE_TRACE, Move, Settings, choose_move
from etalumis.inference.remote_steps import MAX_STEPS, RemoteSteps
from etalumis.inference.replays import (
    EXPECTED_REPLAY,
    SavedTrace,
    check_complete_replay,
    replay_difference,
    replay_plan,
    saved_trace,
)
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.state import ChainState, StructureCache
from etalumis.trace import Trace


class ProposedMove(NamedTuple):
    """A move that requires a run of the model, and its row of the acceptance table."""

    state: ChainState
    move: Move | BlockMove
    row: list[int]
    plan: RunPlan


BLOCK_MOVES = "block of entries"
"""Label of the block moves in the acceptance table."""
NETWORK_MOVES = "runs of the network"
"""Label of the moves to runs of a network."""


class Chain:
    """One Markov chain with target prior x likelihood^beta. Set its `state`, then call `step`.

    Its state never has likelihood zero, not even at beta = 0, so that swaps with other replicas never involve
    infinities. For beta > 0, such states have probability zero anyway.

    Parameters
    ----------
    runner
        Runs the model.
    rng
        Random generator of the chain.
    settings
        Fractions of the moves.
    focus
        Names of the focused entries; None for all entries with a name.
    beta
        Inverse temperature: 1 samples the posterior, 0 the prior.
    """

    def __init__(
        self,
        runner: ModelRunner,
        rng: np.random.Generator,
        settings: Settings,
        focus: Collection[str] | None = None,
        beta: float = 1.0,
    ) -> None:
        self.runner, self.rng, self.settings, self.beta = runner, rng, settings, beta
        self.structures = StructureCache(focus)
        self.counts: dict[str, list[int]] = {}
        """Kind of move -> [proposed, accepted, lost to the scope rule]."""
        self._state: ChainState | None = None
        self._focus = focus
        self._remote: RemoteSteps | None = None

    @property
    def state(self) -> ChainState:
        """Current state. A `ChainState` is never changed in place, so chains may share and exchange it."""
        if self._state is None:
            raise InferenceError("this chain has no state yet; set it, or call resume() first")
        return self._state

    @state.setter
    def state(self, state: ChainState) -> None:
        self._state = state

    def snapshot(self) -> dict[str, Any]:
        """Return the JSON values that `resume` needs."""
        saved = self.saved(self.state)
        return {
            "keys": saved.keys,
            "values": saved.values,
            "scopes": saved.scopes,
            "log_likelihood": self.state.log_likelihood,
            "counts": self.counts,
            "remote_steps": None if self._remote is None else self._remote.snapshot(),
        }

    def saved(self, state: ChainState) -> SavedTrace:
        """Return the trace of a state in the form that can be replayed."""
        return saved_trace(self.runner.addresses, state.trace)

    def _replay(self, saved: SavedTrace, rng: np.random.Generator) -> Trace:
        return self.runner.carry_out(replay_plan(saved, self.runner.observations), draw_seed(rng))

    def check_replay(self, state: ChainState, times: int = 1) -> None:
        """Replay the trace of a state and compare the log likelihood, the tags and the result.

        The draws of the chain and its count of runs do not change. If the model uses a random generator of its own, or
        keeps state between runs, the chain does not sample the posterior, even if addresses and priors never change.
        Two consecutive replays find both.

        Raises
        ------
        InferenceError
            If a replay differs from the trace.
        """
        runs, saved = self.runner.runs, self.saved(state)
        for _ in range(times):
            found = self._replay(saved, np.random.default_rng(0))
            if (difference := replay_difference(state.trace, found)) is not None:
                raise InferenceError(
                    f"{self.runner.model.name}: replaying a trace of the chain gave a different one: {difference}. "
                    f"{EXPECTED_REPLAY}"
                )
        self.runner.runs = runs

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Restore a snapshot by replaying its trace. The caller has to restore the random generator.

        Raises
        ------
        InferenceError
            If the replayed trace differs, so that the model is not that of the snapshot.
        """
        keys, values = [tuple(key) for key in snapshot["keys"]], snapshot["values"]
        self.state = self.restore(SavedTrace(keys, values, snapshot["scopes"]), snapshot["log_likelihood"])
        self.counts = {label: list(count) for label, count in snapshot["counts"].items()}
        if (saved_steps := snapshot.get("remote_steps")) is not None:
            stepper = self.runner.planned.stepper
            if stepper is None:
                raise InferenceError(
                    f"{self.runner.model.name}: the steps of the chain to resume were made by the simulator itself, "
                    "and this simulator makes none. Delete the .part file and start again."
                )
            self._remote = RemoteSteps(self.runner, stepper, saved_steps["seed"], self._focus)
            self._remote.done = saved_steps["done"]

    def restore(self, saved: SavedTrace, log_likelihood: float) -> ChainState:
        """Return the state of a saved trace, which is replayed.

        Raises
        ------
        InferenceError
            If the replayed trace differs, so that the model is not the one of the saved trace.
        """
        trace = self._replay(saved, self.rng)
        if len(trace) != len(saved.values) or trace.log_likelihood != log_likelihood:
            raise InferenceError(
                f"{self.runner.model.name}: the trace to resume from has {len(trace)} entries and log likelihood "
                f"{trace.log_likelihood}; expected {len(saved.values)} and {log_likelihood}. The model has "
                "changed: delete the .part file and start again."
            )
        return self.structures.state(trace)

    def start_remote_steps(self) -> None:
        """Let the model make all further steps, if it is able to."""
        stepper = self.runner.planned.stepper
        if stepper is not None:
            self._remote = RemoteSteps(self.runner, stepper, draw_seed(self.rng), self._focus)

    def advance(self, state: ChainState, steps: int, seed: int) -> ChainState:
        """Make some steps from a state and return the last state. The random numbers derive from `seed` only."""
        self.state = state
        stepper = self.runner.planned.stepper
        if stepper is not None:
            self._remote = RemoteSteps(self.runner, stepper, seed, self._focus, min(steps, MAX_STEPS))
        else:
            self.rng = np.random.Generator(np.random.PCG64(seed))
        for _ in range(steps):
            self.step()
        return self.state

    def step(self) -> bool:
        """Propose one move; return whether it was accepted."""
        if self._remote is not None:
            return self._remote_step(self._remote)
        proposal = self.propose()
        if proposal is None:
            return False
        return self.decide(proposal, self.runner.carry_out(proposal.plan, draw_seed(self.rng)))

    def _remote_step(self, remote: RemoteSteps) -> bool:
        state = self.state
        position, flags, trace = remote.next(state, self.settings, self.beta)
        if flags & StepFlag.NOTHING:
            return False
        if not WHOLE_TRACE <= position < len(state.control):
            raise ProtocolError(f"{self.runner.model.name}: a step that changes entry {position}, which does not exist")
        row = self.counts.setdefault(_label(state, position, keep=not flags & StepFlag.TAIL), [0, 0, 0])
        row[0] += 1
        if flags & StepFlag.RUN:
            self.runner.count_step(trace)
        if flags & StepFlag.LOST:
            row[2] += 1
        if trace is None:
            return False
        check_complete_replay(trace)
        _check_step_trace(trace, flags, self.runner.model.name)
        row[1] += 1
        self.state = self.structures.state(trace)
        return True

    def propose(self) -> ProposedMove | None:
        """Choose a move; return None if it is rejected without running the model."""
        state = self.state
        move = choose_move(state, self.rng, self.settings)
        if move is None:
            return None
        row = self.counts.setdefault(_label(state, move.position, keep=move.keep), [0, 0, 0])
        row[0] += 1
        if move.log_ratio == -math.inf:
            return None  # the prior density of the value is zero
        return ProposedMove(state, move, row, move.plan(state, self.runner.observations.values))

    def block_move(self, move: BlockMove) -> ProposedMove:
        """Return a proposed block move, and count it."""
        row = self.counts.setdefault(BLOCK_MOVES, [0, 0, 0])
        row[0] += 1
        return ProposedMove(move.state, move, row, move.plan(move.state, self.runner.observations.values))

    def decide(self, proposal: ProposedMove, trace: Trace) -> bool:
        """Accept or reject the trace of a proposal run; return whether it was accepted."""
        state, move, row, _ = proposal
        if trace.lost:
            row[2] += 1
            return False
        if not move.fits(trace) or trace.log_likelihood == -math.inf:
            return False
        new = self.structures.state(trace)
        accepted = math.log(1.0 - self.rng.random()) < move.log_acceptance(state, new, self.settings, self.beta)
        if accepted:
            row[1] += 1
            self.state = new
        return accepted


def _check_step_trace(trace: Trace, flags: int, model: str) -> None:
    """Check that a trace that a step led to may become the state of the chain."""
    if math.isnan(trace.log_likelihood):  # the runner has reported NaN terms already
        raise InferenceError(
            f"{model}: the log likelihood is NaN, since its terms include both infinities; correct the model"
        )
    if flags & StepFlag.BROKEN or trace.lost or trace.log_likelihood == -math.inf:
        lost = ", lost to the scope rule" if trace.lost else ""
        raise ProtocolError(
            f"{model}: a step flagged {StepFlag(flags)!r} led to a trace of log likelihood {trace.log_likelihood}"
            f"{lost}; expected a trace that can be a state, or the reason why the step broke off"
        )


def _label(state: ChainState, position: int, *, keep: bool) -> str:
    """Return the kind of move for the acceptance table: the name of the entry, or its distribution."""
    if position == WHOLE_TRACE:
        return "all redrawn"
    if not keep:
        return "tail redrawn"
    labels = state.structure.labels
    label = labels.get(position)
    if label is None:
        place = "in a scope" if state.scope[position] else "outside scopes"
        label = labels[position] = state.name[position] or f"{state.prior(position).kind} {place}"
    return label


def acceptance(counts: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return the acceptance rate of each kind of move, and the fraction of all proposals lost to the scope rule."""
    proposed = sum(count[0] for count in counts.values())
    return {
        "acceptance": {
            label: {"proposed": n, "accepted": yes / n, "lost": lost / n}
            for label, (n, yes, lost) in sorted(counts.items())
        },
        "acceptance_overall": sum(count[1] for count in counts.values()) / max(proposed, 1),
        "lost_share": sum(count[2] for count in counts.values()) / max(proposed, 1),
    }
