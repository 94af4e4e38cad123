# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Random-walk Metropolis-Hastings whose chains also move to runs that a network proposes.

The network finds the regions of the posterior, as in inference compilation, and the steps of single entries cover them.
Replicas at higher temperatures are not needed to reach these regions, but help where the proposals are much wider than
the posterior: the network is then efficient for a lower power of the likelihood, and swaps carry its states down. The
hottest replica therefore has the highest inverse temperature at which runs of the network are effective.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from etalumis import seeds
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference.annealing import starting_beta
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.compilation import network_input, new_counts, weighted_runs
from etalumis.inference.entry_selection import EntrySelection
from etalumis.inference.first_runs import first_runs
from etalumis.inference.kernel import Settings
from etalumis.inference.network_moves import NetworkMoves
from etalumis.inference.observations import Observations
from etalumis.inference.posterior import Posterior
from etalumis.inference.proposal_controller import ProposalSource
from etalumis.inference.rmh import Sampling
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.state import StructureCache
from etalumis.inference.tempering import Ladder
from etalumis.log_weights import normalise

ENGINE = "network_rmh"
"""Name of the engine."""
_SHARED_REPLAYS = 1000
"""Largest number of prior runs for the 1/Z of a context, among the runs that the chains start from."""

_EFFECTIVE_CANDIDATES = 0.5
"""Effective sample size of the candidates of a comparison that needs no higher temperature: every second or third then
changes the state."""


class NetworkRmhSettings(NamedTuple):
    """How the replicas move.

    Attributes
    ----------
    temperatures
        Number of replicas, if the runs of the network are not effective at temperature 1 already.
    steps
        Number of steps of single entries of each replica and sweep.
    candidates
        Number of runs of the network that the state of one replica, in turn, is compared with in each sweep.
    replays, shared_replays
        Number of prior runs for the 1/Z of each proposed rejection scope in such a comparison: of a scope of one run,
        and of all scopes with the same context, if this has discrete controlled entries only; 0: none are shared. See
        `etalumis.inference.acceptance` for when sharing is exact.
    """

    temperatures: int = 4
    steps: int = 32
    candidates: int = 64
    replays: int = 1
    shared_replays: int = 0

    @property
    def runs_per_sweep(self) -> int:
        """Number of runs of a sweep with all temperatures, apart from replays."""
        return self.temperatures * self.steps + self.candidates


