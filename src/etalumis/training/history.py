# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The history of a training, one row per validation: the data of Figure 7."""

import csv
import io
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from etalumis.errors import NetworkError
from etalumis.files import write_text_atomic
from etalumis.refusals import storage_errors


@dataclass(frozen=True)
class HistoryRow:
    """State of a training after an iteration. Losses are means over traces of -log q(x | y), in nats.

    Attributes
    ----------
    iteration, traces, epoch
        Number of iterations and of traces (over all ranks) so far, and the current epoch.
    elapsed_s
        Wall time of training so far, over all resumes.
    train_loss
        Mean over the traces since the previous row (first row: over the first minibatch).
    valid_loss
        Mean over the validation set.
    prior_loss
        Mean over the validation set of -log p(x): the loss of proposing from the prior.
    learning_rate
        Learning rate of the last iteration.
    traces_per_s
        Traces per second since the previous row, without validation.
    read_share, forward_share, backward_share, sync_share, update_share
        Shares of the time since the previous row, means over the ranks; sync includes waiting for other ranks. See
        `phases` for every iteration and rank.
    addresses
        Number of addresses of the network, which grows in an online training. 0 in files of earlier versions.
    discarded
        Number of traces so far that an online training has discarded for an address without a layer.
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
    addresses: int = 0
    discarded: int = 0

    @classmethod
    def of(cls, values: dict[str, str]) -> Self:
        """Convert a record of strings to a row."""
        known = [f for f in fields(cls) if f.name in values or f.default is MISSING]
        numbers: dict[str, Any] = {f.name: (int if f.type is int else float)(values[f.name]) for f in known}
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
