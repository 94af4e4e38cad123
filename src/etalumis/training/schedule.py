# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Learning rate, noise and budget as functions of the progress of a training, so that it can be resumed."""

from collections.abc import Sequence

from etalumis.config import TrainingConfig

_SCALING = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
"""Powers of the number of ranks."""


def out_of_patience(config: TrainingConfig, valid_losses: Sequence[float]) -> bool:
    """Return whether the last `patience` validations were no better than the best one before them."""
    if config.patience is None or len(valid_losses) <= config.patience:
        return False
    return min(valid_losses[-config.patience :]) >= min(valid_losses[: -config.patience])


def budget_spent(config: TrainingConfig, traces: int, elapsed_s: float) -> float:
    """Return the spent fraction of the budget: of traces, of time, or the larger one if both are limited."""
    of_traces = 0.0 if config.max_traces is None else traces / config.max_traces
    of_time = 0.0 if config.max_minutes is None else elapsed_s / (60.0 * config.max_minutes)
    return max(of_traces, of_time)


def schedule_progress(config: TrainingConfig, traces: int, elapsed_s: float) -> float:
    """Return the fraction of the budget on which learning rate and noise depend.

    If the number of traces is limited, it depends on that alone: the network then does not depend on the speed of the
    machine.
    """
    return (
        budget_spent(config, traces, elapsed_s) if config.max_traces is None else min(traces / config.max_traces, 1.0)
    )


def has_noise_ramp(config: TrainingConfig) -> bool:
    """Return whether training starts with less noise than the model has."""
    return config.noise_ramp_share > 0.0 and config.noise_start < 1.0


def noise_scale(config: TrainingConfig, share: float) -> float:
    """Return the factor of the observation noise in training when the fraction `share` of the budget is spent.

    It rises linearly from `noise_start` to 1 over the first `noise_ramp_share` of the budget. Images with little noise
    show where the showers are, so the network leaves the plateau at the prior several times sooner. The rest of the
    training, and all validations, use the noise of the model.
    """
    if share >= config.noise_ramp_share:
        return 1.0
    return config.noise_start + (1.0 - config.noise_start) * max(share, 0.0) / config.noise_ramp_share


def learning_rate(config: TrainingConfig, iteration: int, share: float, ranks: int = 1) -> float:
    """Return the learning rate of an iteration (SC'19, sections 6.3 and 7.1.2).

    Parameters
    ----------
    config
        Training settings. `schedule` is none, multistep (times 0.1 at each of `milestones`), or polynomial decay of
        order 1 or 2 from `learning_rate` to `learning_rate_end`.
    iteration
        Number of the iteration, from 0. The rate rises linearly over the first `warmup_iterations`.
    share
        Spent fraction of the budget, in [0, 1].
    ranks
        Number of ranks, with which `learning_rate_scaling` raises all rates: the global minibatch grows with it.
    """
    top, end, share = config.learning_rate, config.learning_rate_end, min(max(share, 0.0), 1.0)
    match config.schedule:
        case "none":
            rate = top
        case "multistep":
            rate = top * 0.1 ** sum(share >= milestone for milestone in config.milestones)
        case "polynomial1":
            rate = end + (top - end) * (1.0 - share)
        case "polynomial2":
            rate = end + (top - end) * (1.0 - share) ** 2
    warm = min(1.0, (iteration + 1) / config.warmup_iterations) if config.warmup_iterations else 1.0
    return float(rate * warm * ranks ** _SCALING[config.learning_rate_scaling])
