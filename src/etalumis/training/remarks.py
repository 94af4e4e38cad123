# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a user should know about a training: its progress, and how it ended."""

import logging
import math

from etalumis.config import TrainingConfig
from etalumis.counting import counted
from etalumis.network.model import ProposalNetwork
from etalumis.progress import duration
from etalumis.training.device import processor_of
from etalumis.training.evaluate import Evaluation
from etalumis.training.phase_timer import PhaseTimer
from etalumis.training.schedule import budget_spent, out_of_patience
from etalumis.training.state import TrainingState
from etalumis.typing import Array

logger = logging.getLogger(__name__)


def has_converged(config: TrainingConfig, state: TrainingState) -> bool:
    """Return whether the validation loss has not fallen for `patience` validations."""
    return out_of_patience(config, [row.valid_loss for row in state.history])


def log_end(config: TrainingConfig, state: TrainingState) -> None:
    """Log what ended a training before its traces, and a warm-up that it did not reach the end of."""
    limit = config.max_traces
    if has_converged(config, state):
        logger.info("ended by training.patience: %d validations without a smaller loss", config.patience)
    elif limit is not None and state.traces < limit:
        logger.warning(
            "ended by training.max_minutes: %g after %s of training.max_traces: %s; "
            "set max_minutes to a larger value or to null to extend the training",
            config.max_minutes, f"{state.traces:,}", f"{limit:,}",
        )  # fmt: skip
    if state.discarded:
        logger.warning(
            "%s of %s were discarded, since they have addresses without a layer; with training.online_layers: growing, "
            "these would become layers",
            counted(state.discarded, "trace"), f"{state.traces:,}",
        )  # fmt: skip
    if state.iteration < config.warmup_iterations:
        logger.warning(
            "the training ended after %s of training.warmup_iterations: %s, before the learning rate reached "
            "training.learning_rate: %g; lower warmup_iterations or raise the budget",
            f"{state.iteration:,}", f"{config.warmup_iterations:,}", config.learning_rate,
        )  # fmt: skip


def progress_fields(
    config: TrainingConfig, state: TrainingState, rate: float, noise: float, by_rank: Array, timer: PhaseTimer
) -> dict[str, object]:
    """Return what a line of the log shows.

    Parameters
    ----------
    config, state
        Settings and state of the training.
    rate, noise
        Learning rate of the last iteration, and factor of the noise.
    by_rank
        (rank, 2). Loss and traces since the last row of the history.
    timer
        Phases of this rank.
    """
    last = state.history[-1]
    share = budget_spent(config, state.traces, state.elapsed_s)
    left_s = state.elapsed_s * (1.0 - share) / share if share > 0 else math.nan
    loss = state.loss_sum / state.loss_traces if state.loss_traces else last.train_loss
    losses = [a / b for a, b in by_rank.tolist() if b]
    return {
        "iteration": state.iteration,
        "loss": f"{loss:.2f}",
        **({"largest": f"{max(losses):.2f}"} if losses else {}),
        "valid": f"{last.valid_loss:.2f}",
        "prior": f"{last.prior_loss:.2f}",
        "rate": f"{rate:.1e}",
        "noise": f"{noise:.2f}",
        **({"discarded": state.discarded} if state.discarded else {}),
        "data_wait": f"{100 * timer.interval_share('read'):.0f}%",
        "rank_wait": f"{100 * timer.interval_share('sync_wait'):.0f}%",
        "left": duration(left_s),
    }


def finished_record(
    config: TrainingConfig, state: TrainingState, evaluation: Evaluation, network: ProposalNetwork, ranks: int
) -> dict[str, object]:
    """Return the record of a finished training for the manifest of its network."""
    return {
        "iterations": state.iteration,
        "traces": state.traces,
        "discarded": state.discarded,
        "epochs": state.position.epoch,
        "elapsed_s": round(state.elapsed_s, 3),
        "world_size": ranks,
        "arithmetic": str(network.dtype).removeprefix("torch."),
        "device": network.device.type,
        "processor": processor_of(network.device),
        "hyperparameters": config.model_dump(mode="json"),
        "valid_loss": evaluation.mean_loss,
        "prior_loss": evaluation.mean_prior_loss,
        "valid_by_name": evaluation.by_name(network.layers),
    }
