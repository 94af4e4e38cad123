# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Random-walk Metropolis-Hastings over simulator traces, collapsed over rejection scopes (paper, Section 4.2)."""

import time
from collections.abc import Collection, Mapping
from typing import Any

from etalumis import seeds
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference.chain import Chain, acceptance
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.draws import Draw, Summary
from etalumis.inference.kernel import Settings
from etalumis.inference.observations import Observations
from etalumis.inference.posterior import Posterior
from etalumis.inference.runner import Runner
from etalumis.progress import Progress


def rmh(
    model: Model,
    observations: Mapping[str, Any],
    *,
    runs: int,
    seed: int,
    chain: int = 0,
    burn_in: int = 0,
    thin: int = 1,
    init_runs: int = 100,
    settings: Settings | None = None,
    focus: Collection[str] | None = None,
    retries: int = 3,
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior with one chain of `runs` steps.

    Parameters
    ----------
    model
        What to run.
    observations
        Observe name -> value.
    runs
        Steps, burn-in included; each is at most one run of the model.
    seed, chain
        The chain's draws come from (seed, "posteriors/rmh", chain).
    burn_in
        First steps, which are not kept.
    thin
        Every `thin`-th state after that is kept.
    init_runs
        Prior runs to choose the start from; not counted in `runs`.
    settings, focus
        Shares of the moves, and the names of the entries that get the focus share (None: all that have a name).
    retries
        How often in a row a failed simulator is replaced.
    checkpoint
        Where an interrupted chain goes on; the draws are the same as without an interruption.

    Returns
    -------
    Posterior
        Draws of log weight 0, `(runs - burn_in) // thin` of them.

    Raises
    ------
    InferenceError
        The observations do not fit the model, a likelihood is NaN, no prior run can produce the observation, or
        replaying a trace gives another one.
    """
    if not 0 <= burn_in < runs or thin < 1 or init_runs < 1:
        raise InferenceError(
            f"rmh: expected 0 <= burn_in < runs, thin >= 1, init_runs >= 1; found burn_in {burn_in}, runs {runs}, "
            f"thin {thin}, init_runs {init_runs}"
        )
    settings = settings or Settings()
    runner = Runner(model, Observations(observations), seeds.derive(seed, "posteriors/rmh", chain), retries)
    machine = Chain(runner, seeds.generator(seed, "posteriors/rmh", chain), settings or Settings(), focus)
    sampling = _Sampling(machine, runs, burn_in, thin, chain, checkpoint)
    sampling.begin(init_runs)
    posterior = sampling.sample()
    posterior.info.update(
        seed=seed,
        runs=runs,
        burn_in=burn_in,
        thin=thin,
        init_runs=init_runs,
        settings=machine.settings._asdict(),
        simulator_runs=runner.runs,
        failures=runner.failures,
        wall_s=sampling.wall_s,
        runs_per_s=runner.runs / sampling.wall_s,
        **acceptance(machine.counts),
    )
    return posterior


class _Sampling:
    """The loop over steps: which states are kept, progress, and interruptions."""

    def __init__(
        self, machine: Chain, runs: int, burn_in: int, thin: int, chain: int, checkpoint: Checkpoint | None
    ) -> None:
        self.machine, self.runs, self.burn_in, self.thin, self.chain = machine, runs, burn_in, thin, chain
        self.checkpoint = checkpoint
        self._step = 0
        self._began = time.perf_counter()
        self._wall_before = 0.0
        self._earlier: list[Posterior] = []
        self._draws: list[Draw] = []

    @property
    def wall_s(self) -> float:
        """Seconds that the chain took, over all its interruptions."""
        return self._wall_before + time.perf_counter() - self._began

    def begin(self, init_runs: int) -> None:
        """Start the chain, or go on with an interrupted one."""
        found = self.checkpoint.load() if self.checkpoint is not None else None
        if found is None:
            self.machine.start(init_runs)
            return
        posterior, state = found
        self._earlier, self._step, self._wall_before = [posterior], state["step"], state["wall_s"]
        self.machine.resume(state["chain"])

    def sample(self) -> Posterior:
        """Take the remaining steps and return all draws."""
        summary, last, accepted = Summary(), None, 0
        first = self._step
        with Progress(self.runs, "steps", f"rmh chain {self.chain}", done=first) as progress:
            while self._step < self.runs:
                accepted += self.machine.step()
                state = self.machine.state
                if state is not None and self._keeps(self._step):
                    self._draws.append(self._draws[-1] if state is last and self._draws else summary.of(state.trace))
                    last = state
                self._step += 1
                progress.update(accepted=f"{accepted / (self._step - first):.2f}")
                if self.checkpoint is not None and self.checkpoint.due:
                    self._save(self.checkpoint)
        return self._so_far()

    def _keeps(self, step: int) -> bool:
        return step >= self.burn_in and (step - self.burn_in) % self.thin == self.thin - 1

    def _so_far(self) -> Posterior:
        new = Posterior.of_draws("rmh", self._draws, [0.0] * len(self._draws), self.chain, {})
        whole = Posterior.appended([*self._earlier, new])
        self._earlier, self._draws = [whole], []
        return whole

    def _save(self, checkpoint: Checkpoint) -> None:
        whole = self._so_far()
        checkpoint.save(whole, {"step": self._step, "wall_s": self.wall_s, "chain": self.machine.snapshot()})
