# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The closed model of a configuration: the one source of defaults, ranges, schema and documentation.

The defaults are the demo scale, but for the network, whose defaults are the architecture of the paper (section 4.3).
Counts have no unit; every other number carries its unit at the end of its name.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError(f"expected [low, high] with low < high, found [{bounds[0]:g}, {bounds[1]:g}]")
    return bounds


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveCm = Annotated[float, Field(ge=1e-6, le=1e6)]
Cm = Annotated[float, Field(ge=0, le=1e6)]
Response = Annotated[float, Field(ge=0, le=10)]
Channels = Annotated[int, Field(ge=1, le=4096)]


class Section(BaseModel):
    """A part of the configuration: closed (an unknown key is an error) and read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        """Refuse `true` and `yes` where no key wants one: Python would take them for the number 1."""
        if any(isinstance(item, bool) for item in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError("a truth value is no number")
        return value


class RunConfig(Section):
    """What the run is called and where its randomness comes from."""

    name: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="the run's folder: results/NAME")
    seed: int = Field(1, ge=0, lt=2**63, description="run seed; every other seed is derived from it")


class MomentumConfig(Section):
    """Ranges of the three uniform priors of the τ momentum."""

    px: Interval = Field((-3.0, 3.0), description="range of p_x, GeV")
    py: Interval = Field((-3.0, 3.0), description="range of p_y, GeV")
    pz: Interval = Field((42.0, 48.0), description="range of p_z, GeV")


class CalorimeterConfig(Section):
    """Geometry and response of the 20 x 35 x 35 calorimeter (resources/detector/README.md)."""

    distance_cm: Cm = Field(250.0, description="from the decay to the front face")
    cell_cm: PositiveCm = Field(2.0, description="side of a square cell; 35 x 35 cells")
    layer_cm: PositiveCm = Field(6.0, description="thickness of a layer; 20 layers")
    cut_gev: float = Field(0.001, ge=0, le=1e6, description="a voxel with less is set to zero")
    em_depth_at_one_gev_cm: Cm = Field(11.0, description="electromagnetic: mean shower depth at 1 GeV")
    em_depth_per_log_energy_cm: Cm = Field(2.0, description="electromagnetic: growth of the depth with ln(E/GeV)")
    em_depth_sigma_cm: PositiveCm = Field(5.0, description="electromagnetic: longitudinal standard deviation")
    em_width_cm: PositiveCm = Field(1.6, description="electromagnetic: transverse standard deviation")
    em_response: Response = Field(1.0, description="electromagnetic: energy seen / energy of the particle")
    hadronic_depth_at_one_gev_cm: Cm = Field(24.0, description="hadronic: mean shower depth at 1 GeV")
    hadronic_depth_per_log_energy_cm: Cm = Field(5.0, description="hadronic: growth of the depth with ln(E/GeV)")
    hadronic_depth_sigma_cm: PositiveCm = Field(12.0, description="hadronic: longitudinal standard deviation")
    hadronic_width_cm: PositiveCm = Field(2.4, description="hadronic: transverse standard deviation")
    hadronic_response: Response = Field(0.8, description="hadronic: energy seen / energy of the particle")
    mip_gev_per_layer: float = Field(0.1, ge=0, le=1e6, description="minimum ionising: energy left in one layer")
    mip_width_cm: PositiveCm = Field(1.0, description="minimum ionising: transverse standard deviation")
    mip_response: Response = Field(1.0, description="minimum ionising: energy seen / energy left")


class SimulatorConfig(Section):
    """The simulator: Sherpa τ decays and the calorimeter."""

    prefix: str | None = Field(None, description="folder of an installed Sherpa 3; null: the pinned wheel is fetched")
    noise_gev: float = Field(0.3, ge=1e-6, le=1e6, description="standard deviation of the noise of every voxel")
    momentum_gev: MomentumConfig = MomentumConfig()
    calorimeter: CalorimeterConfig = CalorimeterConfig()
    timeout_s: float = Field(60.0, gt=0, le=86400, description="a simulator silent for so long has failed")
    start_timeout_s: float = Field(60.0, gt=0, le=86400, description="time a simulator may take to start and answer")
    retries: int = Field(3, ge=0, le=100, description="how often a failed run is tried again on a fresh process")


class TracesConfig(Section):
    """How many traces are generated from the prior, in how many jobs, and what of them is kept."""

    train: int = Field(100_000, ge=1, le=10**10, description="traces to train on")
    valid: int = Field(1_000, ge=1, le=10**9, description="traces for the validation loss")
    test: int = Field(100, ge=1, le=10**9, description="held-out traces: the observation is one of them")
    jobs: int = Field(2, ge=1, le=1000, description="jobs that share the training traces")
    shard_traces: int = Field(5_000, ge=1, le=10**7, description="traces in one sorted shard")
    entries: Literal["accepted", "all", "controlled"] = Field(
        "accepted", description="entries that are kept; all: rejected repetitions too; controlled: the steered alone"
    )
    observation: Literal["expected", "noisy"] = Field(
        "expected", description="observations that are kept: before noise where that is possible, or with it"
    )
    tags: tuple[str, ...] | None = Field(None, description="names of the tags that are kept; null: all")


class SortedConfig(Section):
    """Sorting the traces by type and length."""

    memory_mb: int = Field(2_000, ge=100, le=10**7, description="memory a rank may use")
    tasks: int = Field(2, ge=1, le=4096, description="MPI ranks; Snakemake on SLURM wants 2 or more")


class NetworkConfig(Section):
    """The 3DCNN-LSTM (paper, section 4.3); the defaults are the paper's."""

    conv_channels: tuple[Channels, Channels, Channels, Channels, Channels] = Field(
        (64, 64, 128, 128, 128), description="channels of the five 3D convolutions"
    )
    observation_embedding: int = Field(256, ge=1, le=65536, description="width of the embedded observation")
    lstm_hidden: int = Field(512, ge=1, le=65536, description="width of the LSTM")
    lstm_layers: int = Field(1, ge=1, le=16, description="stacked LSTMs")
    address_embedding: int = Field(64, ge=1, le=4096, description="width of the embedded address")
    sample_embedding: int = Field(4, ge=1, le=4096, description="width of the embedded previous value")
    mixture_components: int = Field(10, ge=1, le=1000, description="components of a continuous proposal")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of the products; auto: bfloat16 where the machine has it in hardware"
    )


