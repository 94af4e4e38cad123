# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Parallel tempering: replicas of a chain at several temperatures that exchange their states.

Replica k samples prior x likelihood^beta_k with 1 = beta_0 > ... > beta_{K-1} >= 0. The cold replica, beta_0, samples
the posterior. The hot ones cross regions of low likelihood, and swaps carry their states to the cold one. Method:
Swendsen and Wang 1986, Geyer 1991; alternating pairs and the choice of temperatures: Syed, Bouchard-Cote, Deligiannidis
and Doucet 2022. The RMH of the paper is the case K = 1.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from etalumis.errors import InferenceError
from etalumis.inference.chain import Chain, acceptance
from etalumis.inference.kernel import Settings
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.state import ChainState
from etalumis.inference.temperatures import check_betas, equalise_swap_rates, replica_settings
from etalumis.trace import Trace

MIN_SWAPS = 10
"""Minimum number of proposed swaps of every pair from which the temperatures are adapted."""


class Ladder:
    """Replicas of one chain, the coldest first, which share a simulator and a random generator.

    Parameters
    ----------
    runner, rng, settings, focus
        See `Chain`; `settings` are those of the cold replica.
    betas
        Inverse temperatures, decreasing from 1.

    Attributes
    ----------
    sweeps
        Number of completed sweeps: one step of every replica, then swaps.
    """

    def __init__(
        self,
        runner: ModelRunner,
        rng: np.random.Generator,
        settings: Settings,
        betas: Sequence[float] = (1.0,),
        focus: Collection[str] | None = None,
    ) -> None:
        self.runner, self._rng, self._settings, self._focus = runner, rng, settings, focus
        self.sweeps = 0
        self._first: ChainState | None = None
        self._set_up(betas)

    def _set_up(self, betas: Sequence[float]) -> None:
        """Create the replicas, without states."""
        check_betas(betas)
        self.replicas = [
            Chain(self.runner, self._rng, replica_settings(self._settings, beta), self._focus, beta) for beta in betas
        ]
        self._swaps = [[0, 0.0] for _ in betas[1:]]  # of each neighbouring pair: proposed, sum of min(1, a)
        self._round_trip_counter = RoundTripCounter(len(betas))

    @property
    def state(self) -> ChainState:
        """State of the cold replica: a draw from the posterior."""
        return self.replicas[0].state

    def start(self, init_runs: int) -> None:
        """Run the prior `init_runs` times, and start each replica from one of the traces, with weight likelihood^beta.

        The initial state does not bias a chain, but a likely one shortens the burn-in.

        Raises
        ------
        InferenceError
            If the observation has likelihood zero in all of them, or a replay of the initial state differs.
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
                # weighted reservoir sampling: draws one trace by weight without storing all of them
                if math.log(1.0 - self._rng.random()) <= log_weight - total[k]:
                    kept[k] = trace
        for replica, found in zip(self.replicas, kept, strict=True):
            if found is None:
                raise InferenceError(
                    f"{self.runner.model.name}: the observation has likelihood zero in all of {init_runs} prior runs, "
                    "so the chain has no initial state; expected at least one run that can produce it. Check the "
                    "observation, or allow more prior runs."
                )
            replica.state = replica.structures.state(found)
        self._first = self.state
        self.replicas[0].check_replay(self.state, times=2)
        if len(self.replicas) == 1:
            self.replicas[0].start_remote_steps()

    def sweep(self) -> bool:
        """Make one step of every replica, then propose swaps; return whether the step of the cold replica was accepted.

        After 1, 2, 4, 8, ... sweeps, `check_replay` is called, at negligible cost.
        """
        accepted = self._sweep()
        if self.sweeps & (self.sweeps - 1) == 0:
            self.check_replay()
        return accepted

    def check_replay(self) -> None:
        """Replay the initial and the current trace of the cold replica; raise InferenceError if one differs.

        The initial one shows whether the model has changed since then; the current one finds what only some traces
        reveal. After an interruption, the initial trace is that of the snapshot.
        """
        for state in dict.fromkeys((self._first, self.state)):
            if state is not None:
                self.replicas[0].check_replay(state)

    def _sweep(self) -> bool:
        if len(self.replicas) == 1:
            self.sweeps += 1
            return self.replicas[0].step()
        accepted = self._step()
        self._exchange()
        self.sweeps += 1
        return accepted

    def _exchange(self) -> None:
        """Propose to swap the states of every other pair of neighbours.

        Even and odd pairs alternate: a state that moves up the ladder keeps moving; random pairs would diffuse it.
        """
        for i in range(self.sweeps % 2, len(self._swaps), 2):
            self._swap(i)
        self._round_trip_counter.record()

    def _step(self) -> bool:
        """Make one step of every replica; a model with several processes makes the runs concurrently.

        First all replicas choose their moves, then the model runs, then all accept or reject. No replica uses the state
        of another one, so the result is that of successive steps, for any number of processes.
        """
        proposals = [(replica, found) for replica in self.replicas if (found := replica.propose()) is not None]
        traces = self.runner.carry_out_all([(proposal.plan, draw_seed(self._rng)) for _, proposal in proposals])
        accepted = {
            replica: replica.decide(proposal, trace)
            for (replica, proposal), trace in zip(proposals, traces, strict=True)
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
            self._round_trip_counter.exchange(i)

    def adapt(self) -> None:
        """Adapt the temperatures to the swap rates since the last call, and reset the counts of swaps.

        Only during the burn-in: for draws that are kept, the temperatures must not depend on earlier states.
        """
        if len(self._swaps) < 2 or min(swap[0] for swap in self._swaps) < MIN_SWAPS:
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
        """Lowest mean swap acceptance of any neighbouring pair since the temperatures were last adapted.

        This pair limits the exchange between hot and cold. 0 if no swap has been proposed yet.
        """
        return min((rate / proposed for proposed, rate in self._swaps if proposed), default=0.0)

    @property
    def round_trips(self) -> int:
        """How often a state went from the cold replica to the hottest and back."""
        return self._round_trip_counter.round_trips

    def info(self) -> dict[str, Any]:
        """Return the acceptance of the moves of the cold replica, and of the swaps, as JSON values."""
        facts = acceptance(self.replicas[0].counts)
        if len(self.replicas) > 1:
            facts["replica_acceptance"] = [
                acceptance(replica.counts)["acceptance_overall"] for replica in self.replicas
            ]
            facts["swap_acceptance"] = [rate / max(proposed, 1) for proposed, rate in self._swaps]
            facts["round_trips"] = self.round_trips
        return {"sweeps": self.sweeps, "inverse_temperatures": self.betas, **facts}

    def snapshot(self) -> dict[str, Any]:
        """Return the JSON values that `resume` needs."""
        return {
            "replicas": [replica.snapshot() for replica in self.replicas],
            "betas": self.betas,
            "sweeps": self.sweeps,
            "swaps": self._swaps,
            "walks": self._round_trip_counter.snapshot(),
            "rng": self._rng.bit_generator.state,
            "simulator_runs": self.runner.runs,
            "failures": self.runner.failures,
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Restore a snapshot: replay the trace of every replica, and restore the random generator.

        Raises
        ------
        InferenceError
            If a replayed trace differs, so that the model is not that of the snapshot.
        """
        for replica, beta, saved in zip(self.replicas, snapshot["betas"], snapshot["replicas"], strict=True):
            replica.beta, replica.settings = beta, replica_settings(self._settings, beta)
            replica.resume(saved)
        self.sweeps, self._first = snapshot["sweeps"], self.state
        self._swaps = [list(swap) for swap in snapshot["swaps"]]
        self._round_trip_counter.resume(snapshot["walks"])
        self._rng.bit_generator.state = snapshot["rng"]
        self.runner.runs, self.runner.failures = snapshot["simulator_runs"], snapshot["failures"]


