# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Section of the experiments behind the figures and tables of the paper."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from etalumis.config.section import Section, distinct

Layers = Annotated[int, Field(ge=1, le=16)]
Hidden = Annotated[int, Field(ge=1, le=65536)]
Components = Annotated[int, Field(ge=1, le=1000)]
Minibatch = Annotated[int, Field(ge=1, le=10**6)]
Rate = Annotated[float, Field(gt=0, le=10)]
Ranks = Annotated[int, Field(ge=1, le=4096)]


class ExperimentsConfig(Section):
    """The trainings behind figures 2 to 6 and table 2 of the paper (`make paper-figures`).

    They use the sections `network` and `training`, apart from the keys here. The defaults take less than an hour on two
    cores.
    """

    minibatch: int = Field(
        64, ge=1, le=10**6, description="figures 2 and 5, section 7.1.2: traces per iteration, on one rank"
    )
    noise_ramp_share: float = Field(
        0.9,
        ge=0.0,
        le=1.0,
        description="figures 2 and 5, sections 6.3 and 7.1.2: in place of training.noise_ramp_share, since trainings "
        "of so few traces learn little from observations with all of their noise",
    )
    lstm_layers: Annotated[tuple[Layers, ...], AfterValidator(distinct)] = Field(
        (1, 2, 3, 4), min_length=1, description="figure 2: numbers of stacked LSTM layers"
    )
    lstm_hidden: Annotated[tuple[Hidden, ...], AfterValidator(distinct)] = Field(
        (128, 256, 512), min_length=1, description="figure 2: hidden units of the LSTM"
    )
    mixture_components: Annotated[tuple[Components, ...], AfterValidator(distinct)] = Field(
        (5, 10, 25, 50), min_length=1, description="figure 2: mixture components"
    )
    grid_traces: int = Field(6_400, ge=1, le=10**13, description="figure 2: traces per training")
    minibatches: Annotated[tuple[Minibatch, ...], AfterValidator(distinct)] = Field(
        (32, 128, 512),
        min_length=1,
        description="section 6.3: traces per iteration, on one rank; the paper: 64 to 131,072",
    )
    learning_rates: Annotated[tuple[Rate, ...], AfterValidator(distinct)] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1),
        min_length=1,
        description="section 6.3: initial learning rates; the paper: 1e-7 to 0.1",
    )
    rate_traces: int = Field(12_800, ge=1, le=10**13, description="section 6.3: traces per training")
    optimizers: Annotated[tuple[Literal["adam", "adam_larc", "sgd", "sgd_larc"], ...], AfterValidator(distinct)] = (
        Field(("adam", "adam_larc"), min_length=1, description="section 7.1.2: optimizers")
    )
    schedules: Annotated[
        tuple[Literal["none", "multistep", "polynomial1", "polynomial2"], ...], AfterValidator(distinct)
    ] = Field(
        ("none", "multistep", "polynomial1", "polynomial2"),
        min_length=1,
        description="section 7.1.2: decay of the learning rate",
    )
    optimizer_traces: int = Field(25_600, ge=1, le=10**13, description="section 7.1.2: traces per training")
    seeds: int = Field(5, ge=2, le=1000, description="figure 5: number of trainings, each with its own seed")
    seed_traces: int = Field(38_400, ge=1, le=10**13, description="figure 5: traces per training")
    ranks: Annotated[tuple[Ranks, ...], AfterValidator(distinct)] = Field(
        (1, 2),
        min_length=1,
        description="figures 4 and 6, table 2: numbers of MPI ranks; more than the cores of a machine measure nothing",
    )
    rank_batch_size: int = Field(64, ge=1, le=10**6, description="figures 4 and 6, table 2: traces per rank, iteration")
    rank_iterations: int = Field(100, ge=10, le=10**8, description="figures 4 and 6: iterations per training")
    paper_iterations: int = Field(
        20, ge=2, le=10**8, description="table 2: iterations per training of the network of the paper"
    )
    network_latency_us: float = Field(
        2.0, ge=0, le=1e6, description="figure 6: latency of a message between the simulated nodes"
    )
    network_gb_per_s: float = Field(8.0, gt=0, le=1e6, description="figure 6: bandwidth of each simulated node")