class TrainingConfig(Section):
    """The MPI training loop."""

    tasks: int = Field(2, ge=1, le=65536, description="MPI ranks; Snakemake on SLURM wants 2 or more")
    threads_per_task: int = Field(1, ge=1, le=1024, description="threads of each rank")
    batch_size: int = Field(32, ge=1, le=10**6, description="traces a rank sees in one iteration")
    max_minutes: float | None = Field(
        None,
        gt=0,
        le=10**6,
        description="wall time of training, over all resumes; null: no limit, or 10 if max_traces is null too",
    )
    max_traces: int | None = Field(
        None,
        ge=1,
        le=10**13,
        description="traces seen before it stops; null: no limit; with both limits the first one counts",
    )
    optimizer: Literal["adam", "adam_larc", "sgd", "sgd_larc"] = Field("adam", description="update rule")
    prefetch: int = Field(2, ge=0, le=64, description="minibatches that a thread of each rank reads ahead; 0: none")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="learning rate after the warm-up")
    learning_rate_end: float = Field(1e-5, ge=0, le=10, description="learning rate at the end of the budget")
    schedule: Literal["none", "multistep", "polynomial1", "polynomial2"] = Field(
        "polynomial1", description="how the learning rate falls over the budget"
    )
    warmup_iterations: int = Field(50, ge=0, le=10**7, description="iterations of linear warm-up")
    noise_start: float = Field(0.1, gt=0, le=1, description="factor of the observation noise in the first iteration")
    noise_ramp_share: float = Field(
        0.5, ge=0, le=1, description="share of the budget over which that factor rises to 1; 0: full noise throughout"
    )
    gradient_clip: float | None = Field(10.0, gt=0, description="largest norm of the gradient; null: not clipped")
    valid_every: int = Field(50, ge=1, le=10**8, description="iterations between two validation losses")
    checkpoint_minutes: float = Field(2.0, gt=0, le=10**5, description="wall time between two checkpoints")

    @model_validator(mode="before")
    @classmethod
    def _limit_the_budget(cls, values: Any) -> Any:
        """Set the default budget, ten minutes, if no budget is given: one in traces alone is not cut by a clock."""
        if isinstance(values, dict) and values.get("max_minutes") is None and values.get("max_traces") is None:
            return {**values, "max_minutes": 10.0}
        return values


