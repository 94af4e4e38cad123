# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Parallel tempering: replicas of a chain at several temperatures that exchange their states.

Replica k samples prior x likelihood^beta_k with 1 = beta_0 > ... > beta_{K-1} >= 0. The cold one, beta_0, samples the
posterior; the hot ones cross where its likelihood has valleys, and swaps bring the cold one to the other side. The
method: Swendsen and Wang 1986, Geyer 1991; pairs by turns, and the placing of the temperatures: Syed, Bouchard-Cote,
Deligiannidis and Doucet 2022. The paper's RMH is the case K = 1.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from etalumis.errors import InferenceError
from etalumis.inference.chain import Chain, acceptance
from etalumis.inference.kernel import Settings
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.state import ChainState
from etalumis.trace import Trace

HOT_TAIL_SHARE, HOT_ANEW_SHARE = 0.5, 0.1
"""Shares of the moves towards beta = 0, where what is drawn from the prior is accepted more often."""
ENOUGH_SWAPS = 10
"""Proposed swaps of every pair before their rates say anything about where temperatures should be."""


def inverse_temperatures(count: int, hottest_beta: float) -> tuple[float, ...]:
    """Return `count` inverse temperatures: 1 to `hottest_beta` in equal ratios, and 0, the prior, as the last one.

    Equal ratios give about equal swap rates where the likelihood is near Gaussian in the latents. One temperature is
    (1,), plain Metropolis-Hastings; two are (1, 0), without a use for `hottest_beta`.

    Raises
    ------
    InferenceError
        Where `count` < 1 or `hottest_beta` is not inside (0, 1).
    """
    if count < 1 or not 0.0 < hottest_beta < 1.0:
        raise InferenceError(
            f"temperatures: expected a count of 1 or more and 0 < hottest_beta < 1; found {count} and {hottest_beta}"
        )
    if count == 1:
        return (1.0,)
    steps = max(count - 2, 1)
    return (*(hottest_beta ** (k / steps) for k in range(count - 1)), 0.0)


def equalise_swap_rates(betas: Sequence[float], rejection: Sequence[float]) -> tuple[float, ...]:
    """Return a ladder of as many inverse temperatures, the ends the same, with equal swap rejection between them.

    The rejection of swaps adds up along the ladder (nearly, for close temperatures): with R(beta) the sum from the cold
    end, the new inverse temperatures lie at equal steps of R. Between two old ones, R is taken as linear in log beta,
    or in beta where the hotter is 0 (Syed et al. 2022, Algorithm 4, with a cubic there).

    Parameters
    ----------
    betas
        (K,) inverse temperatures now.
    rejection
        (K - 1,) mean rejection probability of the swaps of each neighbouring pair, positive.
    """
    barrier = np.concatenate([[0.0], np.cumsum(rejection)])
    placed = []
    for wanted in np.linspace(0.0, barrier[-1], len(betas))[1:-1]:
        i = min(int(np.searchsorted(barrier, wanted, side="right")) - 1, len(rejection) - 1)
        share = float((wanted - barrier[i]) / rejection[i])
        cold, hot = betas[i], betas[i + 1]
        placed.append(cold * (hot / cold) ** share if hot > 0.0 else cold * (1.0 - share))
    return (betas[0], *placed, betas[-1])


def replica_settings(settings: Settings, beta: float) -> Settings:
    """Return the shares of the moves of a replica, which depend on its temperature but not on its state.

    Towards beta = 0 more moves draw from the prior. At 0 all redraw everything, and are accepted: independent draws.
    """
    if beta == 0.0:
        return settings._replace(anew_share=1.0)
    heat = 1.0 - math.sqrt(beta)
    return settings._replace(
        tail_share=settings.tail_share + heat * max(HOT_TAIL_SHARE - settings.tail_share, 0.0),
        anew_share=settings.anew_share + heat * max(HOT_ANEW_SHARE - settings.anew_share, 0.0),
    )


def check_betas(betas: Sequence[float]) -> None:
    """Check a ladder of inverse temperatures.

    Raises
    ------
    InferenceError
        Where it does not fall from 1, strictly, to 0 or more.
    """
    falls = all(a > b for a, b in pairwise(betas))
    if not betas or betas[0] != 1.0 or betas[-1] < 0.0 or not falls:
        raise InferenceError(
            f"inverse temperatures: expected 1 = beta_0 > beta_1 > ... >= 0, found {list(betas)}; "
            "inverse_temperatures() makes such a ladder"
        )