class RoundTripCounter:
    """Counts the round trips of states through the ladder: cold -> hottest -> cold.

    Swaps carry a walker from replica to replica; steps change its trace, but it stays the same walker.
    """

    def __init__(self, replicas: int) -> None:
        self._walker = list(range(replicas))  # the walker at each replica
        # by walker: the end that it visited last; "nowhere" until it has been at the cold end
        self._last_end = ["nowhere"] * replicas
        self.round_trips = 0

    def exchange(self, i: int) -> None:
        """Exchange the walkers at replicas i and i + 1."""
        self._walker[i], self._walker[i + 1] = self._walker[i + 1], self._walker[i]

    def record(self) -> None:
        """Record which walkers are at the ends, after the swaps of a sweep."""
        cold, hot = self._walker[0], self._walker[-1]
        if self._last_end[cold] == "hot":
            self.round_trips += 1
        self._last_end[cold] = "cold"
        if hot != cold and self._last_end[hot] == "cold":
            self._last_end[hot] = "hot"

    def snapshot(self) -> dict[str, Any]:
        """Return the JSON values that `resume` needs."""
        return {"walker": self._walker, "been": self._last_end, "round_trips": self.round_trips}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Restore a snapshot."""
        self._walker, self._last_end = list(snapshot["walker"]), list(snapshot["been"])
        self.round_trips = snapshot["round_trips"]
