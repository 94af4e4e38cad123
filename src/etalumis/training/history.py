# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The record of a training: what Figure 7 draws, one row per validation."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from etalumis.errors import NetworkError
from etalumis.files import write_text_atomic
from etalumis.refusals import storage_errors


@dataclass(frozen=True)
class HistoryRow:
    """State of the training after an iteration. Losses are means over traces of -log q(x | y), in nats.

    Attributes
    ----------
    iteration, traces, epoch
        Iterations and traces (over all ranks) so far.
    elapsed_s
        Wall time of training so far, over all resumes.
    train_loss
        Mean over the traces since the row before (first row: of the first minibatch).
    valid_loss
        Mean over the validation set.
    prior_loss
        Mean over the validation set of -log p(x): the loss of proposing from the prior.
    learning_rate
        Of the last iteration.
    traces_per_s
        Since the row before, without validation.
    read_share, forward_share, backward_share, sync_share, update_share
        Shares of the time since the row before, on rank 0; sync includes waiting for other ranks.
    """

    iteration: int
    traces: int
    epoch: int
    elapsed_s: float
    train_loss: float
    valid_loss: float
    prior_loss: float
    learning_rate: float
    traces_per_s: float
    read_share: float
    forward_share: float
    backward_share: float
    sync_share: float
    update_share: float

    @classmethod
    def of(cls, values: dict[str, str]) -> Self:
        """Make a row from a record of texts."""
        numbers: dict[str, Any] = {f.name: (int if f.type is int else float)(values[f.name]) for f in fields(cls)}
        return cls(**numbers)


def write_history(path: Path, rows: list[HistoryRow]) -> None:
    """Write the history as CSV with a header, whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(HistoryRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text_atomic(path, text.getvalue())


def read_history(path: Path) -> list[HistoryRow]:
    """Read a history written by `write_history`.

    Raises
    ------
    NetworkError
        If the file is missing or has other columns.
    StorageError
        If the system refuses to read it.
    """
    try:
        with storage_errors(path, "read"), Path(path).open(newline="", encoding="utf-8") as file:
            return [HistoryRow.of(record) for record in csv.DictReader(file)]
    except FileNotFoundError:
        raise NetworkError(f"{path}: no such training history; `etalumis network train` writes it") from None
    except (KeyError, TypeError, ValueError) as error:
        raise NetworkError(
            f"{path}: not a training history ({error}); train again with `etalumis network train`"
        ) from None
