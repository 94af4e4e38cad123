# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Steps of a training by one rank alone, without the loop around them: for measurements of their time."""

import math
from pathlib import Path

from mpi4py import MPI

from etalumis.config import TrainingConfig
from etalumis.network.minibatch_plan import MinibatchPlan
from etalumis.network.model import ProposalNetwork
from etalumis.training.gradients import MinibatchGradients
from etalumis.training.optimizer import Optimizer, clip
from etalumis.training.phase_timer import PhaseTimer
from etalumis.training.synchronize import Synchronizer
from etalumis.typing import Array


class SingleRankSteps:
    """Makes the steps of `Trainer`, at the learning rate of the configuration; they change the network.

    Parameters
    ----------
    network
        The network, on the device of the steps.
    config
        Optimizer, clipping and learning rate.
    """

    def __init__(self, network: ProposalNetwork, config: TrainingConfig) -> None:
        tables = dict(network.tables.items())
        self._optimizer = Optimizer(
            config.optimizer, network.dense(), tables, config.momentum, config.adam_betas, config.larc_trust
        )
        self._ranks = Synchronizer(MPI.COMM_SELF, network.grouping, tables)
        self._gradients = MinibatchGradients(network, self._ranks, config.sum_dtype, overlap=False)
        self._timer = PhaseTimer(MPI.COMM_SELF, Path(), 0, network.device)  # never written
        self._max_norm = math.inf if config.gradient_clip is None else config.gradient_clip
        self._rate = config.learning_rate

    def step(self, plan: MinibatchPlan, observation: Array) -> None:
        """Make a step on a minibatch with its observations (trace, ...); it has ended when this returns."""
        present = self._ranks.present(plan.touched)
        self._gradients.compute(plan, observation, present, 1.0 / len(plan.tags), self._timer)
        dense, rows = self._gradients.summed(self._timer)
        clip([*dense.values(), *(row.value for row in rows.values())], self._max_norm)
        self._optimizer.step(dense, rows, self._rate)
        self._timer.lap("update")
