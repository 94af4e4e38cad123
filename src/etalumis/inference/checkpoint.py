# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints of an engine: the draws so far, and the state needed to resume, in one file."""

import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from etalumis.counting import counted
from etalumis.errors import DatasetError
from etalumis.files import digest
from etalumis.inference.posterior import Posterior
from etalumis.refusals import explaining_loss

logger = logging.getLogger(__name__)


STATE_VERSION = 2
"""Of the state of the engines; a checkpoint with another one is replaced."""


class Checkpoint:
    """An unfinished posterior, written at intervals and removed at the end.

    Parameters
    ----------
    path
        File of the draws so far. It is an ordinary posterior file, which can be read at any time.
    identity
        What the draws depend on (seed, observation, simulator, settings), as JSON values. A file of another identity is
        not resumed but replaced.
    interval_s
        Seconds between two writes; longer if a write takes more than a twentieth of it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], interval_s: float = 30.0) -> None:
        self.path, self._interval_s = Path(path), interval_s
        self._identity = digest({**identity, "state": STATE_VERSION})
        self._next = time.monotonic() + interval_s
        self._draws: int | None = None  # in the file; None if it has none of this identity

    def load(self) -> tuple[Posterior, dict[str, Any]] | None:
        """Return the draws so far and the state of the engine, or None if there is nothing to resume."""
        if not self.path.exists():
            return None
        try:
            posterior = Posterior.load(self.path)
        except DatasetError as error:
            logger.warning("starting from the beginning: %s", error)
            return None
        if posterior.info["identity"] != self._identity:
            logger.warning("starting from the beginning: %s was written with other settings", self.path)
            return None
        self._draws = len(posterior)
        logger.info("resuming with the %d draws in %s", self._draws, self.path)
        return posterior, posterior.info["state"]

    @property
    def due(self) -> bool:
        """Whether it is time for the next write."""
        return time.monotonic() >= self._next

    def save(self, posterior: Posterior, state: Mapping[str, Any]) -> None:
        """Write the draws so far and the state of the engine (JSON values).

        Raises
        ------
        StorageError
            If the file cannot be written; the message says what is lost, and the previous file is kept.
        """
        began = time.monotonic()
        posterior.info.update(identity=self._identity, state=dict(state))
        with self.explaining_loss(len(posterior)):
            posterior.save(self.path)
        self._draws = len(posterior)
        now = time.monotonic()
        self._next = now + max(self._interval_s, 20.0 * (now - began))

    def explaining_loss(self, draws: int) -> AbstractContextManager[None]:
        """Return a context that adds to a StorageError what is lost of `draws`, and how to continue."""
        return explaining_loss(lambda: self._loss(draws))

    def _loss(self, draws: int) -> str:
        if self._draws is None:
            return f"All runs so far are lost ({counted(draws, 'draw')}). The same command starts from the beginning."
        return (
            f"The runs since the last checkpoint are lost ({counted(draws - self._draws, 'draw')}). The same command "
            f"continues from the checkpoint ({counted(self._draws, 'draw')} in {self.path})."
        )

    def remove(self) -> None:
        """Remove the file, once the posterior itself is written."""
        self.path.unlink(missing_ok=True)
