# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a user should know about how a training ended."""

import logging

from etalumis.config import TrainingConfig
from etalumis.training.schedule import out_of_patience
from etalumis.training.state import TrainingState

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
    if state.iteration < config.warmup_iterations:
        logger.warning(
            "the training ended after %s of training.warmup_iterations: %s, before the learning rate reached "
            "training.learning_rate: %g; lower warmup_iterations or raise the budget",
            f"{state.iteration:,}", f"{config.warmup_iterations:,}", config.learning_rate,
        )  # fmt: skip
