# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A Markov chain over traces: its steps, and going on after an interruption."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from etalumis.address import split
from etalumis.delegation import PlannedTrace, StepFlag
from etalumis.errors import InferenceError, ProtocolError
from etalumis.inference.controllers import (
    EXPECTED_REPLAY,
    RestoreController,
    SavedTrace,
    check_not_broken_off,
    replay_difference,
)
from etalumis.inference.kernel import START, Change, Move, Settings, choose_move, log_acceptance
from etalumis.inference.remote_steps import RemoteSteps
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.state import ChainState, StructureCache
from etalumis.trace import CONTROLLED, REPLACED, Trace


class ProposedChange(NamedTuple):
    """A move that the model has to be run for, and the row of the acceptance table that it belongs to."""

    state: ChainState
    move: Move
    row: list[int]


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
        """Where the chain is; `ChainState` is never changed in place, so chains may share and exchange one."""
        if self._state is None:
            raise InferenceError("this chain has no state yet: give it one, or call resume() first")
        return self._state

    @state.setter
    def state(self, state: ChainState) -> None:
        self._state = state

    def snapshot(self) -> dict[str, Any]:
        """Return what `resume` needs, JSON-able."""
        saved = self._saved(self.state)
        return {
            "keys": saved.keys,
            "values": saved.values,
            "scopes": saved.scopes,
            "log_likelihood": self.state.log_likelihood,
            "counts": self.counts,
            "remote_steps": None if self._remote is None else self._remote.snapshot(),
        }

    def _saved(self, state: ChainState) -> SavedTrace:
        """Return a state's trace in the form that can be replayed."""
        trace = state.trace
        flags = [trace.flags[i] & (CONTROLLED | REPLACED) for i in trace.accepted]
        bases = [split(self.runner.addresses.name(address)) for address in state.address]
        keys = [(*base, name, flag) for base, name, flag in zip(bases, state.name, flags, strict=True)]
        return SavedTrace(keys, state.value, list(state.scope))

    def _replay(self, saved: SavedTrace, rng: np.random.Generator) -> Trace:
        trace, _ = self.runner.run(
            rng, lambda: RestoreController(self.runner.addresses, saved, self.runner.observations)
        )
        return trace

    def check_replay(self, state: ChainState, times: int = 1) -> None:
        """Replay a state's trace and compare likelihood, tags and result; the chain's draws and count of runs stay.

        A chain samples another distribution than the posterior if the model draws random numbers of its own, or keeps
        a count from run to run, even if its addresses and priors do not show it. Two replays in a row catch both.

        Raises
        ------
        InferenceError
            If a replay differs.
        """
        runs, saved = self.runner.runs, self._saved(state)
        for _ in range(times):
            found = self._replay(saved, np.random.default_rng(0))
            if (difference := replay_difference(state.trace, found)) is not None:
                raise InferenceError(
                    f"{self.runner.model.name}: a replay of the chain's trace gave another one: {difference}. "
                    f"{EXPECTED_REPLAY}"
                )
        self.runner.runs = runs

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken: its trace is replayed. The generator is for the caller to set back.

        Raises
        ------
        InferenceError
            Where the replayed trace is another one: the model is not the one of the snapshot.
        """
        values = snapshot["values"]
        saved = SavedTrace([tuple(key) for key in snapshot["keys"]], values, snapshot["scopes"])
        trace = self._replay(saved, self.rng)
        if len(trace) != len(values) or trace.log_likelihood != snapshot["log_likelihood"]:
            raise InferenceError(
                f"{self.runner.model.name}: the trace to go on from has {len(trace)} entries and log likelihood "
                f"{trace.log_likelihood}; expected {len(values)} and {snapshot['log_likelihood']}. The model has "
                "changed: delete the .part file and start anew."
            )
        self.state = self.structures.state(trace)
        self.counts = {label: list(count) for label, count in snapshot["counts"].items()}
        if (saved_steps := snapshot.get("remote_steps")) is not None:
            stepper = self.runner.stepper
            if stepper is None:
                raise InferenceError(
                    f"{self.runner.model.name}: the steps of the chain to go on with were made by the simulator "
                    "itself, and this one makes none. Delete the .part file and start anew."
                )
            self._remote = RemoteSteps(self.runner, stepper, saved_steps["seed"], self._focus)
            self._remote.done = saved_steps["done"]

    def start_remote_steps(self) -> None:
        """Leave the steps from here on to the model, where it makes them by itself."""
        stepper = self.runner.stepper
        if stepper is not None:
            self._remote = RemoteSteps(self.runner, stepper, draw_seed(self.rng), self._focus)

    def step(self) -> bool:
        """Propose one move and return whether it was accepted."""
        if self._remote is not None:
            return self._step_of_model(self._remote)
        proposal = self.propose()
        if proposal is None:
            return False
        return self.decide(proposal, *self.runner.run(self.rng, lambda: self.change(proposal)))

    def _step_of_model(self, remote: RemoteSteps) -> bool:
        state = self.state
        position, flags, trace = remote.next(state, self.settings, self.beta)
        if flags & StepFlag.NOTHING:
            return False
        if not START <= position < len(state.control):
            raise ProtocolError(f"{self.runner.model.name}: a step that changes entry {position} of a shorter trace")
        row = self.counts.setdefault(_label(state, position, keep=not flags & StepFlag.TAIL), [0, 0, 0])
        row[0] += 1
        if flags & StepFlag.RUN:
            self.runner.stepped(trace)
        if flags & StepFlag.LOST:
            row[2] += 1
        if trace is None:
            return False
        check_not_broken_off(trace)
        _check_led_to(trace, flags, self.runner.model.name)
        row[1] += 1
        self.state = self.structures.state(trace)
        return True

    def propose(self) -> ProposedChange | None:
        """Choose a move; None where there is nothing to run the model for, and the chain stays where it is."""
        state = self.state
        move = choose_move(state, self.rng, self.settings)
        if move is None:
            return None
        row = self.counts.setdefault(_label(state, move.position, keep=move.keep), [0, 0, 0])
        row[0] += 1
        if move.log_ratio == -math.inf:
            return None  # the prior rules the value out
        return ProposedChange(state, move, row)

    def change(self, proposal: ProposedChange) -> Change:
        """Return the controller of a run with the move made."""
        return Change(proposal.state, proposal.move, self.rng, self.runner.observations)

    def decide(self, proposal: ProposedChange, trace: Trace, change: Change) -> bool:
        """Go to the trace that the run gave, or stay; return whether it was accepted."""
        state, move, row = proposal
        if change.lost:
            row[2] += 1
            return False
        new = self.structures.state(trace)
        if new.log_likelihood == -math.inf:
            return False
        log_ratio = log_acceptance(state, move, change, trace, new, self.settings, self.beta)
        accepted = math.log(1.0 - self.rng.random()) < log_ratio
        if accepted:
            row[1] += 1
            self.state = new
        return accepted


def _check_led_to(trace: PlannedTrace, flags: int, model: str) -> None:
    """Check that a chain may go to a trace that a step led to."""
    if math.isnan(trace.log_likelihood):  # no observe's is, or the runner had said so
        raise InferenceError(f"{model}: the log likelihood is NaN, as its terms have both infinities; mend the model")
    if flags & StepFlag.BROKEN or trace.lost or trace.log_likelihood == -math.inf:
        lost = ", lost to the scope rule" if trace.lost else ""
        raise ProtocolError(
            f"{model}: a step flagged {StepFlag(flags)!r} led to a trace of log likelihood {trace.log_likelihood}"
            f"{lost}; expected one to go to, or the reason why the step broke off"
        )


def _label(state: ChainState, position: int, *, keep: bool) -> str:
    """Return the kind of move for the acceptance table: by name of the entry, or by its distribution."""
    if position == START:
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