class ObservationConfig(Section):
    """The test decay whose latent choices are inferred."""

    trace: int = Field(0, ge=0, description="number of the trace in the test split")
    name: str | None = Field(
        None, min_length=1, description="observe statement to condition on; null: all that the simulator has"
    )
    seed: int = Field(1, ge=0, lt=2**63, description="seed of its noise")


class RmhConfig(Section):
    """Random-walk Metropolis-Hastings with parallel tempering.

    A sweep is one run for each temperature, then swaps of states between them; draws come from temperature 1.
    """

    chains: int = Field(2, ge=1, le=1000, description="chains, one job each; R-hat wants two or more")
    runs: int = Field(
        500_000, ge=1, le=10**10, description="simulator runs of one chain, of all its temperatures, burn-in included"
    )
    burn_in_fraction: float = Field(0.25, ge=0, lt=1, description="first part of a chain's sweeps that is left out")
    thin: int = Field(4, ge=1, le=10**7, description="a draw is kept every n-th sweep")
    temperatures: int = Field(
        7, ge=1, le=1000, description="temperatures of one chain, the last one the prior; 1: no tempering"
    )
    hottest_beta: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="lowest inverse temperature before the prior, at first: about 1 / spread of the prior's log "
        "likelihood; the burn-in then places the temperatures for equal swap rates",
    )

    @property
    def sweeps(self) -> int:
        """Sweeps of one chain."""
        return self.runs // self.temperatures

    @property
    def burn_in(self) -> int:
        """Sweeps that are left out."""
        return int(self.burn_in_fraction * self.sweeps)


class IcConfig(Section):
    """Inference compilation: importance sampling with the network's proposals."""

    jobs: int = Field(2, ge=1, le=1000, description="jobs that share the runs")
    runs: int = Field(15_000, ge=1, le=10**10, description="simulator runs of one job")


class PosteriorsConfig(Section):
    """The two engines."""

    rmh: RmhConfig = RmhConfig()
    ic: IcConfig = IcConfig()


class FiguresConfig(Section):
    """The figures."""

    format: tuple[Literal["png", "pdf", "svg"], ...] = Field(
        ("png", "pdf"), min_length=1, description="file formats; the report wants png"
    )


class Config(Section):
    """A whole configuration, one section a stage."""

    run: RunConfig = RunConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    traces: TracesConfig = TracesConfig()
    sorted: SortedConfig = SortedConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    observation: ObservationConfig = ObservationConfig()
    posteriors: PosteriorsConfig = PosteriorsConfig()
    figures: FiguresConfig = FiguresConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.observation.trace >= self.traces.test:
            raise ValueError(
                f"observation.trace: expected less than traces.test, {self.traces.test}, found {self.observation.trace}"
            )
        if self.traces.jobs > self.traces.train:
            raise ValueError(
                f"traces.jobs: expected at most traces.train, {self.traces.train}, found {self.traces.jobs}"
            )
        rmh = self.posteriors.rmh
        if rmh.sweeps - rmh.burn_in < rmh.thin:
            raise ValueError(
                f"posteriors.rmh.runs: expected enough for one draw, found {rmh.runs}: {rmh.sweeps} sweeps of "
                f"{rmh.temperatures} temperatures, {rmh.burn_in} of them burn-in, of which every {rmh.thin}th is kept. "
                "Raise runs or lower temperatures, burn_in_fraction or thin."
            )
        return self
