# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Random-walk Metropolis-Hastings over simulator traces, tempered, collapsed over rejection scopes (Section 4.2)."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from etalumis import seeds
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.draws import Draw
from etalumis.inference.entry_selection import EntrySelection
from etalumis.inference.kernel import Settings
from etalumis.inference.observations import Observations
from etalumis.inference.posterior import Posterior
from etalumis.inference.predictive import predictive_check
from etalumis.inference.runner import ModelRunner
from etalumis.inference.tempering import Ladder
from etalumis.inference.trace_reservoir import TraceReservoir, places_for
from etalumis.progress import Progress

ADAPTATIONS = 5
"""Number of times that the temperatures are adapted: after the burn-in, and after 1/2, 1/4, ... of it."""


def rmh(
    model: Model | Callable[[], float | None],
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
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior with one chain, a ladder of `len(betas)` replicas (`inference.tempering`).

    Parameters
    ----------
    model
        The model to run, or a Python function with the statements of `etalumis.models`.
    observations
        Name of the observe statement -> value, see `Observations`.
    runs
        Total number of steps of all replicas, including the burn-in. Each step takes at most one run of the model. The
        chain makes `runs // len(betas)` sweeps: one step of every replica, then swaps.
    seed, chain
        The chain's draws come from (seed, "posteriors/rmh", chain).
    burn_in
        Number of initial sweeps to discard.
    thin
        After the burn-in, the state of the cold replica is kept after every `thin`-th sweep.
    betas
        Inverse temperatures, strictly decreasing from 1 to at least 0; (1,) for no tempering. The burn-in adapts those
        between the ends towards equal swap rates.
    init_runs
        Number of prior runs from which the initial states are chosen; not counted in `runs`.
    settings, focus
        Fractions of the moves of the cold replica, and the names of the focused entries (None: all with a name).
    retries
        Maximum number of consecutive restarts of a failed simulator.
    entries
        Controlled entries to keep by address: patterns as in `EntrySelection`.
    checkpoint
        Checkpoint to resume from and to write; the draws are the same as without an interruption.

    Returns
    -------
    Posterior
        Draws of log weight 0, `(sweeps - burn_in) // thin` of them.

    Raises
    ------
    InferenceError
        If the observations do not fit the model, a likelihood is NaN, no prior run can produce the observation, or
        replaying a trace gives a different one.
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
    sampling = Sampling("rmh", ladder, seed, sweeps, burn_in, thin, chain, EntrySelection.of(entries), checkpoint)
    posterior = sampling.run(init_runs)
    posterior.info.update(
        seed=seed, runs=runs, burn_in=burn_in, thin=thin, init_runs=init_runs, settings=settings._asdict()
    )
    return posterior


class Sampling:
    """The loop over the sweeps of a ladder: draws to keep, progress, and checkpoints.

    Parameters
    ----------
    engine
        Name of the engine.
    ladder
        The replicas.
    seed, sweeps, burn_in, thin, chain, selection, checkpoint
        As in `rmh`; `selection` are the entries to keep.
    """

    def __init__(
        self,
        engine: str,
        ladder: Ladder,
        seed: int,
        sweeps: int,
        burn_in: int,
        thin: int,
        chain: int,
        selection: EntrySelection | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._engine = engine
        self.ladder, self.sweeps, self.burn_in, self.thin, self.chain = ladder, sweeps, burn_in, thin, chain
        self._selection, self.checkpoint = selection, checkpoint
        self._adapt_after = {burn_in >> halvings for halvings in range(ADAPTATIONS)}
        self._began = time.perf_counter()
        self._wall_before = 0.0
        places = places_for((sweeps - burn_in) // thin)
        self._reservoir = TraceReservoir(ladder.runner.addresses, seed, f"posteriors/{engine}/{chain}", places)
        self._earlier: list[Posterior] = []
        self._draws: list[Draw] = []

    @property
    def wall_s(self) -> float:
        """Duration of the chain in seconds, summed over its interruptions."""
        return self._wall_before + time.perf_counter() - self._began

    def run(self, init_runs: int) -> Posterior:
        """Start or resume the chain, make its remaining sweeps, and return all draws with the counts of the ladder."""
        runner = self.ladder.runner
        self._begin(init_runs)
        posterior = self._sample()
        runner.finish()
        posterior.predictive = predictive_check(runner, self._reservoir)
        posterior.info.update(
            simulator_runs=runner.runs,
            failures=runner.failures,
            wall_s=self.wall_s,
            runs_per_s=runner.runs / self.wall_s,
            **self.ladder.info(),
        )
        return posterior

    def _begin(self, init_runs: int) -> None:
        """Start the chain, or resume an interrupted one."""
        found = self.checkpoint.load() if self.checkpoint is not None else None
        if found is None:
            self.ladder.start(init_runs)
            return
        posterior, state = found
        self._earlier, self._wall_before = [posterior], state["wall_s"]
        self.ladder.runner.observations.record_names(state.get("observed", ()))
        self._reservoir.resume(state["reservoir"])
        self.ladder.resume(state["ladder"])

    def _sample(self) -> Posterior:
        """Make the remaining sweeps, and return all draws."""
        ladder, last, accepted, sweep = self.ladder, None, 0, 0
        first = ladder.sweeps

        def shown() -> dict[str, object]:
            return self._shown(accepted / (sweep + 1 - first))

        with Progress(self.sweeps, "sweeps", f"{self._engine} chain {self.chain}", done=first) as progress:
            for sweep in range(first, self.sweeps):
                accepted += ladder.sweep()
                if sweep + 1 in self._adapt_after:
                    ladder.adapt()
                if self._keeps(sweep):
                    state = ladder.state
                    again = state is last and self._draws
                    self._draws.append(self._draws[-1] if again else state.draw(self._selection))
                    self._reservoir.offer(state.trace, 0.0)
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
        new = Posterior.from_draws(self._engine, self._draws, [0.0] * len(self._draws), self.chain, {})
        whole = Posterior.join_pieces([*self._earlier, new])
        self._earlier, self._draws = [whole], []
        return whole

    def _save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save(
            self._so_far(),
            {
                "wall_s": self.wall_s,
                "observed": self.ladder.runner.observations.seen,
                "reservoir": self._reservoir.snapshot(),
                "ladder": self.ladder.snapshot(),
            },
        )
