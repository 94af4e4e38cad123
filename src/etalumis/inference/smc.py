# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tempered sequential Monte Carlo over simulator traces, from runs that a network proposes or from prior runs.

A population of traces moves through the targets prior x likelihood^beta, with beta rising to 1 (Neal 2001; Del Moral,
Doucet and Jasra 2006). The first runs are weighted for an inverse temperature at which they are effective: near 0
for prior runs, and higher for runs that a network proposes, whose proposals are seldom as narrow as the posterior.
Each stage then

1. raises beta as far as the conditional effective sample size allows (Zhou, Johansen and Aston 2016),
2. resamples the population by the weights likelihood^(difference of beta) (systematic resampling),
3. moves every trace by Metropolis-Hastings steps that leave the new target invariant: steps of single entries
   (`kernel`) and joint steps of several entries at the scale of the population (`block_moves`).

This is importance sampling followed by local work: IC finds the regions of the posterior, and the moves cover them. The
draws have equal weights, the mean of which is an unbiased estimate of the evidence for fixed temperatures and moves; as
these are adapted to the population, it is consistent (Beskos et al. 2016).

Draws that descend from one of the first runs are dependent. The posterior names this run, the `lineage` of a draw, and
diagnostics compute Monte Carlo errors from sums over lineages (Lee and Whiteley 2018).

With `strata`, each value of a discrete entry has its own population, whose moves keep the value: see
`etalumis.inference.strata`. A population is then weighted by its estimate of the evidence of its stratum.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from etalumis import seeds
from etalumis.counting import counted
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference import block_moves
from etalumis.inference.annealing import next_beta, starting_beta
from etalumis.inference.chain import Chain, acceptance
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.compilation import network_input, new_counts, weighted_runs
from etalumis.inference.entry_selection import EntrySelection
from etalumis.inference.first_runs import first_runs
from etalumis.inference.kernel import Settings
from etalumis.inference.observations import Observations
from etalumis.inference.population import Population, restore_population, save_population
from etalumis.inference.posterior import Posterior
from etalumis.inference.predictive import PredictiveCheck, predictive_check
from etalumis.inference.proposal_controller import ProposalSource
from etalumis.inference.runner import ModelRunner, draw_seed
from etalumis.inference.strata import Strata, particles_of, strata_of
from etalumis.inference.trace_reservoir import TraceReservoir, places_for
from etalumis.log_weights import effective_sample_size, normalise, systematic_resampling
from etalumis.trace import Trace
from etalumis.typing import Array

logger = logging.getLogger(__name__)

ENOUGH_STARTS = 0.5
"""Effective sample size of the first runs, as a share of the particles, that is enough to start with.

The later stages leave fewer lineages anyway.
"""


class SmcSettings(NamedTuple):
    """How a population is moved to the posterior.

    Attributes
    ----------
    particles
        Number of traces of the population.
    starts
        Number of first runs, from which the population is resampled.
    conditional_ess
        Fraction of the particles that the conditional effective sample size of a stage keeps: larger means more stages.
    entry_moves, block_moves
        Number of Metropolis-Hastings steps of each trace and stage, of single entries and of blocks.
    replays, shared_replays
        Prior runs for the 1/Z of proposed rejection scopes, as in `etalumis.inference.compilation`.
    """

    particles: int = 4000
    starts: int = 20_000
    conditional_ess: float = 0.9
    entry_moves: int = 5
    block_moves: int = 5
    replays: int = 1
    shared_replays: int = 0


