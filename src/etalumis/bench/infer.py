# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis bench infer`: runs and effective draws per second of the engines, for one observation."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from etalumis.bench.cores import pinned
from etalumis.bench.measure import BenchReport, Contender, Slice, Target, machine, take_turns
from etalumis.config import Config
from etalumis.diagnostics.arviz_calls import pareto_khat
from etalumis.inference import Posterior, compilation, importance, rmh
from etalumis.inference.conditioning import Conditioning
from etalumis.inference.temperatures import inverse_temperatures
from etalumis.log_weights import effective_sample_size, normalise
from etalumis.network.model import ProposalNetwork
from etalumis.ppx import Pool, Simulator
from etalumis.simulator.built import BuiltSimulator

TARGETS = {"ic_batching_ratio": Target(8.0), "rmh_run_ratio": Target(0.8)}
RATIOS = {
    "ic_batching_ratio": ("ic_runs_per_s_per_core", "ic_single_runs_per_s_per_core"),
    "ic_prior_run_ratio": ("ic_runs_per_s_per_core", "prior_runs_per_s_per_core"),
    "rmh_run_ratio": ("rmh_runs_per_s_per_core", "prior_runs_per_s_per_core"),
}
PINNING = dict.fromkeys(
    (
        "prior_runs_per_s_per_core",
        "ic_runs_per_s_per_core",
        "ic_single_runs_per_s_per_core",
        "rmh_runs_per_s_per_core",
    ),
    "engine and simulator on one core",
)
_MIN_RUNS = 64


def bench(
    seconds: float, built: BuiltSimulator, config: Config, conditioning: Conditioning, network: ProposalNetwork
) -> BenchReport:
    """Measure the engines for about `seconds`.

    The effective sample sizes of the weighted engines are those of all their draws together. Every engine runs with its
    simulator on one core; several jobs use several cores.

    Parameters
    ----------
    seconds
        Total time for all engines, without the initialisation of the simulators.
    built, config, conditioning, network
        The simulator, the configuration, the observation and the trained network of a finished workflow.

    Raises
    ------
    SimulatorError
        If the simulator cannot be started, or fails.
    """
    about = machine()
    section = config.posteriors
    betas = inverse_temperatures(section.rmh.temperatures, section.rmh.hottest_beta)
    observed = conditioning.values
    with pinned() as cores, ExitStack() as stack:

        def simulator() -> Simulator | Pool:
            started = built.start()
            stack.callback(started.close)
            return started

        prior, many, one, chains = (simulator() for _ in range(4))

        def from_prior(runs: int, seed: int) -> Posterior:
            return importance(prior, observed, runs=runs, seed=seed)

        def proposed(model: Simulator | Pool, in_flight: int) -> Callable[[int, int], Posterior]:
            return lambda runs, seed: compilation(
                model,
                observed,
                network,
                runs=runs,
                seed=seed,
                in_flight=in_flight,
                replays=section.ic.replays,
                shared_replays=section.ic.shared_replays,
            )

        def walked(runs: int, seed: int) -> Posterior:
            return rmh(chains, observed, runs=max(runs, 2 * len(betas)), seed=seed, burn_in=0, betas=betas)

        contenders: dict[str, Contender] = {
            "prior_runs_per_s_per_core": _Engine(from_prior),
            "ic_runs_per_s_per_core": _Engine(proposed(many, section.ic.in_flight)),
            "ic_single_runs_per_s_per_core": _Engine(proposed(one, 1)),
            "rmh_runs_per_s_per_core": _Engine(walked),
        }
        slices = take_turns(contenders, list(RATIOS.values()), seconds, longest_s=10.0)
    figures = {}
    for name in ("prior", "ic"):
        engine = contenders[f"{name}_runs_per_s_per_core"]
        assert isinstance(engine, _Engine)
        figures[f"{name}_ess_per_core_s"] = engine.effective_draws / engine.seconds
        figures[f"{name}_khat"] = pareto_khat(np.concatenate(engine.log_weights))
    from_prior_ess = figures["prior_ess_per_core_s"]
    figures["ic_ess_ratio"] = figures["ic_ess_per_core_s"] / from_prior_ess if from_prior_ess else math.nan
    return BenchReport(
        title="Inference engines",
        rates={name: [turn.rate for turn in turns] for name, turns in slices.items()},
        ratios=RATIOS,
        targets=TARGETS,
        figures=figures,
        pinning=PINNING,
        measured={
            **about,
            "cores_used": list(cores[:1]),
            "runs": {name: sum(turn.done for turn in turns) for name, turns in slices.items()},
            "in_flight": section.ic.in_flight,
            "temperatures": len(betas),
        },
    )


class _Engine:
    """An engine that makes runs for a given time; each slice has its own seed.

    Attributes
    ----------
    log_weights, seconds
        Log weights of all draws so far, and the time that they took.
    """

    def __init__(self, sample: Callable[[int, int], Posterior]) -> None:
        self._sample, self._seed, self._rate = sample, 0, 0.0
        self.log_weights: list[np.ndarray] = []
        self.seconds = 0.0

    def __call__(self, seconds: float) -> Slice:
        """Sample for about `seconds`."""
        self._seed += 1
        runs = max(_MIN_RUNS, int(self._rate * seconds))
        began = time.perf_counter()
        posterior = self._sample(runs, self._seed)
        done = Slice(posterior.info["runs"], 0, time.perf_counter() - began)
        self._rate = done.rate
        self.log_weights.append(posterior.log_weight)
        self.seconds += done.seconds
        return done

    @property
    def effective_draws(self) -> float:
        """Effective sample size of all draws."""
        return effective_sample_size(normalise(np.concatenate(self.log_weights)))
