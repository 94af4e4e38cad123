# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The closed model of a configuration: the one source of defaults, ranges, schema and documentation.

The defaults have the scale of the demo, except for the network, whose defaults are the architecture of the paper
(section 4.3). Every number that is not a count has its unit at the end of its name.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from etalumis.config.experiments import ExperimentsConfig
from etalumis.config.posteriors import PosteriorsConfig
from etalumis.config.section import Interval, Section, distinct, increasing

PositiveCm = Annotated[float, Field(ge=1e-6, le=1e6)]
Cm = Annotated[float, Field(ge=0, le=1e6)]
Response = Annotated[float, Field(ge=0, le=10)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class RunConfig(Section):
    """Name and seed of the run."""

    name: str = Field(
        "demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="name of the run; its folder is results/NAME"
    )
    seed: int = Field(1, ge=0, lt=2**63, description="seed of the run; every other seed is derived from it")


class MomentumConfig(Section):
    """Ranges of the uniform priors of the three components of the τ momentum."""

    px: Interval = Field((-3.0, 3.0), description="range of p_x, GeV")
    py: Interval = Field((-3.0, 3.0), description="range of p_y, GeV")
    pz: Interval = Field((42.0, 48.0), description="range of p_z, GeV")


class CalorimeterConfig(Section):
    """Geometry and response of the 20 x 35 x 35 calorimeter (resources/detector/README.md)."""

    distance_cm: Cm = Field(250.0, description="distance from the decay to the front face")
    cell_cm: PositiveCm = Field(2.0, description="side length of a square cell; a layer has 35 x 35 cells")
    layer_cm: PositiveCm = Field(6.0, description="thickness of each of the 20 layers")
    cut_gev: float = Field(0.001, ge=0, le=1e6, description="voxels below this energy are set to zero")
    em_depth_at_one_gev_cm: Cm = Field(11.0, description="electromagnetic: mean shower depth at 1 GeV")
    em_depth_per_log_energy_cm: Cm = Field(
        2.0, description="electromagnetic: increase of the depth per unit of ln(E/GeV)"
    )
    em_depth_sigma_cm: PositiveCm = Field(5.0, description="electromagnetic: longitudinal standard deviation")
    em_width_cm: PositiveCm = Field(1.6, description="electromagnetic: transverse standard deviation")
    em_response: Response = Field(1.0, description="electromagnetic: detected energy / energy of the particle")
    hadronic_depth_at_one_gev_cm: Cm = Field(24.0, description="hadronic: mean shower depth at 1 GeV")
    hadronic_depth_per_log_energy_cm: Cm = Field(
        5.0, description="hadronic: increase of the depth per unit of ln(E/GeV)"
    )
    hadronic_depth_sigma_cm: PositiveCm = Field(12.0, description="hadronic: longitudinal standard deviation")
    hadronic_width_cm: PositiveCm = Field(2.4, description="hadronic: transverse standard deviation")
    hadronic_response: Response = Field(0.8, description="hadronic: detected energy / energy of the particle")
    mip_gev_per_layer: float = Field(0.1, ge=0, le=1e6, description="minimum ionising: energy deposited per layer")
    mip_width_cm: PositiveCm = Field(1.0, description="minimum ionising: transverse standard deviation")
    mip_response: Response = Field(1.0, description="minimum ionising: detected energy / deposited energy")


class SimulatorConfig(Section):
    """The simulator: Sherpa τ decays and the calorimeter."""

    prefix: str | None = Field(None, description="prefix of an installed Sherpa 3; null: download the pinned wheel")
    noise_gev: float = Field(0.3, ge=1e-6, le=1e6, description="standard deviation of the noise in each voxel")
    momentum_gev: MomentumConfig = MomentumConfig()
    calorimeter: CalorimeterConfig = CalorimeterConfig()
    timeout_s: float = Field(
        60.0, gt=0, le=86400, description="a simulator that sends no message for this long counts as failed"
    )
    start_timeout_s: float = Field(
        60.0, gt=0, le=86400, description="maximum time from a simulator's start to its first answer"
    )
    retries: int = Field(3, ge=0, le=100, description="number of retries of a failed run, each in a new process")


class TracesConfig(Section):
    """Numbers of traces from the prior, numbers of jobs, and what is stored.

    `entries`, `observation` and `tags` apply to the training and validation traces; test traces are stored completely.
    """

    train: int = Field(100_000, ge=1, le=10**10, description="number of training traces")
    valid: int = Field(1_000, ge=1, le=10**9, description="number of validation traces")
    test: int = Field(100, ge=1, le=10**9, description="number of held-out traces; the observation is one of them")
    jobs: int = Field(2, ge=1, le=1000, description="number of jobs that generate the training traces")
    shard_traces: int = Field(5_000, ge=1, le=10**7, description="traces per sorted shard")
    entries: Literal["accepted", "all", "controlled"] = Field(
        "accepted", description="stored entries; all: with rejected repetitions; controlled: controlled entries only"
    )
    observation: Literal["expected", "noisy"] = Field(
        "expected", description="stored observations: without noise if the simulator provides it, or with noise"
    )
    tags: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(distinct)] | None = Field(
        None, description="names of the stored tags; null: all"
    )


