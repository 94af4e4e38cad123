# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The state of a training apart from its tensors, and checkpoints on disk."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from etalumis.config import TrainingConfig
from etalumis.counting import counted
from etalumis.errors import NetworkError
from etalumis.layers import LayerTable
from etalumis.network import checkpoint
from etalumis.network.model import ProposalNetwork
from etalumis.refusals import explaining_loss
from etalumis.training.average import WeightAverage
from etalumis.training.costs import StepCosts
from etalumis.training.history import HistoryRow
from etalumis.training.optimizer import Optimizer
from etalumis.training.sampler import Position
from etalumis.training.schedule import budget_spent

logger = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """Progress of a training.

    Attributes
    ----------
    iteration, traces
        Number of iterations and of traces so far, over all ranks.
    position
        Position of the next minibatch.
    elapsed_s
        Wall time of training on rank 0, over all resumes.
    loss_sum, loss_traces
        Sum of the training loss and number of traces since the last row of the history.
    history
        One row per validation.
    discarded
        Number of traces so far that an online training has discarded.
    costs
        With the sampler "balanced", what a minibatch costs, once that is known.
    """

    iteration: int = 0
    traces: int = 0
    position: Position = field(default_factory=Position)
    elapsed_s: float = 0.0
    loss_sum: float = 0.0
    loss_traces: int = 0
    history: list[HistoryRow] = field(default_factory=list)
    costs: StepCosts | None = None
    discarded: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the state as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the state from the output of `to_json`."""
        rows = [HistoryRow(**row) for row in values["history"]]
        costs = values.get("costs") and StepCosts(**values["costs"])
        return cls(**{**values, "position": Position(**values["position"]), "history": rows, "costs": costs})


def save_state(
    directory: Path,
    network: ProposalNetwork,
    optimizer: Optimizer,
    state: TrainingState,
    identity: str,
    average: WeightAverage | None = None,
) -> None:
    """Write a checkpoint from which a training of the same `identity` can resume; raise StorageError if it fails."""
    record = {"identity": identity, "finished": False, "state": state.to_json()}
    moments = optimizer.state() | (average.state() if average is not None else {})
    checkpoint.save(directory, network, record, moments)


def losing(directory: Path, iteration: int, saved_iteration: int) -> AbstractContextManager[None]:
    """Add to a StorageError of the block what is lost since the last checkpoint, that of `saved_iteration`."""
    return explaining_loss(lambda: _loss_message(directory, iteration, saved_iteration))


def _loss_message(directory: Path, iteration: int, saved_iteration: int) -> str:
    lost = counted(iteration - saved_iteration, "iteration")
    if not saved_iteration:
        return f"The training so far is lost ({lost}). The same command starts from the beginning."
    return (
        f"The training since the last checkpoint is lost ({lost}). The same command continues from iteration "
        f"{saved_iteration:,} in {directory}."
    )


def mark_finished(directory: Path) -> None:
    """Mark a checkpoint as that of a finished network: only a larger budget resumes it."""
    checkpoint.update_training(directory, {"finished": True})


def load_state(
    directory: Path,
    network: ProposalNetwork,
    optimizer: Optimizer,
    identity: str,
    budget: TrainingConfig,
    average: WeightAverage | None = None,
    grow: Callable[[LayerTable], None] | None = None,
) -> TrainingState | None:
    """Load a checkpoint of the same `identity` into network and optimizer, and return its state.

    Return None if training must start from the beginning: no checkpoint exists, it has another identity (other data,
    architecture or hyperparameters), or its training is finished and has spent `budget`. A damaged checkpoint is an
    error, since starting from the beginning would silently discard hours of training. `grow` is called with the layers
    of the checkpoint if they extend those of the network, which an online training has done.
    """
    if not checkpoint.exists(directory):
        return None
    recorded = checkpoint.read_manifest(directory)["training"]
    if recorded.get("identity") != identity:
        logger.info("%s: written with other data or settings; training starts from the beginning", directory)
        return None
    state = TrainingState.from_json(recorded["state"])
    if recorded.get("finished") and budget_spent(budget, state.traces, state.elapsed_s) >= 1.0:
        logger.info(
            "%s: a finished training of %d traces, which has spent this budget; training starts from the beginning "
            "(a larger training.max_traces or training.max_minutes would extend it)",
            directory, state.traces,
        )  # fmt: skip
        return None
    saved, _, tensors = checkpoint.load_training(directory)
    if grow is not None and saved.layers.extends(network.layers):
        grow(saved.layers)
    _require_same_layers(directory, saved, network)
    network.load_state_dict(saved.state_dict())
    moments: dict[str, dict[str, Tensor]] = tensors
    optimizer.restore(moments)
    if average is not None:
        average.restore(moments)
    return state


def _require_same_layers(directory: Path, saved: ProposalNetwork, network: ProposalNetwork) -> None:
    try:
        checkpoint.require_fits(saved, network.layers)
    except NetworkError as error:
        raise NetworkError(f"{directory}: {error}; remove the folder to start from the beginning") from None
