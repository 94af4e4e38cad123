# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Random-walk Metropolis-Hastings over simulator traces, tempered, collapsed over rejection scopes (Section 4.2)."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from etalumis import seeds
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.draws import Draw
from etalumis.inference.kernel import Settings
from etalumis.inference.observations import Observations
from etalumis.inference.posterior import Posterior
from etalumis.inference.runner import ModelRunner
from etalumis.inference.tempering import Ladder
from etalumis.progress import Progress

ADAPTATIONS = 5
"""Times the temperatures are placed anew: after the burn-in, and after a half, a quarter, ... of it."""


def rmh(
    model: Model,
    observations: Mapping[str, Any],
    *,
    runs: int,
    seed: int,
    chain: int = 0,
    burn_in: int = 0,
    thin: int = 1,
    betas: Sequence[float] = (1.0,),
    init_runs: int = 100,
    settings: Settings | None = None,
    focus: Collection[str] | None = None,
    retries: int = 3,
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior with one chain, a ladder of `len(betas)` replicas (`inference.tempering`).

    Parameters
    ----------
    model
        What to run.
    observations
        Observe name -> value.
    runs
        Steps of all replicas together, burn-in included; each is at most one run of the model. The chain makes
        `runs // len(betas)` sweeps: one step of every replica, then swaps.
    seed, chain
        The chain's draws come from (seed, "posteriors/rmh", chain).
    burn_in
        First sweeps, which are not kept.
    thin
        The cold replica's state is kept after every `thin`-th sweep from there on.
    betas
        Inverse temperatures, from 1 strictly downwards to 0 or more; (1,) is no tempering. The burn-in moves those
        between the ends towards equal swap rates.
    init_runs
        Prior runs to choose the start from; not counted in `runs`.
    settings, focus
        Shares of the cold replica's moves, and the names of the entries that get the focus share (None: all that
        have a name).
    retries
        How often in a row a failed simulator is replaced.
    checkpoint
        Where an interrupted chain goes on; the draws are the same as without an interruption.

    Returns
    -------
    Posterior
        Draws of log weight 0, `(sweeps - burn_in) // thin` of them.

    Raises
    ------
    InferenceError
        The observations do not fit the model, a likelihood is NaN, no prior run can produce the observation, or
        replaying a trace gives another one.
    """
    sweeps = runs // max(len(betas), 1)
    if not 0 <= burn_in < sweeps or thin < 1 or init_runs < 1:
        raise InferenceError(
            f"rmh: expected 0 <= burn_in < sweeps, thin >= 1, init_runs >= 1; found burn_in {burn_in}, sweeps {sweeps} "
            f"({runs} runs of {len(betas)} temperatures), thin {thin}, init_runs {init_runs}"
        )
    settings = settings or Settings()
    runner = ModelRunner(model, Observations(observations), seeds.derive(seed, "posteriors/rmh", chain), retries)
    ladder = Ladder(runner, seeds.generator(seed, "posteriors/rmh", chain), settings, betas, focus)
    sampling = _Sampling(ladder, sweeps, burn_in, thin, chain, checkpoint)
    sampling.begin(init_runs)
    posterior = sampling.sample()
    posterior.info.update(
        seed=seed,
        runs=runs,
        burn_in=burn_in,
        thin=thin,
        init_runs=init_runs,
        settings=settings._asdict(),
        simulator_runs=runner.runs,
        failures=runner.failures,
        wall_s=sampling.wall_s,
        runs_per_s=runner.runs / sampling.wall_s,
        **ladder.info(),
    )
    return posterior


class _Sampling:
    """The loop over sweeps: which states are kept, progress, and interruptions."""

    def __init__(
        self, ladder: Ladder, sweeps: int, burn_in: int, thin: int, chain: int, checkpoint: Checkpoint | None
    ) -> None:
        self.ladder, self.sweeps, self.burn_in, self.thin, self.chain = ladder, sweeps, burn_in, thin, chain
        self.checkpoint = checkpoint
        self._adapt_after = {burn_in >> halvings for halvings in range(ADAPTATIONS)}
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
            self.ladder.start(init_runs)
            return
        posterior, state = found
        self._earlier, self._wall_before = [posterior], state["wall_s"]
        self.ladder.resume(state["ladder"])

    def sample(self) -> Posterior:
        """Make the remaining sweeps and return all draws."""
        ladder, last, accepted, sweep = self.ladder, None, 0, 0
        first = ladder.sweeps

        def shown() -> dict[str, object]:
            return self._shown(accepted / (sweep + 1 - first))

        with Progress(self.sweeps, "sweeps", f"rmh chain {self.chain}", done=first) as progress:
            for sweep in range(first, self.sweeps):
                accepted += ladder.sweep()
                if sweep + 1 in self._adapt_after:
                    ladder.adapt()
                if self._keeps(sweep):
                    state = ladder.state
                    self._draws.append(self._draws[-1] if state is last and self._draws else state.draw())
                    last = state
                progress.tick(shown)
                if self.checkpoint is not None and self.checkpoint.due:
                    self._save(self.checkpoint)
        ladder.check_replay()
        return self._so_far()

    def _shown(self, accepted: float) -> dict[str, object]:
        shown: dict[str, object] = {"accepted": f"{accepted:.2f}"}
        if len(self.ladder.replicas) > 1:
            shown.update(swapped=f"{self.ladder.lowest_swap_rate:.2f}", round_trips=self.ladder.round_trips)
        return shown

    def _keeps(self, sweep: int) -> bool:
        return sweep >= self.burn_in and (sweep - self.burn_in) % self.thin == self.thin - 1

    def _so_far(self) -> Posterior:
        new = Posterior.of_draws("rmh", self._draws, [0.0] * len(self._draws), self.chain, {})
        whole = Posterior.appended([*self._earlier, new])
        self._earlier, self._draws = [whole], []
        return whole

    def _save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save(self._so_far(), {"wall_s": self.wall_s, "ladder": self.ladder.snapshot()})