class SortedConfig(Section):
    """Sorting the traces by type and length."""

    memory_mb: int = Field(2_000, ge=100, le=10**7, description="memory limit per rank")
    tasks: int = Field(2, ge=1, le=4096, description="number of MPI ranks; Snakemake on SLURM requires 2 or more")


class NetworkConfig(Section):
    """The CNN-LSTM (paper, section 4.3); the defaults are the paper's."""

    from_: str | None = Field(
        None,
        alias="from",
        pattern=r"^[\w./+@][\w./+@-]*$",
        description="folder of the trained network of another run, to use in place of training, so that the other keys "
        "of this section and those of training have no effect; null: train one",
    )
    embedding: str = Field(
        "paper",
        pattern=r"^(paper|strided|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="embedding of each observed image. paper: the 3DCNN of the paper, for images of three dimensions "
        "with at least 20 voxels in each, and strided for others; strided: strided, normalised convolutions for a "
        "small training budget and images of any size; or MODULE:CLASS of a torch module, for any observation",
    )
    conv_channels: tuple[Channels, ...] = Field(
        (64, 64, 128, 128, 128),
        min_length=1,
        max_length=16,
        description="channels of the convolutions; the embedding of the paper has five",
    )
    observation_embedding: int = Field(
        256, ge=1, le=65536, description="size of the embedding of each observation, and of all together"
    )
    lstm_hidden: int = Field(512, ge=1, le=65536, description="hidden units of the LSTM")
    lstm_layers: int = Field(1, ge=1, le=16, description="number of stacked LSTM layers")
    address_embedding: int = Field(64, ge=1, le=4096, description="size of the address embedding")
    sample_embedding: int = Field(4, ge=1, le=4096, description="size of the embedding of the previous value")
    value_frequencies: int = Field(
        0,
        ge=0,
        le=64,
        description="number of frequencies of which sines and cosines of the previous value enter its embedding; "
        "0: the value alone, as in the paper",
    )
    tags: dict[str, tuple[str, ...]] = Field(
        {},
        description="tags of the simulator that the network sees when it proposes draws: name of the tag -> names of "
        "the draws. The simulator must emit the tag before these draws; the paper has none",
    )
    mixture_components: int = Field(10, ge=1, le=1000, description="mixture components of a continuous proposal")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="data type of matrix products; auto: bfloat16 if the hardware supports it"
    )

    def architecture(self) -> dict[str, Any]:
        """Return the keys that describe a network, as JSON values: all except `from`."""
        return self.model_dump(mode="json", exclude={"from_"})

    @field_validator("conv_channels")
    @classmethod
    def _check_channel_count(cls, channels: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if info.data.get("embedding") == "paper" and len(channels) != 5:
            raise ValueError(f"expected a list of 5 for embedding: paper, found {len(channels)}")
        return channels


class TrainingConfig(Section):
    """The MPI training loop."""

    tasks: int = Field(2, ge=1, le=65536, description="number of MPI ranks; Snakemake on SLURM requires 2 or more")
    threads_per_task: int = Field(1, ge=1, le=1024, description="threads per rank")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="what the ranks train on. cuda: the GPUs of the node, which its ranks share; auto: cuda if PyTorch "
        "can use a GPU, else cpu",
    )
    batch_size: int = Field(32, ge=1, le=10**6, description="traces per rank and iteration")
    max_minutes: float | None = Field(
        None,
        gt=0,
        le=10**6,
        description="limit of the wall time of training, over all resumes; null: none, or 10 if max_traces is null too",
    )
    max_traces: int | None = Field(
        None,
        ge=1,
        le=10**13,
        description="limit of the number of traces; null: none; with both limits, the one reached first counts",
    )
    sampler: Literal["shuffled", "sorted_chunks", "buckets", "round_robin", "balanced"] = Field(
        "shuffled",
        description="traces of an iteration and of its ranks. shuffled: any traces; sorted_chunks: a minibatch has "
        "adjacent traces, mostly of one type; buckets: an iteration has traces of similar length; round_robin: as "
        "shuffled, dealt to the ranks by length; balanced: as shuffled, dealt by measured cost, so that the ranks "
        "finish together; batch_size is then a mean",
    )
    buckets: int = Field(10, ge=1, le=10**4, description="number of buckets of sampler: buckets")
    online_layers: Literal["growing", "frozen"] = Field(
        "growing",
        description="layers of an online training (etalumis network train --simulator). growing: addresses that occur "
        "for the first time become layers on all ranks; frozen: traces with such addresses are discarded and counted",
    )
    optimizer: Literal["adam", "adam_larc", "sgd", "sgd_larc"] = Field("adam", description="optimizer")
    prefetch: int = Field(2, ge=0, le=64, description="minibatches that each rank reads ahead in a thread; 0: none")
    gradient_sum: Literal["overlapped", "blocking"] = Field(
        "overlapped",
        description="when the ranks sum their gradients. overlapped: those of the LSTM and of the proposals while the "
        "backward pass of the observation embedding runs; blocking: after it; the sums are the same",
    )
    sum_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="type in which ranks send gradients to each other; bfloat16 halves the bytes, and they are still "
        "added in float32",
    )
    larc_trust: float = Field(
        0.02, gt=0, le=1, description="largest ratio of step to weight norm of a parameter, with adam_larc and sgd_larc"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd and sgd_larc")
    adam_betas: tuple[Beta, Beta] = Field(
        (0.9, 0.999), description="decay of the first and second moments of adam and adam_larc"
    )
    average_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay per iteration of an exponential average of the weights, which is validated and saved in "
        "place of the last weights, such as 0.999; null: none",
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="learning rate after warm-up")
    learning_rate_end: float = Field(1e-5, ge=0, le=10, description="learning rate at the end of a polynomial decay")
    schedule: Literal["none", "multistep", "polynomial1", "polynomial2"] = Field(
        "polynomial1", description="decay of the learning rate over the budget"
    )
    milestones: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], AfterValidator(increasing)] = Field(
        (0.5, 0.75),
        max_length=100,
        description="fractions of the budget at which schedule: multistep divides the learning rate by ten",
    )
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = Field(
        "none", description="multiply the learning rates by 1, the square root of the number of ranks, or this number"
    )
    warmup_iterations: int = Field(50, ge=0, le=10**7, description="iterations of linear warm-up of the learning rate")
    noise_start: float = Field(0.1, gt=0, le=1, description="factor of the observation noise at the start")
    noise_ramp_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="fraction of the budget over which noise_start rises to 1; 0: full noise throughout",
    )
    gradient_clip: float | None = Field(10.0, gt=0, description="maximum norm of the gradient; null: no clipping")
    valid_every: int = Field(50, ge=1, le=10**8, description="iterations between validations")
    patience: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="end the training after this number of validations without a smaller validation loss; null: never",
    )
    checkpoint_minutes: float = Field(2.0, gt=0, le=10**5, description="wall time between checkpoints")
    tensorboard: Literal["none", "scalars"] = Field(
        "none",
        description="scalars: also write the history for TensorBoard, to tensorboard/ in the folder of the network; "
        "needs `pip install 'etalumis[tensorboard]'`",
    )

    @model_validator(mode="before")
    @classmethod
    def _set_default_budget(cls, values: Any) -> Any:
        """Set the default budget, ten minutes, if none is given; a limit in traces alone has no limit in time."""
        if isinstance(values, dict) and values.get("max_minutes") is None and values.get("max_traces") is None:
            return {**values, "max_minutes": 10.0}
        return values


