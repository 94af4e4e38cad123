# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where a training stands: everything a resumed run needs besides tensors, and its checkpoint on disk."""

import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from etalumis.errors import NetworkError
from etalumis.network import checkpoint
from etalumis.network.model import ProposalNetwork
from etalumis.training.history import HistoryRow
from etalumis.training.optimizer import Optimizer
from etalumis.training.sampler import Position

logger = logging.getLogger(__name__)

PHASES = ("read", "forward", "backward", "sync", "update")


@dataclass
class TrainingState:
    """Progress of a training.

    Attributes
    ----------
    iteration, traces
        Done so far, over all ranks.
    position
        Of the next minibatch.
    elapsed_s
        Wall time of training, over all resumes, as rank 0 counts it.
    loss_sum, loss_traces
        Training loss since the last row of the history.
    history
        One row a validation.
    """

    iteration: int = 0
    traces: int = 0
    position: Position = field(default_factory=Position)
    elapsed_s: float = 0.0
    loss_sum: float = 0.0
    loss_traces: int = 0
    history: list[HistoryRow] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Take a state out of `to_json`."""
        rows = [HistoryRow(**row) for row in values["history"]]
        return cls(**{**values, "position": Position(**values["position"]), "history": rows})


def save_state(
    directory: Path, network: ProposalNetwork, optimizer: Optimizer, state: TrainingState, identity: str
) -> None:
    """Write a checkpoint from which a run of the same `identity` resumes."""
    record = {"identity": identity, "state": state.to_json()}
    checkpoint.save(directory, network, record, optimizer.state())


def load_state(directory: Path, network: ProposalNetwork, optimizer: Optimizer, identity: str) -> TrainingState | None:
    """Take over a checkpoint where there is one of the same `identity`; tensors go into network and optimizer.

    A checkpoint of another identity (other data, architecture or hyperparameters) is left alone and training starts
    afresh; a damaged one is an error, since starting afresh would silently lose hours.
    """
    if not (directory / "tensors.pt").exists():
        return None
    recorded = checkpoint.read_manifest(directory)["training"]
    if recorded.get("identity") != identity:
        logger.info("%s: made with other data or settings; training starts afresh", directory)
        return None
    saved, record, tensors = checkpoint.load_training(directory)
    _require_same_start(directory, saved, network)
    network.load_state_dict(saved.state_dict())
    moments: dict[str, dict[str, Tensor]] = tensors
    optimizer.restore(moments)
    return TrainingState.from_json(record["state"])


def remove_state(directory: Path) -> None:
    """Remove a checkpoint: the next training starts afresh."""
    # the tensors first: a folder without them is no checkpoint, so a crash in between leaves none that is damaged
    (directory / "tensors.pt").unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _require_same_start(directory: Path, saved: ProposalNetwork, network: ProposalNetwork) -> None:
    try:
        checkpoint.require_fits(saved, network.layers)
    except NetworkError as error:
        raise NetworkError(f"{directory}: {error}; remove the folder to start afresh") from None