def network_rmh(
    model: Model | Callable[[], float | None],
    observations: Mapping[str, Any],
    network: Any,
    *,
    runs: int,
    seed: int,
    chain: int = 0,
    burn_in: int = 0,
    thin: int = 1,
    init_runs: int = 2000,
    settings: NetworkRmhSettings | None = None,
    in_flight: int = 64,
    focus: Collection[str] | None = None,
    retries: int = 3,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior with one chain that also moves to runs that a trained `network` proposes.

    Values are proposed for up to `in_flight` runs at a time; the draws are the same for any number. See
    `sample_with_network_moves` for the others.
    """
    if in_flight < 1:
        raise InferenceError(f"{ENGINE}: expected in_flight >= 1, found {in_flight}")
    session = network.session(network_input(network.layers, Observations(observations)), lanes=in_flight)
    return sample_with_network_moves(
        model, observations, session, runs=runs, seed=seed, chain=chain, burn_in=burn_in, thin=thin,
        init_runs=init_runs, settings=settings, focus=focus, retries=retries, entries=entries, checkpoint=checkpoint,
    )  # fmt: skip


def sample_with_network_moves(
    model: Model | Callable[[], float | None],
    observations: Mapping[str, Any],
    session: ProposalSource,
    *,
    runs: int,
    seed: int,
    chain: int = 0,
    burn_in: int = 0,
    thin: int = 1,
    init_runs: int = 2000,
    settings: NetworkRmhSettings | None = None,
    focus: Collection[str] | None = None,
    retries: int = 3,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior with one chain that also moves to runs that `session` proposes.

    A sweep is `settings.steps` steps of single entries of every replica, then one move of `NetworkMoves` of one
    replica, in turn, then swaps.

    Parameters
    ----------
    model
        The model to run, or a Python function with the statements of `etalumis.models`.
    observations
        Name of the observe statement -> value, see `Observations`.
    session
        The network, given the observation.
    runs
        Largest number of runs of steps and candidates, including the burn-in: the chain makes
        `runs // settings.runs_per_sweep` sweeps, which take fewer runs if one temperature is enough.
    seed, chain
        The chain's draws come from (seed, "posteriors/network_rmh", chain).
    burn_in
        Number of initial sweeps to discard.
    thin
        After the burn-in, the state of the cold replica is kept after every `thin`-th sweep.
    init_runs
        Number of runs of the network from which the temperatures and the initial states are chosen; not in `runs`.
    settings
        See `NetworkRmhSettings`.
    focus
        Names of the entries that steps choose more often (None: all with a name).
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
        If the settings or the observations do not fit, a likelihood is NaN, no run of the network can produce the
        observation, or replaying a trace gives a different one.
    """
    settings = settings or NetworkRmhSettings()
    if min(settings[:-1]) < 1 or settings.shared_replays < 0:
        raise InferenceError(f"{ENGINE}: expected settings of 1 or more, and shared_replays >= 0; found {settings}")
    sweeps = runs // settings.runs_per_sweep
    if not 0 <= burn_in < sweeps or thin < 1 or init_runs < 1:
        raise InferenceError(
            f"{ENGINE}: expected 0 <= burn_in < sweeps, thin >= 1, init_runs >= 1; found burn_in {burn_in}, sweeps "
            f"{sweeps} ({runs} runs, {settings.runs_per_sweep} per sweep), thin {thin}, init_runs {init_runs}"
        )
    stage = f"posteriors/{ENGINE}"
    runner = ModelRunner(model, Observations(observations), seeds.derive(seed, stage, chain), retries)
    ladder = _Ladder(runner, session, seed, chain, settings, focus)
    sampling = Sampling(ENGINE, ladder, seed, sweeps, burn_in, thin, chain, EntrySelection.of(entries), checkpoint)
    posterior = sampling.run(init_runs)
    posterior.info.update(
        seed=seed, runs=runs, burn_in=burn_in, thin=thin, init_runs=init_runs, settings=settings._asdict()
    )
    return posterior


class _Ladder(Ladder):
    """Replicas that start from runs of the network, and move to others."""

    def __init__(
        self,
        runner: ModelRunner,
        session: ProposalSource,
        seed: int,
        chain: int,
        settings: NetworkRmhSettings,
        focus: Collection[str] | None,
    ) -> None:
        stage = f"posteriors/{ENGINE}"
        super().__init__(runner, seeds.generator(seed, stage, chain), Settings(), focus=focus)
        self._session, self._seed, self._number, self._moves_of = session, seed, chain, settings
        self._stage = f"{stage}/{chain}"
        self._network_moves = NetworkMoves(
            runner,
            session,
            seed,
            self._stage,
            candidates=settings.candidates,
            replays=settings.replays,
            shared_replays=settings.shared_replays,
        )

    def start(self, init_runs: int) -> None:
        """Choose the temperatures and the initial states from `init_runs` runs of the network.

        Raises
        ------
        InferenceError
            If none of them can produce the observation, or a replay of the initial state differs.
        """
        replays = {"replays": 1, "shared_replays": _SHARED_REPLAYS if self._moves_of.shared_replays else 0}
        runs = first_runs(
            weighted_runs(
                self.runner, self._session, range(init_runs), self._seed, f"{self._stage}/start", scopes="auto",
                counts=new_counts(), **replays,
            ),
            init_runs, StructureCache(self._focus), self.runner.model.name, f"{ENGINE} chain {self._number}",
        )  # fmt: skip
        enough = _EFFECTIVE_CANDIDATES * init_runs / self._moves_of.candidates
        hottest, _ = starting_beta(runs.log_weight, runs.log_likelihood, enough)
        self._set_up(_betas(self._moves_of.temperatures, hottest))
        for replica in self.replicas:
            weight = normalise(runs.log_weight + replica.beta * runs.log_likelihood)
            replica.state = runs.states[int(self._rng.choice(len(weight), p=weight))]
        self._first = self.state
        self.replicas[0].check_replay(self.state, times=2)

    def _sweep(self) -> bool:
        """Make the steps and the move of a sweep, then swap; return whether the state of the cold replica changed."""
        before = self.state
        for replica in self.replicas:
            replica.advance(replica.state, self._moves_of.steps, draw_seed(self._rng))
        self._network_moves.move(self.replicas[self.sweeps % len(self.replicas)])
        if len(self.replicas) > 1:
            self._exchange()
        self.sweeps += 1
        return self.state is not before

    def snapshot(self) -> dict[str, Any]:
        """Return the JSON values that `resume` needs."""
        return {**super().snapshot(), "network_moves": self._network_moves.snapshot()}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Restore a snapshot; raises like `Ladder.resume`."""
        self._set_up(snapshot["betas"])
        self._network_moves.resume(snapshot["network_moves"])
        super().resume(snapshot)


def _betas(count: int, hottest: float) -> tuple[float, ...]:
    """Return inverse temperatures from 1 to `hottest`: in equal ratios, or in equal steps to 0; only 1 if it is 1."""
    if count == 1 or hottest == 1.0:
        return (1.0,)
    if hottest == 0.0:
        return tuple(np.linspace(1.0, 0.0, count).tolist())
    return tuple(np.geomspace(1.0, hottest, count).tolist())