class ObservationConfig(Section):
    """The test decay whose latent variables are inferred."""

    trace: int = Field(0, ge=0, description="index of the trace in the test split")
    name: str | None = Field(
        None,
        min_length=1,
        description="observe statement to condition on, and the only one that the network sees; null: all statements "
        "of the simulator",
    )
    seed: int = Field(1, ge=0, lt=2**63, description="seed of the observation noise")


class ObservationsConfig(Section):
    """The test decays that the target `infer` infers, with the noise of `observation.seed`."""

    first: int = Field(0, ge=0, description="index of the first trace in the test split")
    count: int | None = Field(None, ge=1, description="number of traces; null: all from the first one on")
    engines: Annotated[tuple[Literal["ic", "smc", "importance"], ...], AfterValidator(distinct)] = Field(
        ("ic",),
        min_length=1,
        description="engines, with their settings in `posteriors`; the later ones are used for traces without a "
        "reliable result",
    )
    runs: int | None = Field(
        None, ge=1, le=10**9, description="simulator runs per trace (smc: first runs); null: as in `posteriors`"
    )
    probabilities: Annotated[tuple[str, ...], AfterValidator(distinct)] = Field(
        (), description="conditions whose posterior probabilities are reported, such as `P(channel in {1}) >= 0.9`"
    )


