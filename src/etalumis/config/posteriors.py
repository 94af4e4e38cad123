# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sections of the inference engines."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from etalumis.config.section import Section, distinct


class _ChainsConfig(Section):
    """Chains that make sweeps over replicas at several temperatures."""

    chains: int = Field(2, ge=1, le=1000, description="number of chains, one job each; R-hat requires two or more")
    runs: int = Field(500_000, ge=1, le=10**10)
    burn_in_fraction: float = Field(
        0.25, ge=0, lt=1, description="fraction of a chain's sweeps that is discarded at its start"
    )
    thin: int = Field(1, ge=1, le=10**7, description="sweeps per stored draw")
    temperatures: int = Field(1, ge=1, le=1000)

    @property
    def runs_per_sweep(self) -> int:
        """Runs of a sweep."""
        return self.temperatures

    @property
    def sweeps(self) -> int:
        """Sweeps per chain."""
        return self.runs // self.runs_per_sweep

    @property
    def burn_in(self) -> int:
        """Sweeps that are discarded."""
        return int(self.burn_in_fraction * self.sweeps)

    @property
    def draws(self) -> int:
        """Draws that a chain keeps."""
        return max(0, self.sweeps - self.burn_in) // self.thin

    def too_short(self) -> str | None:
        """Return in words why a chain keeps no draw; None if it keeps one."""
        if self.draws > 0:
            return None
        return (
            f"expected enough for one draw, found {self.runs}: {self.sweeps} sweeps of {self.temperatures} "
            f"temperatures, {self.burn_in} of them burn-in, and a draw per {self.thin} sweeps"
        )


class RmhConfig(_ChainsConfig):
    """Random-walk Metropolis-Hastings with parallel tempering.

    A sweep is one run per temperature, followed by swaps of states between temperatures. Draws come from temperature 1.
    """

    runs: int = Field(
        500_000, ge=1, le=10**10, description="simulator runs per chain, over all temperatures, burn-in included"
    )
    thin: int = Field(4, ge=1, le=10**7, description="sweeps per stored draw")
    temperatures: int = Field(
        7, ge=1, le=1000, description="temperatures per chain, the last one being the prior; 1: no tempering"
    )
    hottest_beta: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="initial value of the lowest inverse temperature above the prior's, about 1 / (spread of the log "
        "likelihood under the prior); burn-in then adapts the temperatures to equal swap rates",
    )


InFlight = Annotated[
    int,
    Field(ge=1, le=65536, description="runs whose values are proposed at a time; this does not change the draws"),
]
Replays = Annotated[
    int, Field(ge=1, le=10**6, description="prior runs per proposed rejection scope of a run, for its 1/Z")
]
SharedReplays = Annotated[
    int,
    Field(
        ge=0,
        le=10**6,
        description="largest number of prior runs for the 1/Z of a scope, shared by all runs with the same discrete "
        "controlled entries before it, if uncontrolled entries do not change Z; 0: none are shared",
    ),
]


class IcConfig(Section):
    """Inference compilation: importance sampling with the network's proposals."""

    jobs: int = Field(2, ge=1, le=1000, description="number of jobs")
    runs: int = Field(15_000, ge=1, le=10**10, description="simulator runs per job")
    in_flight: InFlight = 64
    replays: Replays = 1
    shared_replays: SharedReplays = 0


class SmcConfig(Section):
    """Tempered sequential Monte Carlo: a population of traces, from runs of the network or of the prior.

    A stage raises the inverse temperature, resamples the population, and moves every trace.
    """

    jobs: int = Field(2, ge=1, le=1000, description="number of jobs, each with its own population")
    start: Literal["network", "prior"] = Field("network", description="what proposes the first runs")
    starts: int = Field(
        20_000, ge=1, le=10**9, description="first runs per job, from which the population is resampled"
    )
    particles: int = Field(4000, ge=2, le=10**8, description="traces of a population")
    conditional_ess: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="fraction of the effective sample size that a stage keeps; larger: more and smaller stages",
    )
    strata: str | None = Field(
        None,
        min_length=1,
        description="name of a discrete draw, such as `channel`; each value has a population of its own, and its "
        "probability follows from their evidence; null: one population",
    )
    entry_moves: int = Field(5, ge=0, le=10**6, description="steps of single entries, per trace and stage")
    block_moves: int = Field(5, ge=0, le=10**6, description="joint steps of several entries, per trace and stage")
    in_flight: InFlight = 64
    replays: Replays = 1
    shared_replays: SharedReplays = 0

    @model_validator(mode="after")
    def _check_moves(self) -> Self:
        if self.entry_moves + self.block_moves == 0:
            raise ValueError("entry_moves and block_moves: expected at least one move per stage, found 0 of both")
        return self


class NetworkRmhConfig(_ChainsConfig):
    """Random-walk Metropolis-Hastings that also moves to runs of the network.

    A sweep is some steps of single entries at every temperature, one comparison of the state at one temperature, in
    turn, with runs of the network, and swaps between temperatures. Draws come from temperature 1.
    """

    runs: int = Field(
        200_000,
        ge=1,
        le=10**10,
        description="largest number of simulator runs per chain, burn-in included; fewer if one temperature is enough; "
        "replays for 1/Z are extra",
    )
    temperatures: int = Field(
        4,
        ge=1,
        le=1000,
        description="temperatures per chain, up to the one at which runs of the network are effective; if they are at "
        "temperature 1, this is the only one",
    )
    init_runs: int = Field(
        2000, ge=1, le=10**9, description="runs of the network that a chain starts from, and that set its temperatures"
    )
    steps: int = Field(32, ge=1, le=10**6, description="steps of single entries, per temperature and sweep")
    candidates: int = Field(64, ge=1, le=10**6, description="runs of the network that a state is compared with")
    in_flight: InFlight = 64
    replays: Replays = 1
    shared_replays: int = Field(
        0,
        ge=0,
        le=10**6,
        description="number of prior runs, in each comparison, for the 1/Z of all scopes with the same discrete "
        "controlled entries before them; 0: none are shared. Exact if uncontrolled draws do not change 1/Z",
    )

    @property
    def runs_per_sweep(self) -> int:
        """Largest number of runs of a sweep."""
        return self.temperatures * self.steps + self.candidates


class ImportanceConfig(Section):
    """Importance sampling from the prior."""

    jobs: int = Field(2, ge=1, le=1000, description="number of jobs")
    runs: int = Field(100_000, ge=1, le=10**10, description="simulator runs per job")


class PosteriorsConfig(Section):
    """The inference engines, and what their files keep."""

    engines: Annotated[
        tuple[Literal["rmh", "network_rmh", "ic", "smc", "importance"], ...], AfterValidator(distinct)
    ] = Field(("rmh", "ic"), min_length=1, description="engines that the workflow runs and compares")
    entries: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(distinct)] = Field(
        (),
        description="controlled draws that posterior files keep by address: patterns (`*`, `?`) of addresses or names; "
        "all: every one",
    )
    rmh: RmhConfig = RmhConfig()
    network_rmh: NetworkRmhConfig = NetworkRmhConfig()
    ic: IcConfig = IcConfig()
    smc: SmcConfig = SmcConfig()
    importance: ImportanceConfig = ImportanceConfig()
