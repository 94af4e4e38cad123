# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The loss history of a training, and whether the network has learned more than the prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.config import TrainingConfig
from etalumis.diagnostics.verdict import Verdict
from etalumis.network.checkpoint import MANIFEST, read_manifest
from etalumis.training.history import HistoryRow, read_history
from etalumis.training.schedule import has_noise_ramp, schedule_progress
from etalumis.typing import FloatArray

HISTORY = "history.csv"  # beside the network

MIN_GAIN_NATS = 0.1  # a smaller gain over the prior counts as none, even if it is significant
TAIL = 0.25  # share of the validations, at the end, whose scatter estimates the error of the last one


@dataclass(frozen=True)
class History:
    """Losses during training, in nats per trace.

    Attributes
    ----------
    iteration, traces_seen : array (record,)
    train_loss : array (record,)
        Mean over the traces since the previous record.
    valid_loss : array (record,)
        nan if no validation was run.
    prior_loss : float
        Mean of -log p of the controlled entries over the validation traces: the loss of the prior as proposal.
    learning_rate, traces_per_s : array (record,)
    named_gain : dict
        Name of an entry -> its prior's loss minus its own last validation loss, in nats.
    ramp_end : float
        Traces seen when the noise in training reached that of the model; nan without such a ramp, or if it is not
        known.
    seed : int or None
        The seed of the run; None if it is not known.
    processor : str
        Model of the processor or GPU of a rank; empty if it is not known.
    ranks : int
        Number of ranks; 0 if it is not known.
    """

    iteration: FloatArray
    traces_seen: FloatArray
    train_loss: FloatArray
    valid_loss: FloatArray
    prior_loss: float
    learning_rate: FloatArray
    traces_per_s: FloatArray
    named_gain: dict[str, float] = field(default_factory=dict)
    ramp_end: float = float("nan")
    seed: int | None = None
    processor: str = ""
    ranks: int = 0


def load(network: Path) -> History:
    """Read the training history from the folder of a network.

    Raises
    ------
    NetworkError
        If the file is missing or is not a training history.
    """
    rows = read_history(Path(network) / HISTORY)
    # during training the folder has a history, but no manifest yet
    finished = (Path(network) / MANIFEST).is_file()
    training = read_manifest(Path(network))["training"] if finished else {}
    named = training.get("valid_by_name", {})
    return History(
        iteration=np.array([row.iteration for row in rows], dtype=float),
        traces_seen=np.array([row.traces for row in rows], dtype=float),
        train_loss=np.array([row.train_loss for row in rows], dtype=float),
        valid_loss=np.array([row.valid_loss for row in rows], dtype=float),
        prior_loss=rows[-1].prior_loss if rows else float("nan"),
        learning_rate=np.array([row.learning_rate for row in rows], dtype=float),
        traces_per_s=np.array([row.traces_per_s for row in rows], dtype=float),
        named_gain={name: entry["prior_loss"] - entry["loss"] for name, entry in named.items()},
        ramp_end=_ramp_end(rows, training.get("hyperparameters", {})),
        seed=training.get("seed"),
        processor=training.get("processor", ""),
        ranks=training.get("world_size", 0),
    )


def _ramp_end(rows: Sequence[HistoryRow], hyperparameters: Mapping[str, Any]) -> float:
    """Return the number of traces seen at the end of the noise ramp; nan without one."""
    known = {name: value for name, value in hyperparameters.items() if name in TrainingConfig.model_fields}
    config = TrainingConfig().model_copy(update=known)
    if not known or len(rows) < 2 or not has_noise_ramp(config):
        return float("nan")
    shares = [schedule_progress(config, row.traces, row.elapsed_s) for row in rows]
    return float(np.interp(config.noise_ramp_share, shares, [row.traces for row in rows]))


def summarise(history: History) -> dict[str, float]:
    """Return iterations, traces seen, last losses and the prior loss; nan for what was not recorded."""
    known = history.valid_loss[np.isfinite(history.valid_loss)]
    nan = float("nan")
    return {
        "iterations": float(history.iteration[-1]) if history.iteration.size else 0.0,
        "traces_seen": float(history.traces_seen[-1]) if history.traces_seen.size else 0.0,
        "train_loss": float(history.train_loss[-1]) if history.train_loss.size else nan,
        "valid_loss": float(known[-1]) if known.size else nan,
        "prior_loss": history.prior_loss,
    }


def judge(history: History) -> Verdict:
    """Check whether the validation loss ended clearly below that of the prior, and whether it was still falling.

    "Clearly" is more than 0.1 nat and more than three times the scatter of the last quarter of the validations. If
    entries have names, these must have gained 0.1 nat together: the accepted draws of rejection loops differ from
    their prior whatever was observed, so a network that ignores the observation still falls below the prior.
    """
    known = history.valid_loss[~np.isnan(history.valid_loss)]
    if not known.size:
        return _verdict(False, "No validation loss was recorded.")
    if not np.isfinite([known[-1], history.prior_loss]).all():
        numbers = f"the validation loss ended at {known[-1]:.3f} nats, that of the prior is {history.prior_loss:.3f}"
        return _verdict(False, f"The training diverged or is not comparable with the prior: {numbers}.")
    tail = known[-max(2, round(TAIL * known.size)) :]
    scatter = float(np.std(np.diff(tail)) / np.sqrt(2)) if tail.size > 2 else 0.0
    gain = history.prior_loss - float(known[-1])
    numbers = (
        f"the validation loss ended at {known[-1]:.3f} nats, {abs(gain):.3f} {'below' if gain >= 0 else 'above'} the "
        f"prior's {history.prior_loss:.3f} (scatter {scatter:.3f})"
    )
    if gain <= max(MIN_GAIN_NATS, 3 * scatter):
        return _verdict(False, f"The network has not learned more than the prior: {numbers}.")
    if history.named_gain:
        named = ", ".join(f"{name} {gained:.2f}" for name, gained in history.named_gain.items())
        numbers += f"; gain of the named latents over their priors (nats): {named}"
        if sum(history.named_gain.values()) <= MIN_GAIN_NATS:
            return _verdict(False, f"The network does not use the observation: {numbers}.")
    falling = tail.size > 2 and float(tail[0] - tail[-1]) > max(3 * scatter, 0.02 * gain)
    more = " It was still falling: longer training would help." if falling else ""
    return _verdict(True, f"The network has learned: {numbers}.{more}")


def _verdict(passed: bool, sentence: str) -> Verdict:
    return Verdict("training", "network", passed, sentence)