def smc(
    model: Model | Callable[[], float | None],
    observations: Mapping[str, Any],
    network: Any = None,
    *,
    seed: int,
    job: int = 0,
    settings: SmcSettings | None = None,
    strata: str | None = None,
    in_flight: int = 64,
    focus: Collection[str] | None = None,
    retries: int = 3,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior with a population that starts from runs of a trained `network`, or of the prior if None.

    Values are proposed for up to `in_flight` of the first runs at a time. See `sample_population` for the others.
    """
    if in_flight < 1:
        raise InferenceError(f"smc: expected in_flight >= 1, found {in_flight}")
    session = None
    if network is not None:
        session = network.session(network_input(network.layers, Observations(observations)), lanes=in_flight)
    return sample_population(
        model, observations, session, seed=seed, job=job, settings=settings, strata=strata, focus=focus,
        retries=retries, entries=entries, checkpoint=checkpoint,
    )  # fmt: skip


def sample_population(
    model: Model | Callable[[], float | None],
    observations: Mapping[str, Any],
    session: ProposalSource | None,
    *,
    seed: int,
    job: int = 0,
    settings: SmcSettings | None = None,
    strata: str | None = None,
    focus: Collection[str] | None = None,
    retries: int = 3,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior with a population that starts from runs that `session` proposes, or from prior runs if None.

    Parameters
    ----------
    model
        The model to run, or a Python function with the statements of `etalumis.models`.
    observations
        Name of the observe statement -> value, see `Observations`.
    session
        Source of the proposed values of the first runs.
    seed, job
        First run i draws from (seed, "posteriors/smc/<job>", i), stage t from (seed, "posteriors/smc/<job>/stages", t),
        and the resampling after it from (seed, "posteriors/smc/<job>/resampling", t); those of stratum k > 0 from
        "posteriors/smc/<job>/strata/<k>" in the same way.
    settings
        See `SmcSettings`. The particles are divided among the strata as in `strata.particles_of`.
    strata
        Name of a discrete entry whose values have a population each; None for one population.
    focus
        Names of the entries that steps of single entries choose more often (None: all with a name).
    retries
        Maximum number of consecutive restarts of a failed simulator.
    entries
        Controlled entries to keep by address: patterns as in `EntrySelection`.
    checkpoint
        Checkpoint to resume from and to write after a stage; the draws are the same as without an interruption.

    Returns
    -------
    Posterior
        About `settings.particles` draws. Without strata, their log weights are equal, the estimate of the log evidence;
        joined with other jobs, each counts by its estimate. `lineage` is set.

    Raises
    ------
    InferenceError
        If the settings or the observations do not fit, a likelihood is NaN, no first run can produce the observation,
        or replaying a trace gives a different one.
    """
    settings = settings or SmcSettings()
    _check(settings)
    sampler = _Sampler(model, observations, session, seed, job, settings, focus, retries, EntrySelection.of(entries))
    sampler.begin(strata, checkpoint)
    for population in sampler.populations:
        while len(population.stages) == 0 or population.stages[-1]["beta"] < 1.0:
            if checkpoint is not None and checkpoint.due:
                checkpoint.save(sampler.posterior(), sampler.state())
            if population.stages:
                sampler.raise_beta(population)
            sampler.move(population)
    sampler.finish()
    posterior = sampler.posterior()
    posterior.predictive = sampler.predictive_check(posterior.log_weight)
    posterior.info.update(
        seed=seed,
        settings=settings._asdict(),
        start="prior" if session is None else "network",
        runs=sampler.runner.runs,
        simulator_runs=sampler.runner.runs,
        failures=sampler.runner.failures,
        wall_s=sampler.wall_s,
        runs_per_s=sampler.runner.runs / sampler.wall_s,
        strata=[
            {
                "stratum": sampler.strata.label(population.stratum),
                "particles": len(population.states),
                "log_evidence": population.log_evidence,
                "stages": population.stages,
            }
            for population in sampler.populations
        ],
        **acceptance(sampler.chain.counts),
    )
    return posterior


def _check(settings: SmcSettings) -> None:
    counts = settings._replace(conditional_ess=1.0)
    minimum = SmcSettings(2, 1, 1.0, 0, 0, 1, 0)
    low = [name for name in SmcSettings._fields if getattr(counts, name) < getattr(minimum, name)]
    if low:
        expected = ", ".join(f"{name} >= {getattr(minimum, name)}" for name in low)
        raise InferenceError(f"smc: expected {expected}; found {', '.join(str(getattr(settings, n)) for n in low)}")
    if not 0.0 < settings.conditional_ess < 1.0:
        raise InferenceError(f"smc: expected 0 < conditional_ess < 1, found {settings.conditional_ess}")
    if settings.entry_moves + settings.block_moves == 0:
        raise InferenceError("smc: expected entry_moves + block_moves >= 1, found 0: the traces would never move")


class _Sampler:
    """What the stages of a population share: the model, the kernels, and counts."""

    def __init__(
        self,
        model: Model | Callable[[], float | None],
        observations: Mapping[str, Any],
        session: ProposalSource | None,
        seed: int,
        job: int,
        settings: SmcSettings,
        focus: Collection[str] | None,
        retries: int,
        selection: EntrySelection | None,
    ) -> None:
        self._selection = selection
        self._stage_name = f"posteriors/smc/{job}"
        self._session, self._seed, self._job, self._settings = session, seed, job, settings
        self.runner = ModelRunner(model, Observations(observations), seeds.derive(seed, self._stage_name, 0), retries)
        self.chain = Chain(self.runner, seeds.generator(seed, self._stage_name, 0), Settings(), focus)
        self.strata = Strata()
        self.populations: list[Population] = []
        self._began, self._wall_before = time.perf_counter(), 0.0

    @property
    def wall_s(self) -> float:
        """Duration in seconds, summed over interruptions."""
        return self._wall_before + time.perf_counter() - self._began

    def begin(self, strata: str | None, checkpoint: Checkpoint | None) -> None:
        """Start the populations, or restore those of an interrupted job."""
        found = checkpoint.load() if checkpoint is not None else None
        if found is None:
            self._start(strata)
            return
        state = found[1]
        self.runner.observations.record_names(state["observed"])
        self.strata = Strata(strata, tuple(state["strata"]), state["others"])
        self.populations = [restore_population(self.chain, saved) for saved in state["populations"]]
        self.runner.runs, self.runner.failures = state["runs"], state["failures"]
        self.chain.counts = {label: list(count) for label, count in state["counts"].items()}
        self._wall_before = state["wall_s"]

    def state(self) -> dict[str, Any]:
        """Return the JSON values from which `begin` resumes."""
        return {
            "strata": self.strata.own,
            "others": self.strata.others,
            "populations": [save_population(self.chain, population) for population in self.populations],
            "observed": self.runner.observations.seen,
            "runs": self.runner.runs,
            "failures": self.runner.failures,
            "counts": self.chain.counts,
            "wall_s": self.wall_s,
        }

    def _start(self, strata: str | None) -> None:
        """Make the first runs, and resample a population from those of each stratum at its starting temperature."""
        starts = self._settings.starts
        runs = first_runs(
            self._first_runs(), starts, self.chain.structures, self.runner.model.name, f"smc job {self._job}"
        )
        self.strata, groups = strata_of(runs.states, strata, runs.log_weight, runs.log_likelihood)
        sizes = particles_of(groups, self._settings.particles, runs.log_weight, runs.log_likelihood)
        for number, (group, particles) in enumerate(zip(groups, sizes, strict=True)):
            beta, log_weight = starting_beta(
                runs.log_weight[group], runs.log_likelihood[group], ENOUGH_STARTS * particles
            )
            rng = seeds.generator(self._seed, f"{self._name(number)}/stages", 0)
            chosen = group[systematic_resampling(rng, normalise(log_weight), particles)]
            log_evidence = float(np.logaddexp.reduce(log_weight)) - math.log(starts)
            self.populations.append(
                Population([runs.states[i] for i in chosen], runs.number[chosen], beta, log_evidence, stratum=number)
            )
            logger.info(
                "%s  start at inverse temperature %.3g, where %s are worth %.0f draws",
                self._label(number), beta, counted(len(group), "first run"),
                effective_sample_size(normalise(log_weight)),
            )  # fmt: skip
        self.chain.check_replay(self.populations[0].states[0], times=2)

    def _name(self, stratum: int) -> str:
        return f"{self._stage_name}/strata/{stratum}" if stratum else self._stage_name

    def _label(self, stratum: int) -> str:
        return f"smc job {self._job}  {self.strata.label(stratum)}".rstrip()

    def _first_runs(self) -> Iterator[tuple[Trace, float]]:
        settings = self._settings
        if self._session is not None:
            return weighted_runs(
                self.runner, self._session, range(settings.starts), self._seed, self._stage_name,
                scopes="auto", replays=settings.replays, shared_replays=settings.shared_replays, counts=new_counts(),
            )  # fmt: skip
        origins = [seeds.derive(self._seed, self._stage_name, i) for i in range(settings.starts)]
        return ((trace, trace.log_likelihood) for trace in self.runner.priors(origins, details=True))

    def move(self, population: Population) -> None:
        """Move every trace by Metropolis-Hastings steps at the current temperature."""
        number = len(population.stages) + 1
        name = self._name(population.stratum)
        rng = seeds.generator(self._seed, f"{name}/stages", number)
        self.runner.begin(seeds.derive(self._seed, f"{name}/stages", number), f"stage {number} of {name}")
        self.chain.beta, began, runs = population.beta, time.perf_counter(), self.runner.runs
        if self._settings.entry_moves:
            self._move_entries(population, rng)
        self._move_blocks(population, rng)
        seconds, runs = time.perf_counter() - began, self.runner.runs - runs
        lineages = len(np.unique(population.lineage))
        population.stages.append(
            {"beta": population.beta, "log_evidence": population.log_evidence, "lineages": lineages, "runs": runs}
        )
        logger.info(
            "%s  stage %d: inverse temperature %.3g, log evidence %.2f, %d lineages, %.0f runs/s",
            self._label(population.stratum), number, population.beta, population.log_evidence, lineages,
            runs / max(seconds, 1e-9),
        )  # fmt: skip

    def _move_entries(self, population: Population, rng: np.random.Generator) -> None:
        for k, state in enumerate(population.states):
            moved = self.chain.advance(state, self._settings.entry_moves, int(rng.integers(2**63)))
            # all steps together are one reversible proposal, so refusing to leave the stratum keeps its posterior
            # invariant
            if self.strata.of(moved) == population.stratum:
                population.states[k] = moved

    def _move_blocks(self, population: Population, rng: np.random.Generator) -> None:
        states = population.states
        for _ in range(self._settings.block_moves):
            proposed = block_moves.propose_moves(states, rng)
            moves = [(k, self.chain.block_move(move)) for k, move in proposed]
            traces = self.runner.carry_out_all([(move.plan, draw_seed(rng)) for _, move in moves])
            self.chain.rng = rng
            for (k, move), trace in zip(moves, traces, strict=True):
                self.chain.state = states[k]
                self.chain.decide(move, trace)
                if self.strata.of(self.chain.state) == population.stratum:  # a later scope may be drawn again
                    states[k] = self.chain.state

    def raise_beta(self, population: Population) -> None:
        """Raise the inverse temperature, and resample the population."""
        log_likelihood = population.log_likelihood
        beta = next_beta(log_likelihood, population.beta, self._settings.conditional_ess)
        log_weight = (beta - population.beta) * log_likelihood
        population.log_evidence += float(np.logaddexp.reduce(log_weight)) - math.log(len(log_weight))
        rng = seeds.generator(self._seed, f"{self._name(population.stratum)}/resampling", len(population.stages))
        population.select(systematic_resampling(rng, normalise(log_weight), len(log_weight)))
        population.beta = beta

    def finish(self) -> None:
        """Check that the observations were used."""
        self.runner.finish()

    def predictive_check(self, log_weight: Array) -> PredictiveCheck | None:
        """Return the predictive check, given the log weights (draw,) of `posterior`."""
        states = [state for population in self.populations for state in population.states]
        places = places_for(len(states))
        reservoir = TraceReservoir(self.runner.addresses, self._seed, self._stage_name, places)
        for state, weight in zip(states, log_weight.tolist(), strict=True):
            reservoir.offer(state.trace, weight)
        return predictive_check(self.runner, reservoir)

    def posterior(self) -> Posterior:
        """Return the populations as weighted draws; at the end, those of a stratum have equal weights."""
        total = sum(len(population.states) for population in self.populations)
        draws, log_weight, lineage = [], [], []
        for population in self.populations:
            share = math.log(total / len(population.states))
            log_weight.append(population.log_evidence + share + (1.0 - population.beta) * population.log_likelihood)
            draws += [state.draw(self._selection) for state in population.states]
            lineage.append(population.lineage)
        posterior = Posterior.from_draws("smc", draws, np.concatenate(log_weight).tolist(), self._job, {})
        posterior.lineage = np.concatenate(lineage).astype(np.int64)
        return posterior