class Ladder:
    """Replicas of one chain, the coldest first; all of them share a simulator and a generator.

    Parameters
    ----------
    runner, rng, settings, focus
        As of `Chain`; `settings` are those of the cold replica.
    betas
        Inverse temperatures from 1 downwards.

    Attributes
    ----------
    sweeps
        Sweeps done: one step of every replica, then swaps.
    """

    def __init__(
        self,
        runner: ModelRunner,
        rng: np.random.Generator,
        settings: Settings,
        betas: Sequence[float] = (1.0,),
        focus: Collection[str] | None = None,
    ) -> None:
        check_betas(betas)
        self.runner, self._rng, self._settings = runner, rng, settings
        self.replicas = [Chain(runner, rng, replica_settings(settings, beta), focus, beta) for beta in betas]
        self.sweeps = 0
        self._first: ChainState | None = None
        self._swaps = [[0, 0.0] for _ in betas[1:]]  # of each neighbouring pair: proposed, sum of min(1, a)
        self._walks = Walks(len(betas))

    @property
    def state(self) -> ChainState:
        """State of the cold replica: a draw of the posterior."""
        return self.replicas[0].state

    def start(self, init_runs: int) -> None:
        """Run the prior `init_runs` times and start each replica from one of the traces, drawn by likelihood^beta.

        Where a chain starts does not bias it; a likely start shortens the burn-in. At beta = 0 it is a plain prior run.

        Raises
        ------
        InferenceError
            Where the observation has likelihood zero in all of them, or a replay of a start differs from it.
        """
        kept: list[Trace | None] = [None] * len(self.replicas)
        total = [-math.inf] * len(self.replicas)
        starts = [draw_seed(self._rng) for _ in range(init_runs)]
        for trace in self.runner.priors(starts, details=True):
            if trace.log_likelihood == -math.inf:
                continue
            for k, replica in enumerate(self.replicas):
                log_weight = replica.beta * trace.log_likelihood
                total[k] = float(np.logaddexp(total[k], log_weight))
                # keeping each new trace with its share of the total so far draws one by weight, without storing all
                if math.log(1.0 - self._rng.random()) <= log_weight - total[k]:
                    kept[k] = trace
        for replica, found in zip(self.replicas, kept, strict=True):
            if found is None:
                raise InferenceError(
                    f"{self.runner.model.name}: the observation has likelihood zero in all of {init_runs} prior runs, "
                    "so the chain has no place to start; expected at least one run that can produce it. Check the "
                    "observation, or allow more prior runs."
                )
            replica.state = replica.structures.state(found)
        self._first = self.state
        self.replicas[0].check_replay(self.state, times=2)
        if len(self.replicas) == 1:
            self.replicas[0].start_remote_steps()

    def sweep(self) -> bool:
        """Take one step of every replica, then propose swaps; return whether the cold replica's step was accepted.

        After 1, 2, 4, 8, ... sweeps, the cold replica's trace and its first one are replayed and compared, at next to
        no cost.
        """
        accepted = self._sweep()
        if self.sweeps & (self.sweeps - 1) == 0:
            self.check_replay()
        return accepted

    def check_replay(self) -> None:
        """Replay the cold replica's trace and its first one (of this process); raise InferenceError if one differs.

        The first one shows whether the model has changed since; the last one, what only some traces show.
        """
        for state in dict.fromkeys((self._first, self.state)):
            if state is not None:
                self.replicas[0].check_replay(state)

    def _sweep(self) -> bool:
        if len(self.replicas) == 1:
            self.sweeps += 1
            return self.replicas[0].step()
        accepted = self._step()
        # Even and odd pairs by turns: a state that climbs goes on climbing, where random pairs would let it diffuse.
        for i in range(self.sweeps % 2, len(self._swaps), 2):
            self._swap(i)
        self._walks.record()
        self.sweeps += 1
        return accepted

    def _step(self) -> bool:
        """Take the steps, whose runs a model of several processes does at the same time, whatever their number alike.

        All replicas choose their moves first, then the model is run, then all decide: none of these looks at another
        replica's state, so that it is the same Markov chain as one step after the other.
        """
        proposals = [(replica, found) for replica in self.replicas if (found := replica.propose()) is not None]
        makes = [partial(replica.change, proposal) for replica, proposal in proposals]
        runs = self.runner.run_all(self._rng, makes)
        accepted = {
            replica: replica.decide(proposal, trace, change)
            for (replica, proposal), (trace, change) in zip(proposals, runs, strict=True)
        }
        return accepted.get(self.replicas[0], False)

    def _swap(self, i: int) -> None:
        """Propose to exchange the states of replicas i and i + 1: log a = (beta_i - beta_j) (log L_j - log L_i)."""
        cold, hot = self.replicas[i], self.replicas[i + 1]
        log_ratio = (cold.beta - hot.beta) * (hot.state.log_likelihood - cold.state.log_likelihood)
        self._swaps[i][0] += 1
        self._swaps[i][1] += math.exp(min(log_ratio, 0.0))
        if math.log(1.0 - self._rng.random()) < log_ratio:
            cold.state, hot.state = hot.state, cold.state
            self._walks.exchange(i)

    def adapt(self) -> None:
        """Place the temperatures for equal swap rates, as seen since the last call, and count swaps anew.

        For the burn-in only: draws that are kept need temperatures that do not depend on earlier states.
        """
        if len(self._swaps) < 2 or min(swap[0] for swap in self._swaps) < ENOUGH_SWAPS:
            return
        # a pair that was never rejected so far still has some rejection
        rejection = [max(1.0 - rate / proposed, 0.5 / proposed) for proposed, rate in self._swaps]
        for replica, beta in zip(self.replicas, equalise_swap_rates(self.betas, rejection), strict=True):
            replica.beta, replica.settings = beta, replica_settings(self._settings, beta)
        self._swaps = [[0, 0.0] for _ in self._swaps]

    @property
    def betas(self) -> list[float]:
        """Inverse temperatures, from 1 downwards."""
        return [replica.beta for replica in self.replicas]

    @property
    def lowest_swap_rate(self) -> float:
        """Mean swap acceptance of the neighbours that swap least, since the temperatures were last placed.

        The narrowest place is what limits the way from hot to cold. 0 before any swap was proposed.
        """
        return min((rate / proposed for proposed, rate in self._swaps if proposed), default=0.0)

    @property
    def round_trips(self) -> int:
        """How often a state went from the cold replica to the hottest and back."""
        return self._walks.round_trips

    def info(self) -> dict[str, Any]:
        """Return, JSON-able, the acceptance of the cold replica's moves, and how states moved between the replicas."""
        facts = acceptance(self.replicas[0].counts)
        if len(self.replicas) > 1:
            facts["replica_acceptance"] = [
                acceptance(replica.counts)["acceptance_overall"] for replica in self.replicas
            ]
            facts["swap_acceptance"] = [rate / max(proposed, 1) for proposed, rate in self._swaps]
            facts["round_trips"] = self.round_trips
        return {"sweeps": self.sweeps, "inverse_temperatures": self.betas, **facts}

    def snapshot(self) -> dict[str, Any]:
        """Return what `resume` needs, JSON-able."""
        return {
            "replicas": [replica.snapshot() for replica in self.replicas],
            "betas": self.betas,
            "sweeps": self.sweeps,
            "swaps": self._swaps,
            "walks": self._walks.snapshot(),
            "rng": self._rng.bit_generator.state,
            "simulator_runs": self.runner.runs,
            "failures": self.runner.failures,
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken: every replica's trace is replayed, the generator set back.

        Raises
        ------
        InferenceError
            Where a replayed trace is another one: the model is not the one of the snapshot.
        """
        for replica, beta, saved in zip(self.replicas, snapshot["betas"], snapshot["replicas"], strict=True):
            replica.beta, replica.settings = beta, replica_settings(self._settings, beta)
            replica.resume(saved)
        self.sweeps, self._first = snapshot["sweeps"], self.state
        self._swaps = [list(swap) for swap in snapshot["swaps"]]
        self._walks.resume(snapshot["walks"])
        self._rng.bit_generator.state = snapshot["rng"]
        self.runner.runs, self.runner.failures = snapshot["simulator_runs"], snapshot["failures"]


class Walks:
    """Follows the states through the replicas, and counts the round trips cold -> hottest -> cold.

    A walker is what swaps carry from replica to replica; steps change its trace, not which walker it is.
    """

    def __init__(self, replicas: int) -> None:
        self._walker = list(range(replicas))  # at each replica
        self._been = ["nowhere"] * replicas  # of each walker: the last end of the ladder, once it was at the cold one
        self.round_trips = 0

    def exchange(self, i: int) -> None:
        """Exchange the walkers at replicas i and i + 1."""
        self._walker[i], self._walker[i + 1] = self._walker[i + 1], self._walker[i]

    def record(self) -> None:
        """Note who is at the ends, after the swaps of a sweep."""
        cold, hot = self._walker[0], self._walker[-1]
        if self._been[cold] == "hot":
            self.round_trips += 1
        self._been[cold] = "cold"
        if hot != cold and self._been[hot] == "cold":
            self._been[hot] = "hot"

    def snapshot(self) -> dict[str, Any]:
        """Return what `resume` needs, JSON-able."""
        return {"walker": self._walker, "been": self._been, "round_trips": self.round_trips}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken."""
        self._walker, self._been = list(snapshot["walker"]), list(snapshot["been"])
        self.round_trips = snapshot["round_trips"]