class FiguresConfig(Section):
    """The figures."""

    format: Annotated[tuple[Literal["png", "pdf", "svg"], ...], AfterValidator(distinct)] = Field(
        ("png", "pdf"), min_length=1, description="file formats; PNG is always written, for the report"
    )


class Config(Section):
    """A whole configuration, with one section per stage."""

    run: RunConfig = RunConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    traces: TracesConfig = TracesConfig()
    sorted: SortedConfig = SortedConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    observation: ObservationConfig = ObservationConfig()
    observations: ObservationsConfig = ObservationsConfig()
    posteriors: PosteriorsConfig = PosteriorsConfig()
    figures: FiguresConfig = FiguresConfig()
    experiments: ExperimentsConfig = ExperimentsConfig()

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        training = self.training
        if training.schedule.startswith("polynomial") and training.learning_rate < training.learning_rate_end:
            raise ValueError(
                f"training.learning_rate_end: expected at most training.learning_rate, {training.learning_rate:g}, "
                f"found {training.learning_rate_end:g}"
            )
        if self.observation.trace >= self.traces.test:
            raise ValueError(
                f"observation.trace: expected less than traces.test, {self.traces.test}, found {self.observation.trace}"
            )
        last = self.observations.first + (self.observations.count or 1) - 1
        if last >= self.traces.test:
            raise ValueError(
                f"observations: expected traces below traces.test, {self.traces.test}, found trace {last} (first and "
                "count)"
            )
        if self.traces.jobs > self.traces.train:
            raise ValueError(
                f"traces.jobs: expected at most traces.train, {self.traces.train}, found {self.traces.jobs}"
            )
        if self.traces.tags is not None and (missing := sorted(set(self.network.tags) - set(self.traces.tags))):
            raise ValueError(
                f"network.tags: the tags {missing} are not in traces.tags, {list(self.traces.tags)}, so training "
                "traces do not store them. Add them there, or set traces.tags to null."
            )
        for name, chain in (("rmh", self.posteriors.rmh), ("network_rmh", self.posteriors.network_rmh)):
            if (reason := chain.too_short()) is not None:
                raise ValueError(
                    f"posteriors.{name}.runs: {reason}. Raise runs or lower temperatures, burn_in_fraction or thin."
                )
        return self
